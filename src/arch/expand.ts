import type { GateOutput, GraphOutputs, LayerGraph, LayerNode, Op, Part, Size2d } from "./graph.js";
import {
  type BlockSpec,
  type Dialect,
  type GateSpec,
  NORM_EPSILON,
  type OsnetSpec,
  type StageSpec,
  validateSpec,
} from "./spec.js";

/** The part of the network that a layer belongs to, and its block and stream, if any. */
type Position = Pick<LayerNode, "block" | "stream"> & { readonly part: Part };

const STEM: Position = { part: "stem" };
const TRANSITION: Position = { part: "transition" };
const HEAD: Position = { part: "head" };

/** A value of the network: the layer that computes it, and its channels. */
interface Value {
  readonly layer: string;
  readonly channels: number;
}

/** A square convolution, padded so that stride 1 keeps the size. */
interface ConvolutionShape {
  readonly outChannels: number;
  readonly kernel: number;
  readonly stride?: number;
  readonly depthwise?: boolean;
  readonly bias?: boolean;
  /** Path of the parameters, if it is not the layer's name: a gate's layers are named per stream. */
  readonly module?: string;
}

/**
 * Collects layers in order; each reads earlier ones. Its methods are torchreid's building blocks: they add the layers of
 * one module and return the module's value, under the module's path as an alias.
 */
class GraphBuilder {
  readonly nodes: LayerNode[] = [];
  readonly aliases: Map<string, string> = new Map();
  readonly gates: GateOutput[] = [];

  add(
    layer: string,
    op: Op,
    inputs: readonly Value[],
    at: Position,
    parameters: LayerNode["parameters"] = {},
    channels: number = inputs[0]?.channels ?? 0,
  ): Value {
    this.nodes.push({ name: layer, op, inputs: inputs.map((input) => input.layer), parameters, ...at });
    return { layer, channels };
  }

  /** Makes a container's path an alias of its last layer's output. */
  alias(module: string, value: Value): Value {
    if (module !== value.layer) this.aliases.set(module, value.layer);
    return value;
  }

  /** torch.nn.Conv2d. */
  conv(layer: string, input: Value, shape: ConvolutionShape, at: Position): Value {
    const { outChannels, kernel, stride = 1, depthwise = false, bias = false, module = layer } = shape;
    const op: Op = {
      kind: "conv",
      inChannels: input.channels,
      outChannels,
      kernel: square(kernel),
      stride: square(stride),
      padding: square((kernel - 1) / 2),
      groups: depthwise ? input.channels : 1,
      bias,
    };
    const parameters = bias ? affine(module) : { weight: `${module}.weight` };
    return this.add(layer, op, [input], at, parameters, outChannels);
  }

  /** torch.nn.Linear. */
  linear(layer: string, input: Value, outFeatures: number, at: Position): Value {
    const op: Op = { kind: "linear", inFeatures: input.channels, outFeatures };
    return this.add(layer, op, [input], at, affine(layer), outFeatures);
  }

  /** torch.nn.BatchNorm1d and BatchNorm2d. */
  batchNorm(layer: string, input: Value, at: Position): Value {
    const op: Op = { kind: "batchNorm", channels: input.channels, epsilon: NORM_EPSILON };
    const statistics = { runningMean: `${layer}.running_mean`, runningVar: `${layer}.running_var` };
    return this.add(layer, op, [input], at, { ...affine(layer), ...statistics });
  }

  /** torch.nn.InstanceNorm2d(affine=True). */
  instanceNorm(layer: string, input: Value, at: Position): Value {
    const op: Op = { kind: "instanceNorm", channels: input.channels, epsilon: NORM_EPSILON };
    return this.add(layer, op, [input], at, affine(layer));
  }

  /** torch.nn.LayerNorm((channels, 1, 1)); `module` is the path of its parameters. */
  layerNorm(layer: string, input: Value, at: Position, module: string): Value {
    const op: Op = { kind: "layerNorm", channels: input.channels, epsilon: NORM_EPSILON };
    return this.add(layer, op, [input], at, affine(module));
  }

  relu(layer: string, input: Value, at: Position): Value {
    return this.add(layer, { kind: "relu" }, [input], at);
  }

  /** torchreid's Conv1x1: a 1×1 convolution, batch norm and ReLU. */
  conv1x1(module: string, input: Value, outChannels: number, at: Position): Value {
    const norm = this.conv1x1Linear(module, input, outChannels, true, at);
    return this.alias(module, this.relu(`${module}.relu`, norm, at));
  }

  /** torchreid's Conv1x1Linear: a 1×1 convolution, with or without its batch norm. */
  conv1x1Linear(module: string, input: Value, outChannels: number, norm: boolean, at: Position): Value {
    const conv = this.conv(`${module}.conv`, input, { outChannels, kernel: 1 }, at);
    return this.alias(module, norm ? this.batchNorm(`${module}.bn`, conv, at) : conv);
  }

  /** torchreid's LightConv3x3: pointwise, then depthwise 3×3, then batch norm and ReLU. */
  lightConv3x3(module: string, input: Value, at: Position): Value {
    const { channels: outChannels } = input;
    const pointwise = this.conv(`${module}.conv1`, input, { outChannels, kernel: 1 }, at);
    const shape = { outChannels, kernel: 3, depthwise: true };
    const depthwise = this.conv(`${module}.conv2`, pointwise, shape, at);
    const norm = this.batchNorm(`${module}.bn`, depthwise, at);
    return this.alias(module, this.relu(`${module}.relu`, norm, at));
  }
}

function affine(module: string): Record<"weight" | "bias", string> {
  return { weight: `${module}.weight`, bias: `${module}.bias` };
}

function square(size: number): Size2d {
  return [size, size];
}

/** The name of the network's input in every layer graph. */
export const INPUT_NAME = "images";

/**
 * Expands a spec into its layer graph.
 *
 * Nodes are in topological order, which is also torchreid's `state_dict()` order: within a block, all streams before
 * all gates, and `downsample` before an instance norm inside the residual.
 *
 * Source: torchreid.models.osnet and osnet_ain (`forward`, evaluation mode); deep-person-reid
 * projects/OSNet_AIN/osnet_child.py (INv1–INv3) and projects/attribute_recognition/models/osnet.py.
 *
 * @throws InputError (`spec`) if the spec does not describe a valid network.
 */
export function expand(spec: OsnetSpec): LayerGraph {
  validateSpec(spec);
  const builder = new GraphBuilder();
  let value = addStem(builder, spec, builder.add(INPUT_NAME, { kind: "input" }, [], STEM, {}, 3));
  spec.stages.forEach((stage, index) => {
    value = addStage(builder, spec, stage, index + 2, value);
  });
  value = builder.conv1x1(`conv${spec.stages.length + 2}`, value, value.channels, HEAD);
  const features = addEmbedding(builder, spec, addPooling(builder, spec, value));
  const outputs = { features: features.layer, ...addHead(builder, spec, features) };
  const { nodes, aliases, gates } = builder;
  return { spec, nodes, aliases, gates, outputs };
}

function addStem(builder: GraphBuilder, { stem }: OsnetSpec, images: Value): Value {
  const conv = builder.conv("conv1.conv", images, { outChannels: stem.channels, kernel: 7, stride: 2 }, STEM);
  const norm =
    stem.norm === "batch"
      ? builder.batchNorm("conv1.bn", conv, STEM)
      : builder.instanceNorm("conv1.bn", conv, STEM);
  const relu = builder.alias("conv1", builder.relu("conv1.relu", norm, STEM));
  return builder.add(
    "maxpool",
    { kind: "maxPool", kernel: [3, 3], stride: [2, 2], padding: [1, 1] },
    [relu],
    STEM,
  );
}

function addStage(
  builder: GraphBuilder,
  spec: OsnetSpec,
  stage: StageSpec,
  number: number,
  input: Value,
): Value {
  let value = input;
  stage.blocks.forEach((block, index) => {
    value = addBlock(builder, spec, block, `conv${number}.${index}`, value);
  });
  const path = `conv${number}`;
  if (!stage.transition) return builder.alias(path, value);
  // The osnet dialect has the transition as the stage's last child, osnet_ain beside the stage.
  const inStage = spec.dialect === "osnet";
  if (!inStage) builder.alias(path, value);
  const transition = inStage ? `${path}.${stage.blocks.length}` : `pool${number}`;
  const reduced = builder.conv1x1(`${transition}.0`, value, value.channels, TRANSITION);
  const op: Op = { kind: "avgPool", kernel: [2, 2], stride: [2, 2] };
  const pooled = builder.add(`${transition}.1`, op, [reduced], TRANSITION);
  if (inStage) builder.alias(path, pooled);
  return builder.alias(transition, pooled);
}

/** A residual block (ICCV 2019, section 3.2): x + conv3(Σₜ gate(streamₜ) · streamₜ), then a ReLU. */
function addBlock(
  builder: GraphBuilder,
  spec: OsnetSpec,
  block: BlockSpec,
  path: string,
  input: Value,
): Value {
  const { outChannels, instanceNorm } = block;
  const at: Position = { part: "block", block: path };
  const reduced = builder.conv1x1(`${path}.conv1`, input, Math.floor(outChannels / block.reduction), at);
  const streams = Array.from({ length: block.streams }, (_, index) =>
    addStream(builder, spec.dialect, path, index + 1, reduced),
  );
  const gated = streams.map((stream, index) => addGate(builder, spec.gate, path, index + 1, stream));
  const [only = reduced, ...others] = gated;
  const aggregate = others.length > 0 ? builder.add(`${path}.aggregate`, { kind: "add" }, gated, at) : only;

  const inside = instanceNorm === "inside" || instanceNorm === "both";
  const outside = instanceNorm === "outside" || instanceNorm === "both";
  // An instance norm inside the residual takes the place of conv3's batch norm.
  let residual = builder.conv1x1Linear(`${path}.conv3`, aggregate, outChannels, !inside, at);
  const identity =
    input.channels === outChannels
      ? input
      : builder.conv1x1Linear(`${path}.downsample`, input, outChannels, true, at);
  const both = instanceNorm === "both";
  if (inside) residual = builder.instanceNorm(`${path}.${both ? "IN_in" : "IN"}`, residual, at);
  let sum = builder.add(`${path}.add`, { kind: "add" }, [residual, identity], at);
  if (outside) sum = builder.instanceNorm(`${path}.${both ? "IN_out" : "IN"}`, sum, at);
  return builder.relu(path, sum, at);
}

/** Stream t: t lightweight 3×3 convolutions, so that its receptive field is (2t + 1)². */
function addStream(builder: GraphBuilder, dialect: Dialect, block: string, t: number, input: Value): Value {
  const at: Position = { part: "stream", block, stream: t };
  const path =
    dialect === "osnet" ? `${block}.conv2${String.fromCharCode(96 + t)}` : `${block}.conv2.${t - 1}`;
  // torchreid's conv2a is a single LightConv3x3, conv2b and later are Sequentials; osnet_ain has `layers` for all.
  const container = dialect === "osnet" ? path : `${path}.layers`;
  let value = input;
  for (let index = 0; index < t; index++) {
    const alone = dialect === "osnet" && t === 1;
    value = builder.lightConv3x3(alone ? container : `${container}.${index}`, value, at);
  }
  builder.alias(container, value);
  return builder.alias(path, value);
}

/** The unified aggregation gate (ICCV 2019, section 3.2) applied to one stream; its weights are the block's. */
function addGate(builder: GraphBuilder, gate: GateSpec, block: string, t: number, stream: Value): Value {
  const { channels } = stream;
  const at: Position = { part: "gate", block, stream: t };
  const shared = `${block}.gate`;
  const path = `${shared}[${t}]`;
  const hidden = {
    outChannels: Math.floor(channels / gate.reduction),
    kernel: 1,
    bias: true,
    module: `${shared}.fc1`,
  };
  const weights = { outChannels: channels, kernel: 1, bias: true, module: `${shared}.fc2` };
  let value = builder.add(`${path}.global_avgpool`, { kind: "globalAvgPool" }, [stream], at);
  value = builder.conv(`${path}.fc1`, value, hidden, at);
  if (gate.layerNorm) value = builder.layerNorm(`${path}.norm1`, value, at, `${shared}.norm1`);
  value = builder.relu(`${path}.relu`, value, at);
  value = builder.conv(`${path}.fc2`, value, weights, at);
  if (gate.activation !== "linear")
    value = builder.add(`${path}.gate_activation`, { kind: gate.activation }, [value], at);
  builder.gates.push({ block, stream: t, layer: value.layer });
  return builder.add(path, { kind: "scale" }, [stream, value], at);
}

function addPooling(builder: GraphBuilder, { pooling, head }: OsnetSpec, input: Value): Value {
  // The attribute project calls its pooling `global_pool`, average or maximum; torchreid has average pooling only.
  const path = pooling === "max" || head?.loss === "sigmoid" ? "global_pool" : "global_avgpool";
  const op: Op = { kind: pooling === "max" ? "globalMaxPool" : "globalAvgPool" };
  return builder.add(`${path}.flatten`, { kind: "flatten" }, [builder.add(path, op, [input], HEAD)], HEAD);
}

function addEmbedding(builder: GraphBuilder, { embedding }: OsnetSpec, pooled: Value): Value {
  let value = pooled;
  embedding.forEach((width, index) => {
    const path = (offset: number): string => `fc.${3 * index + offset}`;
    const norm = builder.batchNorm(path(1), builder.linear(path(0), value, width, HEAD), HEAD);
    value = builder.alias("fc", builder.relu(path(2), norm, HEAD));
  });
  return value;
}

function addHead(
  builder: GraphBuilder,
  { head }: OsnetSpec,
  features: Value,
): Omit<GraphOutputs, "features"> {
  if (!head) return { evaluation: "features" };
  const logits = builder.linear("classifier", features, head.classes, HEAD);
  if (head.loss !== "sigmoid") return { logits: logits.layer, evaluation: "features" };
  const { layer: probabilities } = builder.add("classifier.sigmoid", { kind: "sigmoid" }, [logits], HEAD);
  return { logits: logits.layer, probabilities, evaluation: "probabilities" };
}
