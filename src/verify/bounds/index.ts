export {
  type Arithmetic,
  arithmeticOf,
  type BoundCall,
  type ErrorBound,
  errorAt,
  foldedNarrow,
  type RoundingBound,
} from "./bound.js";
export { isOverflow, isRounding, type LocalError, localError } from "./local-error.js";
export { FLOAT32_CPU, FLOAT32_GPU, type Numerics } from "./numerics.js";
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
