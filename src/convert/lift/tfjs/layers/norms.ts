import { float, int } from "../../../formats/onnx/index.js";
import type { JsonObject } from "../../../formats/tfjs/index.js";
import { addBatchNorm } from "../batch-norm.js";
import { add, addConstant, type Draft, domainOf } from "../draft.js";
import { type LayerTranslation, list } from "./site.js";

export const batchNorm: LayerTranslation = ({ draft, layer, config, inputs: [x = ""], output }) => {
  const [axis = -1] = list(config.axis);
  const mean = `${layer}/moving_mean`;
  if (!draft.constants.has(mean)) return undefined;
  const inputs = [
    x,
    optional(draft, `${layer}/gamma`, mean, 1),
    optional(draft, `${layer}/beta`, mean, 0),
    mean,
    `${layer}/moving_variance`,
  ];
  return addBatchNorm(draft, { inputs, epsilon: epsilonOf(config) }, output, axis === 1);
};

/** Over an image's pixels without weights it is an instance norm; over its channels, a layer norm. */
export const layerNorm: LayerTranslation = ({ draft, layer, config, inputs: [x = ""], output }) => {
  const axes = list(config.axis).join();
  const epsilon = float(epsilonOf(config));
  const [gamma, beta] = [`${layer}/gamma`, `${layer}/beta`];
  const [isScaled, isMoved] = [draft.constants.has(gamma), draft.constants.has(beta)];
  if (axes === "1,2" && !isScaled && !isMoved)
    return add(draft, "InstanceNormalization", [x], output, { epsilon }, domainOf(false));
  if ((axes !== "-1" && axes !== "3") || !isScaled) return undefined;
  const inputs = [x, gamma, ...(isMoved ? [beta] : [])];
  return add(draft, "LayerNormalization", inputs, output, { epsilon, axis: int(-1) }, domainOf(false));
};

/** Keras's ε, where a file leaves it out. */
const DEFAULT_EPSILON = 1e-3;

function epsilonOf({ epsilon }: JsonObject): number {
  return typeof epsilon === "number" ? epsilon : DEFAULT_EPSILON;
}

/** A weight that the layer may be configured to do without, with what stands for it then. */
function optional(draft: Draft, name: string, like: string, value: number): string {
  if (draft.constants.has(name)) return name;
  const size = draft.constants.get(like)?.data.length ?? 0;
  return addConstant(draft, `${name}#absent`, {
    dtype: "float32",
    shape: [size],
    data: new Float32Array(size).fill(value),
  });
}
