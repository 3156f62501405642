import { InputError } from "../../../core/errors.js";
import type { Tensor } from "../../../core/tensor.js";
import { quoted } from "../../../core/text.js";
import {
  float,
  ints,
  type OnnxAttributeRecord,
  type OnnxModel,
  type OnnxNode,
  type OnnxValue,
  onnxNode,
  text,
  wholeNumbers,
} from "../../formats/onnx/model.js";
import type { StoredTensor } from "../../formats/tfjs/model.js";
import { NHWC_DOMAIN } from "../operators/layouts.js";
import { type Formula, formula, matches, numberOf, type Term } from "../operators/pattern.js";

/**
 * A TensorFlow.js model in ONNX operators, under construction. Both have essentially the same operators: TensorFlow's
 * operators on NHWC are ONNX operators of `NHWC_DOMAIN`, and its axis order of weights is a `Transpose` of a constant.
 *
 * Values keep their names. An intermediate result of a node, which is not a value of the file, is called `NODE^STEP`.
 */
export interface Draft {
  /** The name of the file. */
  readonly subject: string;
  readonly nodes: OnnxNode[];
  readonly constants: Map<string, StoredTensor>;
  /** The node that computes each value. */
  readonly writers: Map<string, OnnxNode>;
}

export function createDraft(subject: string): Draft {
  return { subject, nodes: [], constants: new Map(), writers: new Map() };
}

/** The name of an intermediate result or constant of a value: no value of a graph model may have such a name (graph.ts). */
export function stepOf(value: string, step: string): string {
  return `${value}^${step}`;
}

/** Whether a value is one of these. Those of a layers model end with `#CALL`. */
export function isStep(value: string): boolean {
  return /\^[^#]*$/.test(value);
}

/** The constant that a value is, possibly through Identity. */
function resolvedConstant({ constants, writers }: Draft, name: string): Tensor | undefined {
  let current = name;
  for (let steps = 0; steps < MAX_IDENTITIES; steps++) {
    const writer = writers.get(current);
    if (writer?.opType !== "Identity") return constants.get(current);
    current = writer.inputs[0] ?? "";
  }
  return undefined;
}

/** Limit on consecutive Identity nodes: two are usual between a variable and its reader. */
const MAX_IDENTITIES = 8;

/** Adds a node, and returns the name of its value. */
export function add(
  draft: Draft,
  opType: string,
  inputs: readonly string[],
  output: string,
  attributes: OnnxAttributeRecord = {},
  domain = "",
): string {
  expectNew(draft, output);
  const node = onnxNode(output, opType, inputs, attributes, domain);
  draft.nodes.push(node);
  draft.writers.set(output, node);
  return output;
}

/** Adds a constant, and returns its name. */
export function addConstant(draft: Draft, name: string, tensor: Tensor): string {
  expectNew(draft, name);
  draft.constants.set(name, tensor);
  return name;
}

/** @throws InputError (`format`) if there is a value of this name: a weight of the file must not replace another constant */
function expectNew({ subject, constants, writers }: Draft, name: string): void {
  if (!constants.has(name) && !writers.has(name)) return;
  throw new InputError({
    code: "format",
    subject,
    found: `two values named ${quoted(name)}`,
    expected: "unique names",
    remedy: "convert the model again",
  });
}

/** The domain of operators over images: TensorFlow's `data_format`. */
export function domainOf(channelsFirst: boolean): string {
  return channelsFirst ? "" : NHWC_DOMAIN;
}

/** x + b by channel. */
export function addBias(draft: Draft, x: string, b: string, output: string, channelsFirst: boolean): string {
  if (!channelsFirst) return add(draft, "Add", [x, b], output);
  return add(
    draft,
    "Add",
    [x, add(draft, "Unsqueeze", [b], stepOf(output, "bias"), { axes: ints(1, 2) })],
    output,
  );
}

/** A draft as a model: constants are initializers, and the metadata is the file's. */
export function modelOf(
  { nodes, constants }: Draft,
  inputs: readonly OnnxValue[],
  outputs: readonly string[],
  about: Pick<OnnxModel, "producer" | "metadata">,
): OnnxModel {
  return {
    ...about,
    irVersion: 0,
    opset: 0,
    customOpsets: new Map([[NHWC_DOMAIN, 1]]),
    graph: {
      name: "",
      nodes,
      inputs,
      outputs: outputs.map((name) => ({ name })),
      initializers: constants,
    },
  };
}

/** Constant inputs of operators: axes, paddings, shapes. */

/** The integers of a constant; undefined for an activation, or a non-integer. */
export function numbersOf(draft: Draft, name: string | undefined): readonly number[] | undefined {
  const tensor = name === undefined ? undefined : resolvedConstant(draft, name);
  if (!tensor || tensor.data.length > MAX_NUMBERS) return undefined;
  const values = Array.from(tensor.data, Number);
  return values.every(Number.isInteger) ? values : undefined;
}

/** Limit on lists: the paddings of four axes are eight numbers, but a file may have any number. */
const MAX_NUMBERS = 64;

/** Paddings [[before, after], …] in ONNX's order: all before, then all after. */
export function padsOf(draft: Draft, name: string | undefined): readonly number[] | undefined {
  const pairs = numbersOf(draft, name);
  return pairs && [0, 1].flatMap((end) => pairs.filter((_, index) => index % 2 === end));
}

/** Convolutions and pools, with windows and weights as TensorFlow has them. */

/** A window: a number per axis of the image, and a padding by name. */
export interface TfWindow {
  readonly strides?: readonly number[] | undefined;
  readonly dilations?: readonly number[] | undefined;
  /** The kernel of a pool. A convolution's follows from its weights. */
  readonly kernel?: readonly number[] | undefined;
  readonly padding: string;
  /** The padding before and after each axis, for `EXPLICIT`. */
  readonly explicit?: readonly number[] | undefined;
  /** Whether the layout is NCHW instead of NHWC. */
  readonly channelsFirst: boolean;
}

/**
 * A convolution with a weight [height, width, in, out], or a depthwise one with [height, width, channels, multiplier].
 */
export function addConvolution(
  draft: Draft,
  kind: "full" | "depthwise",
  [x, weight]: readonly [x: string, weight: string],
  output: string,
  window: TfWindow,
): string {
  const turned = kind === "full" ? oihw(draft, weight) : depthwiseOihw(draft, weight);
  return add(draft, "Conv", [x, turned], output, attributesOf(window), domainOf(window.channelsFirst));
}

export function addPool(draft: Draft, opType: string, x: string, output: string, window: TfWindow): string {
  return add(draft, opType, [x], output, attributesOf(window), domainOf(window.channelsFirst));
}

function attributesOf(window: TfWindow): OnnxAttributeRecord {
  const { strides, dilations, kernel, padding, explicit = [], channelsFirst } = window;
  const [row, column] = channelsFirst ? [2, 3] : [1, 2];
  const spatial = (values: readonly number[] = []): readonly number[] =>
    [row, column].map((axis) => values[axis] ?? 1);
  const pads = [2 * row, 2 * column, 2 * row + 1, 2 * column + 1].map((at) => explicit[at] ?? 0);
  return {
    strides: ints(...spatial(strides)),
    dilations: ints(...spatial(dilations)),
    ...(kernel ? { kernel_shape: ints(...spatial(kernel)) } : {}),
    ...(padding === "SAME" ? { auto_pad: text("SAME_UPPER") } : {}),
    ...(padding === "EXPLICIT" ? { pads: ints(...pads) } : {}),
  };
}

/** A constant with its axes in another order, created once for all readers. */
function turned(draft: Draft, name: string, suffix: string, ...perm: readonly number[]): string {
  const result = stepOf(name, suffix);
  return draft.writers.has(result)
    ? result
    : add(draft, "Transpose", [name], result, { perm: ints(...perm) });
}

/** [height, width, in, out] as [out, in, height, width]. */
function oihw(draft: Draft, weight: string): string {
  return turned(draft, weight, "oihw", 3, 2, 0, 1);
}

/** [height, width, channels, multiplier] as [channels · multiplier, 1, height, width]. */
function depthwiseOihw(draft: Draft, weight: string): string {
  const result = stepOf(weight, "depthwise");
  if (draft.writers.has(result)) return result;
  const shape = addConstant(draft, stepOf(weight, "shape"), wholeNumbers([-1, 1, 0, 0]));
  return add(draft, "Reshape", [turned(draft, weight, "chw", 2, 3, 0, 1), shape], result);
}

/** An operator of a model, or a call of a layer: its inputs, and the name of its result. */
export interface Site {
  readonly draft: Draft;
  readonly inputs: readonly string[];
  readonly output: string;
}

/**
 * Writes an operator, and returns the name of its result; undefined if this use of it has no known meaning.
 */
export type Translation<S extends Site> = (site: S) => string | undefined;

/** An operator that ONNX has under this name, with the same inputs. */
export function same(opType: string): Translation<Site> {
  return ({ draft, inputs, output }) => add(draft, opType, inputs, output);
}

/** Writes an operator; an unknown one keeps its name, in a domain without known operators. */
export function translate<S extends Site>(
  write: Translation<S> | undefined,
  name: string,
  site: S,
  domain: string,
): void {
  if (write?.(site) === undefined) add(site.draft, name, site.inputs, site.output, {}, domain);
}

/** A batch norm, with the names of its input and its constants in ONNX's order. */
interface BatchNorm {
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

/** Batch norms in parts, as long as all four parameters are there and not only their products. */
const BATCH_NORMS: readonly Formula[] = [
  "(x - mean) * SCALE + beta",
  "x * SCALE + (beta - mean * SCALE)",
].map((text) => formula(text.replaceAll("SCALE", "([gamma] * (1 / ([variance] + [epsilon]) ^ 0.5))")));

/** The batch norm that a sum is. */
export function batchNormOf(draft: Draft, a: string, b: string): BatchNorm | undefined {
  const sum: Term = { value: undefined, op: "Add", operands: [termOf(draft, a), termOf(draft, b)] };
  for (const written of BATCH_NORMS)
    for (const { x, gamma, beta, mean, variance, epsilon } of matches(written, sum)) {
      const [vectors, added] = [[gamma, beta, mean, variance], numberOf(epsilon)];
      if (added !== undefined && vectors.every((vector) => vector?.constant?.shape.length === 1))
        return { inputs: [x, ...vectors].map((term) => String(term?.value)), epsilon: added };
    }
  return undefined;
}

function termOf(draft: Draft, name: string): Term {
  const constant = resolvedConstant(draft, name);
  const { opType = "", inputs = [] } = constant ? {} : (draft.writers.get(name) ?? {});
  return {
    value: name,
    op: opType,
    get operands() {
      return inputs.map((input) => termOf(draft, input));
    },
    constant,
  };
}
