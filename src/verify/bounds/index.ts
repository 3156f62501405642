export { type BoundCall, type ErrorBound, errorAt, type RoundingBound } from "./bound.js";
export { type LayerGroup, layerGroups, mistakable, neededBy } from "./groups.js";
export { isRounding, type LocalError, localError } from "./local-error.js";
export { type Recomputed, type Recomputer, recomputer } from "./recompute.js";
export { ARITHMETIC, type Arithmetic, foldedNarrow } from "./rounding.js";
