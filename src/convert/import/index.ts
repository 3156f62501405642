export { withoutBranches } from "./branches.js";
export type { Difference } from "./differences.js";
export type { Constants, Preprocess, Reading, Roundings } from "./foreign.js";
export { towardsNchw } from "./layouts.js";
export { type GraphMatch, type MatchOptions, matchGraph } from "./match.js";
export { imageShape } from "./normalise.js";
export type { MatchedOutput, OutputOperation } from "./outputs.js";
export {
  describePreprocess,
  type ImageInput,
  imageInput,
  inputDifferences,
  pixelOrder,
} from "./preprocess.js";
export { type LiftedStateDict, liftStateDict } from "./state-dict.js";
