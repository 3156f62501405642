import type { GateOutput, LayerNode } from "./graph.js";
import type { Op, Size2d } from "./ops.js";
import { NORM_EPSILON } from "./spec.js";

/** Where a layer stands: its block and stream, if any. */
export type Position = Pick<LayerNode, "block" | "stream">;

/** A value of the network: the layer that computes it, and its channels. */
export interface Value {
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
  /** Path of the parameters, where it is not the layer's name: a gate's layers are named per stream. */
  readonly module?: string;
}

/**
 * Collects layers in order; each reads earlier ones. Its methods are torchreid's building blocks: they add the layers of
 * one module and return the module's value, under the module's path as an alias.
 */
export class GraphBuilder {
  readonly nodes: LayerNode[] = [];
  readonly aliases: Map<string, string> = new Map();
  readonly gates: GateOutput[] = [];

  add(
    layer: string,
    op: Op,
    inputs: readonly Value[],
    at: Position = {},
    parameters: LayerNode["parameters"] = {},
    channels: number = inputs[0]?.channels ?? 0,
  ): Value {
    this.nodes.push({ name: layer, op, inputs: inputs.map((input) => input.layer), parameters, ...at });
    return { layer, channels };
  }

  /** Lets a container's path name its last layer's output. */
  alias(module: string, value: Value): Value {
    if (module !== value.layer) this.aliases.set(module, value.layer);
    return value;
  }

  /** torch.nn.Conv2d. */
  conv(layer: string, input: Value, shape: ConvolutionShape, at: Position = {}): Value {
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
  linear(layer: string, input: Value, outFeatures: number): Value {
    const op: Op = { kind: "linear", inFeatures: input.channels, outFeatures };
    return this.add(layer, op, [input], {}, affine(layer), outFeatures);
  }

  /** torch.nn.BatchNorm1d and BatchNorm2d. */
  batchNorm(layer: string, input: Value, at: Position = {}): Value {
    const op: Op = { kind: "batchNorm", channels: input.channels, epsilon: NORM_EPSILON };
    const statistics = { runningMean: `${layer}.running_mean`, runningVar: `${layer}.running_var` };
    return this.add(layer, op, [input], at, { ...affine(layer), ...statistics });
  }

  /** torch.nn.InstanceNorm2d(affine=True). */
  instanceNorm(layer: string, input: Value, at: Position = {}): Value {
    const op: Op = { kind: "instanceNorm", channels: input.channels, epsilon: NORM_EPSILON };
    return this.add(layer, op, [input], at, affine(layer));
  }

  /** torch.nn.LayerNorm((channels, 1, 1)); `module` is the path of its parameters. */
  layerNorm(layer: string, input: Value, at: Position, module: string): Value {
    const op: Op = { kind: "layerNorm", channels: input.channels, epsilon: NORM_EPSILON };
    return this.add(layer, op, [input], at, affine(module));
  }

  relu(layer: string, input: Value, at: Position = {}): Value {
    return this.add(layer, { kind: "relu" }, [input], at);
  }

  /** torchreid's Conv1x1: a 1×1 convolution, batch norm and ReLU. */
  conv1x1(module: string, input: Value, outChannels: number, at: Position = {}): Value {
    const norm = this.conv1x1Linear(module, input, outChannels, true, at);
    return this.alias(module, this.relu(`${module}.relu`, norm, at));
  }

  /** torchreid's Conv1x1Linear: a 1×1 convolution, with or without its batch norm. */
  conv1x1Linear(module: string, input: Value, outChannels: number, norm: boolean, at: Position = {}): Value {
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
