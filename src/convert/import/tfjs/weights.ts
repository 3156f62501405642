import { float, type OnnxAttributeRecord } from "../../formats/onnx/index.js";
import type { JsonObject, LayerCall, StoredTensor, TfjsLayersModel } from "../../formats/tfjs/index.js";
import { add, constantBehind, type Draft, domainOf, numbersOf } from "./draft.js";

/** A batch norm, with the names of its input and its constants in ONNX's order. */
export interface BatchNorm {
  readonly inputs: readonly string[];
  readonly epsilon: number;
}

export function addBatchNorm(
  draft: Draft,
  { inputs, epsilon }: BatchNorm,
  output: string,
  channelsFirst: boolean,
  attributes: OnnxAttributeRecord = {},
): string {
  const all = { epsilon: float(epsilon), ...attributes };
  return add(draft, "BatchNormalization", inputs, output, all, domainOf(channelsFirst));
}

/**
 * (x − μ)·s + β or x·s + (β − μ·s), s = γ / √(σ² + ε) of constants, as a graph has it that nobody has computed beforehand:
 * then the four parameters are there, and not only what becomes of them.
 */
export function batchNormOf(draft: Draft, a: string, b: string): BatchNorm | undefined {
  return writtenBatchNorm(draft, a, b) ?? writtenBatchNorm(draft, b, a);
}

function writtenBatchNorm(draft: Draft, product: string, shift: string): BatchNorm | undefined {
  for (const [value, factor] of pairsOf(draft, product, "Mul")) {
    const scale = scaleOf(draft, factor);
    if (!scale) continue;
    const { weight, variance, epsilon } = scale;
    const [x, mean] = operands(draft, value, "Sub");
    if (x && isVector(draft, mean) && isVector(draft, shift))
      return { inputs: [x, weight, shift, mean, variance], epsilon };
    const [offset, moved] = operands(draft, shift, "Sub");
    const [by] =
      moved === undefined ? [] : pairsOf(draft, moved, "Mul").filter(([, other]) => other === factor);
    if (isVector(draft, offset) && by && isVector(draft, by[0]))
      return { inputs: [value, weight, offset, by[0], variance], epsilon };
  }
  return undefined;
}

/** γ · (1 / √(σ² + ε)). */
function scaleOf(
  draft: Draft,
  name: string,
): { readonly weight: string; readonly variance: string; readonly epsilon: number } | undefined {
  for (const [inverse, weight] of pairsOf(draft, name, "Mul")) {
    const [root] = operands(draft, inverse, "Reciprocal");
    const [sum] = root === undefined ? [] : operands(draft, root, "Sqrt");
    for (const [variance, stabilizer] of sum === undefined ? [] : pairsOf(draft, sum, "Add")) {
      const [epsilon, ...others] = numbersOf(draft, stabilizer) ?? [];
      if (epsilon === undefined || others.length > 0) continue;
      if (isVector(draft, weight) && isVector(draft, variance)) return { weight, variance, epsilon };
    }
  }
  return undefined;
}

/** The operands of an operator of two, either way round; of none, if the value is another's. */
function pairsOf(draft: Draft, name: string, opType: string): readonly (readonly [string, string])[] {
  const [a, b] = operands(draft, name, opType);
  if (a === undefined || b === undefined) return [];
  return [
    [a, b],
    [b, a],
  ];
}

function operands({ writers }: Draft, name: string, opType: string): readonly string[] {
  const writer = writers.get(name);
  return writer?.opType === opType ? writer.inputs : [];
}

function isVector(draft: Draft, name: string | undefined): name is string {
  return name !== undefined && constantBehind(draft, name)?.shape.length === 1;
}

/** The weights of a layers model by layer and role: `conv1/kernel`. */
export function layerWeights(
  { weights }: TfjsLayersModel,
  calls: readonly LayerCall[],
): ReadonlyMap<string, StoredTensor> {
  const places = placesOfKeras3(calls);
  const named = new Map<string, StoredTensor>();
  for (const [name, { tensor, stored }] of weights)
    named.set(places.get(name) ?? name, stored ? { ...tensor, stored } : tensor);
  // tfjs looks a weight up without the scope before its own name too: `conv1/conv1/kernel` is `conv1/kernel`.
  for (const [name, tensor] of [...named]) {
    const short = name.replace(/\/[^/]+(?=\/[^/]+$)/, "");
    if (!named.has(short)) named.set(short, tensor);
  }
  return named;
}

/** The weights of Keras's layers in the order in which it keeps them; it leaves out those that a layer goes without. */
const ROLES: Readonly<Record<string, (config: JsonObject) => readonly string[]>> = {
  BatchNormalization: (config) => [...affine(config), "moving_mean", "moving_variance"],
  Conv2D: () => ["kernel", "bias"],
  Dense: () => ["kernel", "bias"],
  DepthwiseConv2D: () => ["kernel", "bias"],
  LayerNormalization: affine,
};

function affine({ scale, center }: JsonObject): readonly string[] {
  return [...(scale === false ? [] : ["gamma"]), ...(center === false ? [] : ["beta"])];
}

/**
 * What tensorflowjs calls the weights of a .keras file: `layers/conv2d_1/vars/0` is the first weight of the model's second
 * `Conv2D`, whatever that is called (Keras's `saving_lib.py`).
 */
function placesOfKeras3(calls: readonly LayerCall[]): ReadonlyMap<string, string> {
  const layers = new Map(calls.map((call) => [call.layer, call]));
  const counts = new Map<string, number>();
  const places = new Map<string, string>();
  for (const { layer, className, config } of layers.values()) {
    const kind = snakeCase(className);
    const count = counts.get(kind) ?? 0;
    counts.set(kind, count + 1);
    const roles = Object.hasOwn(ROLES, className) ? (ROLES[className]?.(config) ?? []) : [];
    for (const [at, role] of roles.entries())
      places.set(`layers/${kind}${count === 0 ? "" : `_${count}`}/vars/${at}`, `${layer}/${role}`);
  }
  return places;
}

/** Keras's `to_snake_case`: `DepthwiseConv2D` is `depthwise_conv2d`. */
function snakeCase(name: string): string {
  return name
    .replaceAll(/\W+/g, "")
    .replaceAll(/(.)([A-Z][a-z]+)/g, "$1_$2")
    .replaceAll(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase();
}
