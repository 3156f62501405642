import { add, addConstant, type Draft } from "../draft.js";
import { type LayerTranslation, list } from "./site.js";

/** What takes each element by itself. */

const ACTIVATIONS: Readonly<Record<string, string>> = {
  linear: "Identity",
  relu: "Relu",
  sigmoid: "Sigmoid",
  softmax: "Softmax",
  softsign: "Softsign",
  tanh: "Tanh",
};

/** An activation by Keras's name for it; one that is not known keeps that, in a domain of which no operator is known. */
export function activate(
  draft: Draft,
  activation: string,
  x: string,
  output: string,
  domain: string,
): string {
  const known = Object.hasOwn(ACTIVATIONS, activation) ? ACTIVATIONS[activation] : undefined;
  return add(draft, known ?? activation, [x], output, {}, known ? "" : domain);
}

export const relu: LayerTranslation = ({ draft, config, inputs: [x = ""], output }) => {
  const isPlain = [config.max_value, config.negative_slope, config.threshold].every((value) => !value);
  return isPlain ? add(draft, "Relu", [x], output) : undefined;
};

/** x · scale + offset, each a number or one per channel. */
export const rescaling: LayerTranslation = ({ draft, config, inputs: [x = ""], output }) => {
  const { scale = 1, offset = 0 } = config;
  const constant = (name: string, values: readonly number[]): string =>
    addConstant(draft, `${output}#${name}`, {
      dtype: "float32",
      shape: values.length === 1 ? [] : [values.length],
      data: Float32Array.from(values),
    });
  const scaled = (name: string): string => add(draft, "Mul", [x, constant("scale", list(scale))], name);
  if (list(offset).every((value) => value === 0)) return scaled(output);
  return add(draft, "Add", [scaled(`${output}#scaled`), constant("offset", list(offset))], output);
};
