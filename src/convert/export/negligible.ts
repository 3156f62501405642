import { type LayerGraph, type LayerNode, readersOf } from "../../arch/graph.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { UNIT_ROUNDOFF } from "../../core/tensor-cast.js";
import { activationBounds, affineOf, type ChannelBounds, magnitude } from "./activation-bounds.js";
import { type NodeWeight, type NodeWeights, nodeWeights } from "./weights.js";

/**
 * Negligible weights: which ones may be written as zeros, and why (docs/denormals.md has the proof).
 *
 * A channel that died in training has a batch norm with a weight of 1e-20 to 1e-40, and subnormal weights once that is
 * folded; a product with one takes a processor a hundred times as long. Such a weight is negligible if the most that it
 * can add to a value with a bias is less than a thousandth of the rounding of that bias, which every rounding bound
 * allows already.
 */

/**
 * What the weights of one kind may add to a channel, relative to its bias. Three kinds can meet in one value (a
 * convolution without bias, a depthwise one, a batch norm): together they stay below 2⁻³⁴, 1/1024 of float32's unit
 * roundoff.
 */
const SHARE = 2 ** -36;

/** Larger weights are kept, negligible or not: their products with usual values are normal numbers. */
const TINY = 2 ** -64;

/** The negligible weights of a network. */
export interface Negligible {
  readonly count: number;
  /** The most that they can add to any value, in roundings (2⁻²⁴) of its bias. Below 2⁻¹⁰. */
  readonly bound: number;
  /** Positions in a constant, by its name. */
  readonly positions: ReadonlyMap<string, readonly number[]>;
}

/** A network's constants as written. */
export interface WrittenWeights {
  readonly of: (node: LayerNode) => NodeWeights;
  /** The weights that were set to zero; undefined if none were. */
  readonly zeroed: Negligible | undefined;
}

/**
 * The constants of a network's layers with the negligible ones set to zero. The search repeats until it finds no more,
 * since what reads only zeros is negligible too; in a network that has been written once it finds none.
 *
 * @param graph with its batch norms folded or not, as it is written
 * @param keep whether to keep them unchanged
 */
export function writtenWeights(graph: LayerGraph, stateDict: StateDict, keep = false): WrittenWeights {
  const known = new Map<string, NodeWeights>();
  const read = (node: LayerNode): NodeWeights => {
    const weights = known.get(node.name) ?? nodeWeights(node, stateDict);
    known.set(node.name, weights);
    return weights;
  };
  const suspects = graph.nodes.filter((node) => {
    if (keep || !CANDIDATES[node.op.kind]) return false;
    const { weight } = read(node);
    return weight !== undefined && hasTiny(weight.tensor.data);
  });
  if (suspects.length === 0) return { of: read, zeroed: undefined };
  const shares = new Map<string, Map<number, number>>();
  const tensors = new Map<string, Tensor<"float32">>();
  const of = (node: LayerNode): NodeWeights => {
    const { weight, ...others } = read(node);
    const tensor = tensors.get(weight?.name ?? "");
    return weight && tensor ? { weight: { ...weight, tensor }, ...others } : read(node);
  };
  for (let isNew = true; isNew; ) {
    isNew = false;
    for (const [name, found] of negligibleIn(graph, suspects, of)) {
      const { tensor } = found.weight;
      if (!tensors.has(name)) tensors.set(name, { ...tensor, data: tensor.data.slice() });
      const data = tensors.get(name)?.data;
      const own = shares.get(name) ?? new Map<number, number>();
      shares.set(name, own);
      for (const [position, share] of found.shares) {
        own.set(position, share);
        if (data) data[position] = 0;
        isNew = true;
      }
    }
  }
  return { of, zeroed: summary(shares) };
}

function summary(shares: ReadonlyMap<string, ReadonlyMap<number, number>>): Negligible | undefined {
  const found = [...shares].filter(([, own]) => own.size > 0);
  if (found.length === 0) return undefined;
  const all = found.flatMap(([, own]) => [...own.values()]);
  return {
    count: all.length,
    // A weight's contribution was multiplied by the number of its kind in a value; three kinds can meet.
    bound: (3 * Math.max(...all)) / UNIT_ROUNDOFF,
    positions: new Map(found.map(([name, own]) => [name, [...own.keys()]])),
  };
}

/**
 * A constant's negligible weights: the most that all of the kind may add to a value, relative to its bias, by position.
 */
interface Shares {
  readonly weight: NodeWeight;
  readonly shares: Map<number, number>;
}

/** The negligible weights of some layers, by the constant's name, given all others. */
function negligibleIn(
  graph: LayerGraph,
  suspects: readonly LayerNode[],
  weightsOf: (node: LayerNode) => NodeWeights,
): ReadonlyMap<string, Shares> {
  const bounds = activationBounds(graph.nodes, weightsOf);
  const readers = readersOf(graph);
  const found = new Map<string, Shares>();
  for (const node of suspects) {
    const { weight } = weightsOf(node);
    if (!weight) continue;
    const own = sharesOf(node, weightsOf, bounds, readers);
    const before = found.get(weight.name)?.shares;
    if (!before) found.set(weight.name, { weight, shares: own });
    // A gate's weights are read once per stream, and negligible if they are in every stream.
    for (const [position, share] of before ?? []) {
      const other = own.get(position);
      if (other === undefined) before?.delete(position);
      else before?.set(position, Math.max(share, other));
    }
  }
  return found;
}

/** The operations whose weights may be negligible; instance norms amplify small values again. */
const CANDIDATES: Readonly<Partial<Record<LayerNode["op"]["kind"], true>>> = {
  conv: true,
  linear: true,
  batchNorm: true,
};

function isTiny(value: number): boolean {
  return value < TINY && value > -TINY && value !== 0;
}

/** TINY as bits: smaller numbers have lower exponents. */
const TINY_BITS = new Int32Array(Float32Array.of(TINY).buffer)[0] as number;

/**
 * Whether any weight is tiny. Compares bits, because the interpreter, which runs over most of a network before this is
 * compiled, allocates garbage for floats.
 */
function hasTiny({ buffer, byteOffset, length }: Float32Array): boolean {
  const bits = new Int32Array(buffer, byteOffset, length);
  for (let index = 0; index < length; index++) {
    const size = (bits[index] as number) & 0x7fffffff;
    if (size < TINY_BITS && size !== 0) return true;
  }
  return false;
}

/**
 * Positions of a layer's negligible weights, each with the largest sum that all of its kind may add, relative to the
 * bias.
 */
function sharesOf(
  node: LayerNode,
  weightsOf: (node: LayerNode) => NodeWeights,
  bounds: ReadonlyMap<string, ChannelBounds>,
  readers: ReadonlyMap<string, readonly LayerNode[]>,
): Map<number, number> {
  const { op } = node;
  const found = new Map<number, number>();
  const weights = weightsOf(node);
  const input = bounds.get(node.inputs[0] ?? "");
  const data = weights.weight?.tensor.data;
  if (!data || !input) return found;
  const consider = (position: number, largest: number, budget: number): void => {
    // NaN if the input is unbounded; then the weight is not negligible.
    const change = Math.abs(data[position] as number) * largest;
    if (change <= SHARE * budget) found.set(position, change === 0 ? 0 : change / budget);
  };
  if (op.kind === "batchNorm") {
    for (let channel = 0; channel < op.channels; channel++) {
      if (!isTiny(data[channel] as number)) continue;
      const { mean, beta } = affineOf(op, weights, channel);
      const deviation = Math.sqrt((weights.runningVar?.tensor.data[channel] ?? NaN) + op.epsilon);
      consider(channel, (magnitude(input, channel) + Math.abs(mean)) / deviation, Math.abs(beta));
    }
    return found;
  }
  if (op.kind !== "conv" && op.kind !== "linear") return found;
  const channels = op.kind === "conv" ? op.outChannels : op.outFeatures;
  const perOutput = data.length / channels;
  const groups = op.kind === "conv" ? op.groups : 1;
  const window = op.kind === "conv" ? op.kernel[0] * op.kernel[1] : 1;
  const end = biasAfter(node, weightsOf, readers);
  if (!end) return found;
  for (let channel = 0; channel < channels; channel++) {
    if (!hasTiny(data.subarray(channel * perOutput, (channel + 1) * perOutput))) continue;
    const { gain, budget } = end(channel);
    const first = Math.floor((channel * groups) / channels) * (perOutput / window);
    for (let index = 0; index < perOutput; index++) {
      if (!isTiny(data[channel * perOutput + index] as number)) continue;
      const source = first + Math.floor(index / window);
      consider(channel * perOutput + index, magnitude(input, source) * gain * perOutput, budget);
    }
  }
  return found;
}

/** The largest factor for a channel's change until a bias is added to it; and the size of that bias. */
type BiasAfter = (channel: number) => { readonly gain: number; readonly budget: number };

/**
 * The first bias that a layer's output meets: its own; or, for a convolution without one, that of the depthwise
 * convolution or the batch norm that is its only reader and keeps its channels separate. Undefined for other readers.
 */
function biasAfter(
  node: LayerNode,
  weightsOf: (node: LayerNode) => NodeWeights,
  readers: ReadonlyMap<string, readonly LayerNode[]>,
): BiasAfter | undefined {
  const own = weightsOf(node);
  const { bias } = own;
  if (bias) return (channel) => ({ gain: 1, budget: Math.abs(bias.tensor.data[channel] ?? 0) });
  const [reader, ...others] = readers.get(node.name) ?? [];
  if (!reader || others.length > 0) return undefined;
  const { op } = reader;
  const weights = weightsOf(reader);
  if (op.kind === "batchNorm")
    return (channel) => {
      const { scale, mean, beta } = affineOf(op, weights, channel);
      return { gain: Math.abs(scale), budget: Math.abs(beta - mean * scale) };
    };
  if (op.kind !== "conv" || op.groups !== op.outChannels || op.inChannels !== op.outChannels)
    return undefined;
  const after = biasAfter(reader, weightsOf, readers);
  return (
    after &&
    ((channel) => {
      const { gain, budget } = after(channel);
      return { gain: gain * rowSum(weights, op.kernel[0] * op.kernel[1], channel), budget };
    })
  );
}

/** Σ|w| of an output channel, as in the bounds. */
function rowSum({ weight }: NodeWeights, length: number, channel: number): number {
  let sum = 0;
  for (let index = channel * length; index < (channel + 1) * length; index++)
    sum += Math.abs(weight?.tensor.data[index] ?? Infinity);
  return sum;
}
