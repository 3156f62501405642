export type { Difference } from "./differences.js";
export type { Constants } from "./foreign.js";
export { type MatchedOutput, type MatchOptions, matchOnnx, type OnnxMatch } from "./match.js";
export { type LiftedStateDict, liftStateDict } from "./state-dict.js";
