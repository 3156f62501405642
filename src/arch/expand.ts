import type { GraphOutputs, LayerGraph } from "./graph.js";
import { GraphBuilder, type Position, type Value } from "./graph-builder.js";
import type { BlockSpec, Dialect, GateSpec, OsnetSpec, StageSpec } from "./spec.js";
import { validateSpec } from "./validate-spec.js";

/** The name of the network's input in every layer graph. */
export const INPUT_NAME = "images";

/**
 * Expands a spec into its layer graph.
 *
 * Nodes come in an order that is topological and, read for its parameters, torchreid's `state_dict()` order: within a
 * block that means all streams before all gates, and `downsample` before an instance norm inside the residual.
 *
 * Source: torchreid.models.osnet and osnet_ain (`forward`, evaluation mode); deep-person-reid
 * projects/OSNet_AIN/osnet_child.py (INv1–INv3) and projects/attribute_recognition/models/osnet.py.
 *
 * @throws InputError (`spec`) if no network can follow the spec.
 */
export function expand(spec: OsnetSpec): LayerGraph {
  validateSpec(spec);
  const builder = new GraphBuilder();
  let value = addStem(builder, spec, builder.add(INPUT_NAME, { kind: "input" }, [], {}, {}, 3));
  spec.stages.forEach((stage, index) => {
    value = addStage(builder, spec, stage, index + 2, value);
  });
  value = builder.conv1x1(`conv${spec.stages.length + 2}`, value, value.channels);
  const features = addEmbedding(builder, spec, addPooling(builder, spec, value));
  const outputs = { features: features.layer, ...addHead(builder, spec, features) };
  const { nodes, aliases, gates } = builder;
  return { spec, nodes, aliases, gates, outputs };
}

function addStem(builder: GraphBuilder, { stem }: OsnetSpec, images: Value): Value {
  const conv = builder.conv("conv1.conv", images, { outChannels: stem.channels, kernel: 7, stride: 2 });
  const norm =
    stem.norm === "batch" ? builder.batchNorm("conv1.bn", conv) : builder.instanceNorm("conv1.bn", conv);
  const relu = builder.alias("conv1", builder.relu("conv1.relu", norm));
  return builder.add("maxpool", { kind: "maxPool", kernel: [3, 3], stride: [2, 2], padding: [1, 1] }, [relu]);
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
  const reduced = builder.conv1x1(`${transition}.0`, value, value.channels);
  const pooled = builder.add(`${transition}.1`, { kind: "avgPool", kernel: [2, 2], stride: [2, 2] }, [
    reduced,
  ]);
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
  const at: Position = { block: path };
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
  const at: Position = { block, stream: t };
  const path =
    dialect === "osnet" ? `${block}.conv2${String.fromCharCode(96 + t)}` : `${block}.conv2.${t - 1}`;
  // torchreid's conv2a is a LightConv3x3 by itself, conv2b and on are Sequentials; osnet_ain has `layers` for all.
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
  const at: Position = { block, stream: t };
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
  // The attribute project calls its pooling `global_pool` whichever it is; torchreid has average pooling only.
  const path = pooling === "max" || head?.loss === "sigmoid" ? "global_pool" : "global_avgpool";
  const pooled = builder.add(path, { kind: pooling === "max" ? "globalMaxPool" : "globalAvgPool" }, [input]);
  return builder.add(`${path}.flatten`, { kind: "flatten" }, [pooled]);
}

function addEmbedding(builder: GraphBuilder, { embedding }: OsnetSpec, pooled: Value): Value {
  let value = pooled;
  embedding.forEach((width, index) => {
    const path = (offset: number): string => `fc.${3 * index + offset}`;
    const norm = builder.batchNorm(path(1), builder.linear(path(0), value, width));
    value = builder.alias("fc", builder.relu(path(2), norm));
  });
  return value;
}

function addHead(
  builder: GraphBuilder,
  { head }: OsnetSpec,
  features: Value,
): Omit<GraphOutputs, "features"> {
  if (!head) return { evaluation: "features" };
  const logits = builder.linear("classifier", features, head.classes);
  if (head.loss !== "sigmoid") return { logits: logits.layer, evaluation: "features" };
  const { layer: probabilities } = builder.add("classifier.sigmoid", { kind: "sigmoid" }, [logits]);
  return { logits: logits.layer, probabilities, evaluation: "probabilities" };
}
