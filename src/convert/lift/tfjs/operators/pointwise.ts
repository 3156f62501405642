import { addBatchNorm, batchNormOf } from "../batch-norm.js";
import { add } from "../draft.js";
import type { NodeTranslation } from "./site.js";

/** What takes each element by itself. */

/** A sum; or a batch norm written in parts, whose parameters are still there. */
export const sum: NodeTranslation = ({ draft, inputs, output }) => {
  const [a = "", b = ""] = inputs;
  const norm = batchNormOf(draft, a, b);
  return norm ? addBatchNorm(draft, norm, output, false) : add(draft, "Add", inputs, output);
};

/** x·x. */
export const square: NodeTranslation = ({ draft, inputs: [x = ""], output }) =>
  add(draft, "Mul", [x, x], output);

/** (x − y)². */
export const squaredDifference: NodeTranslation = ({ draft, inputs, output }) => {
  const difference = add(draft, "Sub", inputs, `${output}#difference`);
  return add(draft, "Mul", [difference, difference], output);
};

/** 1 / √x. */
export const inverseRoot: NodeTranslation = ({ draft, inputs, output }) =>
  add(draft, "Reciprocal", [add(draft, "Sqrt", inputs, `${output}#root`)], output);
