export { matchTfjs, type TfjsMatch, translateTfjs } from "./match.js";
