import { unfoldedNode } from "../../arch/batch-norm.js";
import type { LayerNode, Op, OpKind, ParameterRole } from "../../arch/graph.js";
import { PARAMETER_SHAPES } from "../../arch/parameters.js";
import { InputError } from "../../core/errors.js";
import { largestMagnitude } from "../../core/functions.js";
import {
  elementCount,
  formatShape,
  type RealTensor,
  type Shape,
  type StateDict,
  type Tensor,
} from "../../core/tensor.js";
import { isDType, toFloat64 } from "../../core/tensor-cast.js";
import { conv, convScratch, linear } from "./conv.js";
import { type Elements, type Numbers, wholeOf } from "./elements.js";
import { type Engine, scalarEngine, TILE_COLUMNS } from "./engine.js";
import type { Call, Kernel, LayerParameters, Operand } from "./kernel.js";
import {
  add,
  avgPool,
  batchNorm,
  copy,
  globalAvgPool,
  globalMaxPool,
  instanceNorm,
  layerNorm,
  maxPool,
  relu,
  scale,
  sigmoid,
} from "./layers.js";
import { vectorEngine } from "./vector-engine.js";

/** Looks up a parameter by its state-dict path, in float64. */
export interface ParameterSource {
  (path: string): Float64Array;
  /** The same numbers, not converted if they are stored in float32: what is converted is garbage soon, twice as large. Default: converted. */
  readonly stored?: (path: string) => Numbers;
}

/** A parameter as it is stored, if its source has it so. */
export function storedParameter(source: ParameterSource, path: string): Numbers {
  return source.stored?.(path) ?? source(path);
}

/** One source to a state dict: the reference network and the layers that are recomputed share the numbers. */
const sources = new WeakMap<StateDict, ParameterSource>();

/**
 * The parameters of a state dict in float64, each converted on demand and cached for a while, since every stream reads
 * the gate's.
 *
 * The source throws InputError (`state-dict`) for a missing path, and InputError (`tensor`) for one that is not
 * floating point.
 */
export function float64Parameters(stateDict: StateDict): ParameterSource {
  const known = sources.get(stateDict);
  if (known) return known;
  const source = convertedParameters(stateDict);
  sources.set(stateDict, source);
  return source;
}

/** Elements that are kept in float64: a layer's and its neighbours', while several read them. */
const KEPT_ELEMENTS = 2 ** 18;

function convertedParameters(stateDict: StateDict): ParameterSource {
  const converted = new Map<string, Float64Array>();
  let kept = 0;
  const source = (path: string): Float64Array => {
    const known = converted.get(path);
    if (known) return known;
    const tensor = stateDict.get(path);
    if (!tensor)
      throw new InputError({
        code: "state-dict",
        subject: path,
        found: "no such parameter",
        expected: "one that the network reads",
        remedy: "use a complete state dict of this architecture",
      });
    const values = toFloat64(tensor, path).data;
    converted.set(path, values);
    kept += values.length;
    for (const [oldest, { length }] of converted) {
      if (kept <= KEPT_ELEMENTS || oldest === path) break;
      converted.delete(oldest);
      kept -= length;
    }
    return values;
  };
  const stored = (path: string): Numbers => {
    const tensor = stateDict.get(path);
    return tensor && isDType(tensor, "float32") ? tensor.data : source(path);
  };
  return Object.assign(source, { stored });
}

/**
 * The parameters that an operation reads, by role.
 *
 * @throws InputError (`state-dict`) if one is missing or has another size than the operation says.
 */
export function layerParameters(
  op: Op,
  paths: LayerNode["parameters"],
  source: ParameterSource,
): LayerParameters {
  // One lookup over a union of operations: the table's type pairs each kind with its own function.
  const shapes = (PARAMETER_SHAPES[op.kind] as (op: Op) => Partial<Record<ParameterRole, Shape>>)(op);
  const entries = (Object.entries(shapes) as [ParameterRole, Shape][]).map(([role, shape]) => {
    const path = paths[role] ?? `${role} of a ${op.kind}`;
    const values = storedParameter(source, path);
    if (values.length !== elementCount(shape))
      throw new InputError({
        code: "state-dict",
        subject: path,
        found: `${values.length} elements`,
        expected: formatShape(shape),
        remedy: "use a state dict of this architecture",
      });
    return [role, values] as const;
  });
  return Object.fromEntries(entries);
}

/**
 * Operations whose output may share the memory of their first input, if no other input does: an element of it is not
 * read again after that of the output is written.
 */
export const IN_PLACE: ReadonlySet<OpKind> = new Set(["batchNorm", "relu", "sigmoid", "scale", "add"]);

/** The float64 reference's function of each operation. */
const KERNELS: { readonly [K in OpKind]: Kernel<K> } = {
  input: copy,
  conv,
  linear,
  batchNorm,
  instanceNorm,
  layerNorm,
  relu,
  sigmoid,
  maxPool,
  avgPool,
  globalAvgPool,
  globalMaxPool,
  flatten: copy,
  scale,
  add,
};

/** Where a layer is computed. */
interface Place {
  readonly engine: Engine;
  /** Start of the scratch memory, `scratchSize` elements long. */
  readonly scratch: number;
  readonly output: Operand;
}

/** Elements of scratch memory that a layer's kernel needs. */
export function scratchSize({ op }: LayerNode, inputs: readonly Shape[], output: Shape): number {
  return op.kind === "conv" ? convScratch(op, inputs[0] ?? [], output) : 0;
}

/** Computes one layer into its place; one that absorbed a batch norm is followed by it, unfolded. */
export function runLayer(
  node: LayerNode,
  inputs: readonly Operand[],
  parameters: ParameterSource,
  place: Place,
): void {
  const { foldedBatchNorm } = node;
  const { op } = unfoldedNode(node);
  call(op, inputs, layerParameters(op, node.parameters, parameters), place);
  if (!foldedBatchNorm || (op.kind !== "conv" && op.kind !== "linear")) return;
  const channels = op.kind === "conv" ? op.outChannels : op.outFeatures;
  const norm: Op = { kind: "batchNorm", channels, epsilon: foldedBatchNorm.epsilon };
  const values = layerParameters(norm, foldedBatchNorm.parameters, parameters);
  call(norm, [place.output], values, place);
}

function call(op: Op, inputs: readonly Operand[], parameters: object, place: Place): void {
  // The graph says that the inputs and parameters are the kind's own: the table of kernels pairs each kind with its.
  const kernel = KERNELS[op.kind] as (call: Call) => void;
  kernel({ op, inputs, parameters, ...place } as Call);
}

/** Memory in which one layer after another is computed; it grows to what the largest needs. */
export class Workspace {
  private engine: Engine | undefined;
  private least: number;
  private readonly whole: Workspace | undefined;
  /** Where it begins in its engine's memory. */
  readonly start: number;

  /**
   * @param least elements to begin with, since outgrown memory is released late
   * @param behind the unused part of another workspace, from an element on: both can be used at a time if they do not
   * overlap
   */
  constructor(least: number = 0, behind?: { readonly workspace: Workspace; readonly start: number }) {
    this.least = least;
    this.whole = behind?.workspace;
    this.start = behind?.start ?? 0;
  }

  /**
   * Says how many elements will be needed from now on. If that is less than half of the memory, it is left to the garbage collector.
   *
   * @returns whether it is
   */
  expect(elements: number): boolean {
    this.least = elements;
    const isTooLarge = this.engine !== undefined && this.engine.memory.length > 2 * elements;
    if (isTooLarge) this.engine = undefined;
    return isTooLarge;
  }

  /** An engine with memory for at least this many elements, whose contents are undefined. */
  reserve(elements: number): Engine {
    if (this.whole) return this.whole.reserve(this.start + elements);
    if (!this.engine || this.engine.memory.length < elements)
      this.engine = vectorEngine(Math.max(elements, this.least));
    return this.engine;
  }

  /** Loops whose targets are in this memory as it is now. */
  get loops(): Elements {
    return this.reserve(0);
  }

  /** Room for anything, until the workspace is used again. */
  room(elements: number): Float64Array {
    return this.reserve(elements).memory.subarray(this.start, this.start + elements);
  }

  /** Where `evaluateLayer` reads a layer's only input: writing it here avoids a copy. */
  inputOf(node: LayerNode, input: Shape, output: Shape): Float64Array {
    const start = inputStart(node, [input], output);
    const end = start + elementCount(input);
    return this.reserve(end).memory.subarray(this.start + start, this.start + end);
  }
}

/** Elements of a workspace in which a layer is computed, with its inputs. */
export function workspaceSize(node: LayerNode, inputs: readonly Shape[], output: Shape): number {
  const read = inputs.reduce((size, shape) => size + elementCount(shape), 0);
  return read + inputStart(node, inputs, output);
}

/** Where the inputs begin: at the output's place, or after it and what the kernel needs. */
function inputStart(node: LayerNode, inputs: readonly Shape[], output: Shape): number {
  const size = elementCount(output);
  const isInPlace = IN_PLACE.has(node.op.kind) && elementCount(inputs[0] ?? []) === size;
  // A layer that absorbed a batch norm is a convolution or a linear layer first.
  return isInPlace && !node.foldedBatchNorm ? 0 : size + scratchSize(node, inputs, output);
}

/**
 * Computes a single layer in float64 from given inputs, such as those of a candidate's own layer. A folded layer is
 * computed as the convolution or linear layer followed by the batch norm.
 *
 * @param inputs NCHW or NC, in the order of `node.inputs`, with the shapes given by the graph; for the `input` node,
 * the images. They may be a workspace's last result.
 * @param parameters `float64Parameters` of a state dict, or any other function of their paths.
 * @param shape The output's shape, from `outputShapes` of src/arch.
 * @param workspace Where to compute, vectorised: the result is valid until the workspace is used for another layer.
 * Without one, the layer is computed in plain TypeScript and the result is a new array.
 * @throws InputError (`state-dict`) if a parameter is missing or has the wrong size.
 */
export function evaluateLayer(
  node: LayerNode,
  inputs: readonly RealTensor[],
  parameters: ParameterSource,
  shape: Shape,
  workspace?: Workspace,
): Tensor<"float64"> {
  const outputSize = elementCount(shape);
  const inputShapes = inputs.map((tensor) => tensor.shape);
  const total = workspaceSize(node, inputShapes, shape);
  const engine = workspace ? workspace.reserve(total) : scalarEngine(total);
  const start = workspace?.start ?? 0;
  const operands = placeInputs(inputs, engine, start + inputStart(node, inputShapes, shape));
  const output = { shape, data: engine.memory.subarray(start, start + outputSize) };
  runLayer(node, operands, parameters, { engine, scratch: start + outputSize, output });
  return { dtype: "float64", ...output };
}

/** Sums of magnitudes below this do not overflow float32, however they are rounded. */
const LARGEST_SINGLE = 2 ** 124;

/**
 * Sums of products of magnitudes, in float32, which takes half the time: `Σ weight · (factor · |x| + constant)` for each output of a
 * convolution, without a bias.
 *
 * @param node its operation has no bias
 * @param weights OIHW, not negative
 * @param workspace the first `elementCount(shape)` float64 of it are left for the sums to be converted into, in ascending order; they are in
 * the second half of these
 * @returns undefined if sums might overflow, or this runs without WebAssembly
 */
export function sumMagnitudes(
  op: Op<"conv">,
  { shape: from, data }: RealTensor,
  [factor, constant]: readonly [number, number],
  weights: Float64Array,
  shape: Shape,
  workspace: Workspace,
): Float32Array | undefined {
  const size = elementCount(shape);
  const { singles } = workspace.reserve(size + Math.ceil(singlesSize(op, from, shape) / 2));
  if (!singles || !(data instanceof Float32Array)) return undefined;
  const start = 2 * workspace.start;
  const scratch = start + 2 * size;
  const place = scratch + convScratch(op, from, shape, singles.tileColumns);
  const input = singles.memory.subarray(place, place + data.length);
  const terms = weights.length / op.outChannels;
  const largest = singles.magnitudes(data, input, factor, constant) * largestMagnitude(weights);
  if (!(terms * largest < LARGEST_SINGLE)) return undefined;
  const sums = singles.memory.subarray(start + size, start + 2 * size);
  conv({
    op,
    inputs: [{ shape: from, data: input }],
    parameters: { weight: weights },
    output: { shape, data: sums },
    engine: singles,
    scratch,
  });
  return sums;
}

/** Elements of float32 memory that `sumMagnitudes` needs besides those of the sums. */
function singlesSize(op: Op<"conv">, input: Shape, output: Shape): number {
  return convScratch(op, input, output, 2 * TILE_COLUMNS) + elementCount(input);
}

/** Copies the inputs, in float64, one after another into memory from `start`. */
function placeInputs(inputs: readonly RealTensor[], engine: Engine, start: number): Operand[] {
  const { memory } = engine;
  let offset = start;
  const places = inputs.map(({ data: { length } }) => {
    offset += length;
    return memory.subarray(offset - length, offset);
  });
  // An input elsewhere in this memory would be overwritten by its neighbours, so it is copied first.
  const aside = inputs.map(({ data }, index) => {
    if (data.buffer !== memory.buffer) return data;
    return data.byteOffset === places[index]?.byteOffset ? undefined : data.slice();
  });
  return inputs.map(({ shape }, index) => {
    const place = places[index] ?? new Float64Array();
    const data = aside[index];
    // One times a number is that number: this is how they are copied fastest from memory that threads share.
    if (data) engine.scale(data, place, wholeOf(place), 1);
    return { shape, data: place };
  });
}
