import type { LayerGraph, LayerNode, Op, OpKind, Size2d } from "../../arch/index.js";
import { bytesOf, sameBytes } from "../../core/bytes.js";
import { formatShape, sameShape, type Tensor } from "../../core/tensor.js";
import { formatFloat32 } from "../../core/text.js";
import { uniform } from "./operators/constants.js";
import {
  type ForeignKind,
  type ForeignNode,
  type ForeignOp,
  isKind,
  type Padding,
} from "./operators/foreign.js";
import { numbers } from "./operators/site.js";

/** A difference between a file's graph and the architecture. A finding, never an exception. */
export interface Difference {
  /** The network's layer with the difference. */
  readonly layer: string;
  /** The stream it belongs to, from 1; absent outside the streams. */
  readonly stream?: number;
  /** What the file has, as a noun phrase. */
  readonly found: string;
  /** What the architecture has, as a noun phrase. */
  readonly expected: string;
  /**
   * Which difference it is, if others depend on that: operators after the layer, a gate's weights in one stream, or the
   * second place of one that is in two, such as a layer that was moved.
   */
  readonly kind?: "inserted" | "own-weights" | "second";
}

export function difference(
  layer: Pick<LayerNode, "name" | "stream">,
  found: string,
  expected: string,
  kind?: Difference["kind"],
): Difference {
  return {
    layer: layer.name,
    ...(layer.stream === undefined ? {} : { stream: layer.stream }),
    found,
    expected,
    ...(kind === undefined ? {} : { kind }),
  };
}

const NAMES: Readonly<Record<Exclude<ForeignKind, "other">, string>> = {
  input: "the input",
  conv: "a convolution",
  linear: "a linear layer",
  batchNorm: "a batch norm",
  trainingNorm: "a batch norm in training mode",
  affine: "a product and sum by channel",
  instanceNorm: "an instance norm",
  layerNorm: "a layer norm",
  relu: "a ReLU",
  sigmoid: "a sigmoid",
  maxPool: "a max pool",
  avgPool: "an average pool",
  globalAvgPool: "a global average pool",
  globalMaxPool: "a global max pool",
  flatten: "a flattening",
  scale: "a product of two values",
  add: "a sum",
  l2Normalize: "a division by the L2 norm",
  softmax: "a softmax",
  channelOrder: "channels in another order",
  pad: "padding",
};

/** What a file has in the place of a layer that it lacks. */
export const NOTHING_INSTEAD = "nothing in its place";

export function nameOfKind(kind: OpKind | Exclude<ForeignKind, "other">): string {
  return NAMES[kind];
}

export function nameOf({ op, constants: { weight, bias } }: ForeignNode): string {
  if (op.kind === "other") {
    const target = op.opType === "Reshape" ? numbers(op.operands[1]) : undefined;
    if (target) return `${op.opType} to ${formatShape(target)}`;
    const { bounds = { least: Number.NaN, most: Number.NaN }, numbers: given = [] } = op;
    if (bounds.least <= bounds.most)
      return `${op.opType} to ${formatFloat32(bounds.least)}…${formatFloat32(bounds.most)}`;
    return given.length > 0 ? `${op.opType} with ${given.join(" and ")}` : op.opType;
  }
  if (op.kind === "affine") {
    const [factor, term] = [weight && uniform(weight), bias && uniform(bias)];
    if (factor !== undefined && !bias) return `a product with ${formatFloat32(factor)}`;
    if (term !== undefined && !weight) return `a sum with ${formatFloat32(term)}`;
  }
  return NAMES[op.kind];
}

interface Feature {
  readonly what: string;
  readonly found: string;
  readonly expected: string;
}

type Comparison<K extends OpKind & ForeignKind> = (
  expected: Op<K>,
  found: ForeignOp<K>,
) => readonly Feature[];

const nothing = (): readonly Feature[] => [];

const epsilon = (
  expected: { readonly epsilon: number },
  found: { readonly epsilon: number },
): readonly Feature[] =>
  // Files store float32.
  Math.fround(expected.epsilon) === Math.fround(found.epsilon)
    ? []
    : sizes("epsilon", expected.epsilon, found.epsilon);

/** How a node of the same kind as a layer may differ from it. */
const COMPARISONS: { readonly [K in OpKind]: Comparison<K> } = {
  input: nothing,
  conv: (expected, found) => [
    ...sizes("input channels", expected.inChannels, found.inChannels),
    ...sizes("output channels", expected.outChannels, found.outChannels),
    ...sizes("groups", expected.groups, found.groups),
    ...windows(expected, found),
  ],
  linear: (expected, found) => [
    ...sizes("input features", expected.inFeatures, found.inFeatures),
    ...sizes("output features", expected.outFeatures, found.outFeatures),
    ...sizes("alpha", 1, found.factors?.alpha ?? 1),
    ...sizes("beta", 1, found.factors?.beta ?? 1),
  ],
  batchNorm: epsilon,
  instanceNorm: epsilon,
  layerNorm: epsilon,
  relu: nothing,
  sigmoid: nothing,
  maxPool: windows,
  avgPool: (expected, found) => windows({ ...expected, padding: [0, 0] }, found),
  globalAvgPool: nothing,
  globalMaxPool: nothing,
  flatten: nothing,
  scale: nothing,
  add: nothing,
};

/**
 * How a node's attributes differ from a layer's, for a node of the layer's kind.
 *
 * @param isPadded whether a separate padding before it was not absorbed: then that is the finding, and not the operator's own
 */
export function compareOps(
  layer: LayerNode,
  node: ForeignNode,
  isPadded: boolean = false,
): readonly Difference[] {
  if (layer.op.kind !== node.op.kind) return [];
  // One lookup over a union of operations: the table's type pairs each kind with its own function.
  const compare = COMPARISONS[layer.op.kind] as (expected: Op, found: ForeignOp) => readonly Feature[];
  const features = compare(layer.op, node.op).filter(({ what }) => !(isPadded && what === "padding"));
  if (features.length === 0) return [];
  const inWords = (side: "found" | "expected"): string =>
    features.map((feature) => `${feature.what} ${feature[side]}`).join(", ");
  return [difference(layer, inWords("found"), inWords("expected"))];
}

/** Whether a node is padding, of any kind. */
export function isPadding({ op }: ForeignNode): boolean {
  return op.kind === "pad" || (op.kind === "other" && op.opType.startsWith("Pad"));
}

function sizes(what: string, expected: number, found: number): readonly Feature[] {
  return expected === found ? [] : [{ what, found: formatFloat32(found), expected: String(expected) }];
}

interface FoundWindow {
  readonly kernel: Size2d;
  readonly stride: Size2d;
  readonly padding: Padding;
  readonly autoPad?: string;
  readonly dilation: Size2d;
  readonly ceil?: boolean;
}

function windows(
  expected: { readonly kernel: Size2d; readonly stride: Size2d; readonly padding: Size2d },
  found: FoundWindow,
): readonly Feature[] {
  const [height, width] = expected.padding;
  const features = [
    { what: "kernel", found: formatShape(found.kernel), expected: formatShape(expected.kernel) },
    { what: "stride", found: formatShape(found.stride), expected: formatShape(expected.stride) },
    { what: "dilation", found: formatShape(found.dilation), expected: "[1, 1]" },
    {
      what: "padding",
      found: found.autoPad ?? formatShape(found.padding),
      expected: formatShape([height, width, height, width]),
    },
    { what: "rounding of the size", found: found.ceil ? "up" : "down", expected: "down" },
  ];
  return features.filter((feature) => feature.found !== feature.expected);
}

/** The gate is one module: all streams of a block must have the same weights, to within quantisation. */
export function gateDifferences(
  graph: LayerGraph,
  nodes: ReadonlyMap<string, ForeignNode>,
  skipped: ReadonlySet<string>,
): readonly Difference[] {
  const firsts = new Map<string, { readonly layer: string; readonly node: ForeignNode }>();
  return graph.nodes.flatMap((layer) => {
    const path = layer.parameters.weight;
    const node = nodes.get(layer.name);
    if (path === undefined || !node || layer.stream === undefined) return [];
    // Layers that are missing or replaced have no weights to compare.
    if (skipped.has(layer.name) || isKind(node, "other")) return [];
    const first = firsts.get(path);
    if (!first) {
      firsts.set(path, { layer: layer.name, node });
      return [];
    }
    const same = (["weight", "bias"] as const).every((role) => {
      const rounding = [first.node, node].reduce((sum, { roundings }) => sum + largest(roundings?.[role]), 0);
      return sameTensor(first.node.constants[role], node.constants[role], rounding);
    });
    return same ? [] : [difference(layer, "weights of its own", `those of ${first.layer}`, "own-weights")];
  });
}

function largest(roundings: Float32Array | undefined): number {
  return roundings?.reduce((most, value) => Math.max(most, value), 0) ?? 0;
}

/** Whether two constants have the same values: bit for bit, or to within rounding. */
export function sameTensor(a: Tensor | undefined, b: Tensor | undefined, rounding = 0): boolean {
  if (a === b) return true;
  if (!a || !b || a.dtype !== b.dtype || !sameShape(a.shape, b.shape)) return false;
  if (rounding > 0)
    return a.data.every((value, index) => Math.abs(Number(value) - Number(b.data[index])) <= rounding);
  return sameBytes(bytesOf(a.data), bytesOf(b.data));
}
