export {
  ARITHMETIC,
  type Arithmetic,
  type BoundCall,
  type ErrorBound,
  errorAt,
  foldedNarrow,
  type RoundingBound,
} from "./bound.js";
export { isOverflow, isRounding, type LocalError, localError } from "./local-error.js";
export {
  type LayerGroup,
  layerGroups,
  mistakable,
  neededBy,
  type Recomputed,
  type Recomputer,
  recomputer,
} from "./recompute.js";
export { type Place, windowAt } from "./terms.js";
