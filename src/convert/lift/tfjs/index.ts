export { matchTfjs, type TfjsMatch, translateTfjs } from "./match.js";
export { layerClasses } from "./topology.js";
