export type { BoundCall, ErrorBound, RoundingBound } from "./bound.js";
export { type LayerGroup, layerGroups } from "./groups.js";
export { type LocalError, localError } from "./local-error.js";
export { type Recomputed, type Recomputer, recomputer } from "./recompute.js";
export { ARITHMETIC, type Arithmetic } from "./rounding.js";
