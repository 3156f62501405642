import type { GateOutput, GraphOutputs, LayerGraph, LayerNode } from "./graph.js";
import type { Op, Size2d } from "./ops.js";
import { type BlockSpec, NORM_EPSILON, type OsnetSpec, type StageSpec } from "./spec.js";
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
  const network = new NetworkBuilder(spec);
  network.stem();
  spec.stages.forEach((stage, index) => {
    network.stage(stage, index + 2);
  });
  return network.tail();
}

/** Where a layer stands: its block and stream, if any. */
type Position = Pick<LayerNode, "block" | "stream">;

interface ConvolutionShape {
  readonly kernel: number;
  readonly stride?: number;
  readonly depthwise?: boolean;
  readonly bias?: boolean;
}

/** Appends layers in order, each reading earlier ones; `current` is the last value on the main path. */
class NetworkBuilder {
  private readonly nodes: LayerNode[] = [];
  private readonly aliases = new Map<string, string>();
  private readonly gates: GateOutput[] = [];
  private current: string;
  private channels = 3;
  private readonly spec: OsnetSpec;

  constructor(spec: OsnetSpec) {
    this.spec = spec;
    this.current = this.add(INPUT_NAME, { kind: "input" }, []);
  }

  stem(): void {
    const { channels, norm } = this.spec.stem;
    this.conv("conv1.conv", this.current, 3, channels, { kernel: 7, stride: 2 });
    if (norm === "batch") this.batchNorm("conv1.bn", "conv1.conv", channels);
    else this.instanceNorm("conv1.bn", "conv1.conv", channels);
    const relu = this.alias("conv1", this.add("conv1.relu", { kind: "relu" }, ["conv1.bn"]));
    this.current = this.add("maxpool", { kind: "maxPool", kernel: [3, 3], stride: [2, 2], padding: [1, 1] }, [
      relu,
    ]);
    this.channels = channels;
  }

  stage(stage: StageSpec, number: number): void {
    stage.blocks.forEach((block, index) => {
      this.block(block, `conv${number}.${index}`);
    });
    this.alias(`conv${number}`, this.current);
    if (!stage.transition) return;
    const path = this.spec.dialect === "osnet" ? `conv${number}.${stage.blocks.length}` : `pool${number}`;
    const reduced = this.convBnRelu(`${path}.0`, this.current, this.channels, this.channels);
    this.current = this.add(`${path}.1`, { kind: "avgPool", kernel: [2, 2], stride: [2, 2] }, [reduced]);
    this.alias(path, this.current);
    if (this.spec.dialect === "osnet") this.alias(`conv${number}`, this.current);
  }

  tail(): LayerGraph {
    const { stages, pooling, head } = this.spec;
    const last = this.convBnRelu(`conv${stages.length + 2}`, this.current, this.channels, this.channels);
    // The attribute project calls its pooling `global_pool` whichever it is; torchreid has average pooling only.
    const pool = pooling === "max" || head?.loss === "sigmoid" ? "global_pool" : "global_avgpool";
    this.add(pool, { kind: pooling === "max" ? "globalMaxPool" : "globalAvgPool" }, [last]);
    const features = this.embedding(this.add(`${pool}.flatten`, { kind: "flatten" }, [pool]));
    return {
      spec: this.spec,
      nodes: this.nodes,
      aliases: this.aliases,
      gates: this.gates,
      outputs: { features, ...this.head(features) },
    };
  }

  private embedding(pooled: string): string {
    let features = pooled;
    this.spec.embedding.forEach((width, index) => {
      const [linear, norm, relu] = [0, 1, 2].map((offset) => `fc.${3 * index + offset}`) as [
        string,
        string,
        string,
      ];
      this.linear(linear, features, this.channels, width);
      this.batchNorm(norm, linear, width);
      features = this.alias("fc", this.add(relu, { kind: "relu" }, [norm]));
      this.channels = width;
    });
    return features;
  }

  private head(features: string): Omit<GraphOutputs, "features"> {
    const { head } = this.spec;
    if (!head) return { evaluation: "features" };
    const logits = this.linear("classifier", features, this.channels, head.classes);
    if (head.loss !== "sigmoid") return { logits, evaluation: "features" };
    const probabilities = this.add("classifier.sigmoid", { kind: "sigmoid" }, [logits]);
    return { logits, probabilities, evaluation: "probabilities" };
  }

  /** A residual block (ICCV 2019, section 3.2): x + conv3(Σₜ gate(streamₜ) · streamₜ), then a ReLU. */
  private block(spec: BlockSpec, path: string): void {
    const at: Position = { block: path };
    const { inChannels, outChannels, instanceNorm } = spec;
    const bottleneck = Math.floor(outChannels / spec.reduction);
    const input = this.current;
    const reduced = this.convBnRelu(`${path}.conv1`, input, inChannels, bottleneck, at);
    const streams = Array.from({ length: spec.streams }, (_, index) => index + 1);
    const scales = streams.map((t) => this.stream(path, t, reduced, bottleneck));
    const gated = streams.map((t) => this.gate(path, t, scales[t - 1] ?? reduced, bottleneck));
    const aggregate =
      gated.length === 1 ? gated[0] : this.add(`${path}.aggregate`, { kind: "add" }, gated, {}, at);

    const inside = instanceNorm === "inside" || instanceNorm === "both";
    const outside = instanceNorm === "outside" || instanceNorm === "both";
    const [insideName, outsideName] = instanceNorm === "both" ? ["IN_in", "IN_out"] : ["IN", "IN"];
    // An instance norm inside the residual takes the place of conv3's batch norm.
    let residual = this.convLinear(
      `${path}.conv3`,
      aggregate ?? reduced,
      bottleneck,
      outChannels,
      !inside,
      at,
    );
    const identity =
      inChannels === outChannels
        ? input
        : this.convLinear(`${path}.downsample`, input, inChannels, outChannels, true, at);
    if (inside) residual = this.instanceNorm(`${path}.${insideName}`, residual, outChannels, at);
    let sum = this.add(`${path}.add`, { kind: "add" }, [residual, identity], {}, at);
    if (outside) sum = this.instanceNorm(`${path}.${outsideName}`, sum, outChannels, at);
    this.current = this.add(path, { kind: "relu" }, [sum], {}, at);
    this.channels = outChannels;
  }

  /** Stream t: t lightweight 3×3 convolutions, so that its receptive field is (2t + 1)². */
  private stream(block: string, t: number, input: string, channels: number): string {
    const at: Position = { block, stream: t };
    const osnet = this.spec.dialect === "osnet";
    const path = osnet ? `${block}.conv2${String.fromCharCode(96 + t)}` : `${block}.conv2.${t - 1}`;
    // torchreid's conv2a is a bare LightConv3x3, the others are Sequentials of it.
    const prefix = osnet ? path : `${path}.layers`;
    let current = input;
    for (let index = 0; index < t; index++) {
      const light = osnet && t === 1 ? prefix : `${prefix}.${index}`;
      this.conv(`${light}.conv1`, current, channels, channels, { kernel: 1 }, at);
      this.conv(`${light}.conv2`, `${light}.conv1`, channels, channels, { kernel: 3, depthwise: true }, at);
      this.batchNorm(`${light}.bn`, `${light}.conv2`, channels, at);
      current = this.alias(light, this.add(`${light}.relu`, { kind: "relu" }, [`${light}.bn`], {}, at));
    }
    this.alias(prefix, current);
    return this.alias(path, current);
  }

  /** The unified aggregation gate (ICCV 2019, section 3.2) applied to one stream; its weights are the block's. */
  private gate(block: string, t: number, input: string, channels: number): string {
    const { reduction, layerNorm, activation } = this.spec.gate;
    const at: Position = { block, stream: t };
    const shared = `${block}.gate`;
    const path = `${shared}[${t}]`;
    const hidden = Math.floor(channels / reduction);
    const pooled = this.add(`${path}.global_avgpool`, { kind: "globalAvgPool" }, [input], {}, at);
    let value = this.conv(
      `${path}.fc1`,
      pooled,
      channels,
      hidden,
      { kernel: 1, bias: true },
      at,
      `${shared}.fc1`,
    );
    if (layerNorm) {
      const norm: Op = { kind: "layerNorm", channels: hidden, epsilon: NORM_EPSILON };
      value = this.add(`${path}.norm1`, norm, [value], affine(`${shared}.norm1`), at);
    }
    value = this.add(`${path}.relu`, { kind: "relu" }, [value], {}, at);
    value = this.conv(`${path}.fc2`, value, hidden, channels, { kernel: 1, bias: true }, at, `${shared}.fc2`);
    if (activation !== "linear")
      value = this.add(`${path}.gate_activation`, { kind: activation }, [value], {}, at);
    this.gates.push({ block, stream: t, layer: value });
    return this.add(path, { kind: "scale" }, [input, value], {}, at);
  }

  private convBnRelu(path: string, input: string, from: number, to: number, at: Position = {}): string {
    const norm = this.convLinear(path, input, from, to, true, at);
    return this.alias(path, this.add(`${path}.relu`, { kind: "relu" }, [norm], {}, at));
  }

  /** torchreid's Conv1x1Linear: a 1×1 convolution without bias, with or without its batch norm. */
  private convLinear(
    path: string,
    input: string,
    from: number,
    to: number,
    norm: boolean,
    at: Position,
  ): string {
    const conv = this.conv(`${path}.conv`, input, from, to, { kernel: 1 }, at);
    return this.alias(path, norm ? this.batchNorm(`${path}.bn`, conv, to, at) : conv);
  }

  private conv(
    name: string,
    input: string,
    inChannels: number,
    outChannels: number,
    shape: ConvolutionShape,
    at: Position = {},
    module: string = name,
  ): string {
    const { kernel, stride = 1, depthwise = false, bias = false } = shape;
    const op: Op = {
      kind: "conv",
      inChannels,
      outChannels,
      kernel: square(kernel),
      stride: square(stride),
      padding: square((kernel - 1) / 2),
      groups: depthwise ? inChannels : 1,
      bias,
    };
    const parameters = bias ? affine(module) : { weight: `${module}.weight` };
    return this.add(name, op, [input], parameters, at);
  }

  private linear(name: string, input: string, inFeatures: number, outFeatures: number): string {
    return this.add(name, { kind: "linear", inFeatures, outFeatures }, [input], affine(name));
  }

  private batchNorm(name: string, input: string, channels: number, at: Position = {}): string {
    const op: Op = { kind: "batchNorm", channels, epsilon: NORM_EPSILON };
    const statistics = { runningMean: `${name}.running_mean`, runningVar: `${name}.running_var` };
    return this.add(name, op, [input], { ...affine(name), ...statistics }, at);
  }

  private instanceNorm(name: string, input: string, channels: number, at: Position = {}): string {
    const op: Op = { kind: "instanceNorm", channels, epsilon: NORM_EPSILON };
    return this.add(name, op, [input], affine(name), at);
  }

  private add(
    name: string,
    op: Op,
    inputs: readonly string[],
    parameters: LayerNode["parameters"] = {},
    at: Position = {},
  ): string {
    this.nodes.push({ name, op, inputs, parameters, ...at });
    return name;
  }

  private alias(module: string, layer: string): string {
    if (module !== layer) this.aliases.set(module, layer);
    return layer;
  }
}

function affine(module: string): Record<"weight" | "bias", string> {
  return { weight: `${module}.weight`, bias: `${module}.bias` };
}

function square(size: number): Size2d {
  return [size, size];
}
