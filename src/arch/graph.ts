import type { OsnetSpec } from "./spec.js";

/**
 * The operations of an OSNet, as a discriminated union.
 *
 * Export tables, shape rules and reference kernels are `Record<OpKind, …>`, so the build fails until each of them
 * handles a new operation. Activations are NCHW (batch, channels, height, width) or NC after `flatten`; convolution
 * weights are OIHW with I = in channels / groups; linear weights are [out, in].
 */

/** Height, then width. */
export type Size2d = readonly [height: number, width: number];

/** The attributes of each operation. All padding is symmetric: the same before and after, in both dimensions. */
export interface OpTable {
  /** The network's input. */
  input: object;
  /** torch.nn.Conv2d, dilation 1. `groups` 1, or `outChannels` for a depthwise convolution. Roles: weight, bias?. */
  conv: {
    readonly inChannels: number;
    readonly outChannels: number;
    readonly kernel: Size2d;
    readonly stride: Size2d;
    readonly padding: Size2d;
    readonly groups: number;
    readonly bias: boolean;
  };
  /** torch.nn.Linear, always with bias. Roles: weight [out, in], bias [out]. */
  linear: { readonly inFeatures: number; readonly outFeatures: number };
  /** BatchNorm1d/2d in evaluation mode. Roles: weight, bias, runningMean, runningVar, each [channels]. */
  batchNorm: { readonly channels: number; readonly epsilon: number };
  /** InstanceNorm2d(affine=True), no running statistics: biased variance over H×W. Roles: weight, bias. */
  instanceNorm: { readonly channels: number; readonly epsilon: number };
  /** LayerNorm((channels, 1, 1)) inside a gate: biased variance over C×H×W. Roles: weight, bias [channels, 1, 1]. */
  layerNorm: { readonly channels: number; readonly epsilon: number };
  /** max(0, x), of any shape. */
  relu: object;
  /** 1 / (1 + e^−x), of any shape: a gate's activation, or an attribute model's last operation. */
  sigmoid: object;
  /** MaxPool2d; padding is ignored, even if all values are negative. */
  maxPool: { readonly kernel: Size2d; readonly stride: Size2d; readonly padding: Size2d };
  /** AvgPool2d without padding; a partial last window is dropped (floor). */
  avgPool: { readonly kernel: Size2d; readonly stride: Size2d };
  /** AdaptiveAvgPool2d(1): [N, C, H, W] to [N, C, 1, 1]. */
  globalAvgPool: object;
  /** AdaptiveMaxPool2d(1): [N, C, H, W] to [N, C, 1, 1]. */
  globalMaxPool: object;
  /** [N, C, 1, 1] to [N, C]. */
  flatten: object;
  /** Channel-wise scaling of a stream by its gate: inputs [N, C, H, W] and [N, C, 1, 1]. */
  scale: object;
  /** The sum of two or more inputs of one shape, added from left to right. */
  add: object;
}

/** The kinds of operation: the values of `LayerNode.op.kind`. */
export type OpKind = keyof OpTable;

/** One operation with its attributes. */
export type Op<K extends OpKind = OpKind> = { [P in K]: { readonly kind: P } & OpTable[P] }[K];

/** The role of a parameter in the operation that uses it. */
export type ParameterRole = "weight" | "bias" | "runningMean" | "runningVar";

/**
 * The parts of the network. `block` is everything in a residual block outside its streams and gates; `transition` is
 * the layers between stages; `head` is everything from the last 1×1 convolution on.
 */
export type Part = "stem" | "block" | "stream" | "gate" | "transition" | "head";

/**
 * One operation of the network.
 *
 * `name` is the torchreid module path of the output, with the stream where one module runs once per stream
 * (`conv2.0.gate[1].fc1`); a value that is not a module's output has a suffix (`conv2.0.add`). Parameters have their
 * own paths, without streams (`conv2.0.gate.fc1.weight`): all streams share the gate's weights.
 */
export interface LayerNode<O extends Op = Op> {
  /** Unique in its graph; the same in reports, recordings and exported files. */
  readonly name: string;
  /** The operation, with its attributes. */
  readonly op: O;
  /** Names of the nodes whose outputs this one reads. */
  readonly inputs: readonly string[];
  /** State-dict path of each parameter, by role. */
  readonly parameters: Readonly<Partial<Record<ParameterRole, string>>>;
  /** Which part of the network the layer belongs to: set by `expand`. */
  readonly part?: Part;
  /** Path of the residual block the layer belongs to, such as `conv2.0`. */
  readonly block?: string;
  /** The stream the layer belongs to, from 1 as in the paper. */
  readonly stream?: number;
  /** In a folded graph: the batch norm folded into this node's weights, whose name the node then has. */
  readonly foldedBatchNorm?: FoldedBatchNorm;
}

/** A batch norm absorbed by the convolution or linear layer before it. */
export interface FoldedBatchNorm {
  /** Name of the convolution or linear layer, whose own output a folded network does not compute. */
  readonly from: string;
  /** Added to the running variance before the square root. */
  readonly epsilon: number;
  /** State-dict path of each of its four parameters, by role; each is [channels]. */
  readonly parameters: Readonly<Record<ParameterRole, string>>;
}

/** The gate of one stream: the layer whose output is the gate vector [N, C, 1, 1]. */
export interface GateOutput {
  /** Path of the residual block, such as `conv2.0`. */
  readonly block: string;
  /** The stream that it scales, from 1 as in the paper. */
  readonly stream: number;
  /** Name of the layer, such as `conv2.0.gate[1].gate_activation`. */
  readonly layer: string;
}

/** A whole network in topological order, which is also torchreid's parameter order. */
export interface LayerGraph {
  /** The spec that the graph was expanded from. */
  readonly spec: OsnetSpec;
  /** Every operation, the input first; a node reads earlier ones only. */
  readonly nodes: readonly LayerNode[];
  /** Module paths that are names of another layer's output: the container `conv1` for its last layer `conv1.relu`. */
  readonly aliases: ReadonlyMap<string, string>;
  /** The layers that are the network's outputs. */
  readonly outputs: GraphOutputs;
  /** Every stream's gate, in network order. */
  readonly gates: readonly GateOutput[];
}

/** The network's outputs, each the name of a layer. */
export interface GraphOutputs {
  /** The embedding [N, D]. */
  readonly features: string;
  /** The classifier's output [N, classes]. */
  readonly logits?: string;
  /** The logits through a sigmoid, for attribute models. */
  readonly probabilities?: string;
  /** Which of these torchreid's `forward` returns in evaluation mode. */
  readonly evaluation: "features" | "probabilities";
}

/** The layers that read each layer, in network order. */
export function readersOf({ nodes }: LayerGraph): ReadonlyMap<string, readonly LayerNode[]> {
  const readers = new Map<string, LayerNode[]>();
  for (const node of nodes)
    for (const input of node.inputs) readers.set(input, [...(readers.get(input) ?? []), node]);
  return readers;
}

/**
 * Names of the layers that are absent because nothing would read them: every reader is absent too, or its own
 * difference explains why it does not read the layer.
 */
export function unreadLayers(
  graph: LayerGraph,
  isAbsent: (layer: string) => boolean,
  explains: (reader: string) => boolean,
): ReadonlySet<string> {
  const readers = readersOf(graph);
  const unread = new Set<string>();
  for (const { name } of graph.nodes.toReversed()) {
    const own = readers.get(name) ?? [];
    const isUnread = own.every((reader) => unread.has(reader.name) || explains(reader.name));
    if (own.length > 0 && isUnread && isAbsent(name)) unread.add(name);
  }
  return unread;
}
