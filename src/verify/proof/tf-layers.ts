import type { Size2d } from "../../arch/index.js";
import { arrayOf, type JsonObject, objectOf } from "../../convert/formats/tfjs/json.js";
import type { TfjsLayersModel } from "../../convert/formats/tfjs/model.js";
import { type LayerCall, readTopology } from "../../convert/formats/tfjs/topology.js";
import type { Tensor } from "../../core/tensor.js";
import { type Operation, type ProofDocument, unknown } from "./operations.js";
import { convolution, inNchw, product } from "./tf-graph.js";

/**
 * A layers model as the proof reads it: which Keras layers it supports, with which configurations. A layer's weights
 * have the names by which tfjs loads them, `LAYER/kernel`.
 *
 * Source: tfjs-layers (4.22), `src/layers`.
 */

type Check = (value: unknown) => boolean;

const is =
  (wanted: unknown): Check =>
  (value) =>
    JSON.stringify(value) === JSON.stringify(wanted);
const any: Check = () => true;

/** Settings that every layer may have, and those that only training reads. */
const COMMON: ReadonlyMap<string, Check> = new Map(
  Object.entries({
    name: any,
    trainable: any,
    dtype: is("float32"),
    data_format: is("channels_last"),
    kernel_initializer: any,
    bias_initializer: any,
    depthwise_initializer: any,
    kernel_regularizer: any,
    bias_regularizer: any,
    depthwise_regularizer: any,
    activity_regularizer: any,
    momentum: any,
  }),
);

/** Layers that compute only an activation, by name. */
const ACTIVATIONS = { relu: "relu", sigmoid: "sigmoid", softsign: "softsign", linear: "identity" } as const;

/** @returns the model's values, or why the proof cannot read it */
export function readLayers(model: TfjsLayersModel, subject: string): ProofDocument | string {
  if (model.missing) return `weights are missing: ${model.missing.join(", ")}`;
  const { calls, outputs } = readTopology(model, subject);
  const inputs = calls.filter(({ className }) => className === "InputLayer");
  const [input] = inputs;
  const shape = input?.config.batch_input_shape;
  if (
    !input ||
    inputs.length !== 1 ||
    !Array.isArray(shape) ||
    shape.length !== 4 ||
    input.config.dtype !== "float32"
  )
    return "the model has inputs other than the images";
  if (!isPlain(model.topology, input.layer)) return "the topology has members that the proof does not read";
  if (calls.some(({ hasArguments }) => hasArguments))
    return "a layer is called with arguments besides its inputs";
  const byValue = new Map(calls.map((call) => [call.value, call]));
  if (byValue.size < calls.length) return "two layers have one name";
  const [, height, width] = shape;

  const read = ({ layer, className, config, inputs }: LayerCall): Operation | undefined => {
    const [x = "", ...others] = inputs;
    const weight = (name: string): Tensor | undefined => {
      const found = model.weights.get(`${layer}/${name}`);
      return found?.stored ? undefined : found?.tensor;
    };
    const known = (own: Readonly<Record<string, Check>>): boolean =>
      Object.entries(config).every(([key, value]) => checkOf(own, key)?.(value) === true) &&
      Object.keys(own).every((key) => Object.hasOwn(config, key));
    if (className === "Add" || className === "Multiply")
      return known({}) && inputs.length > 1
        ? { kind: "call", name: className === "Add" ? "add" : "multiply", inputs }
        : undefined;
    if (others.length > 0) return undefined;
    switch (className) {
      case "Conv2D":
      case "DepthwiseConv2D": {
        const isDepthwise = className === "DepthwiseConv2D";
        const kernel = weight(isDepthwise ? "depthwise_kernel" : "kernel");
        const bias = weight("bias");
        const stride = sizeOf(config, "strides");
        const [rows = 0, columns = 0] = kernel?.shape ?? [];
        const isKnown = known({
          kernel_size: is([rows, columns]),
          strides: any,
          padding: (value) => value === "valid" || value === "same",
          dilation_rate: is([1, 1]),
          activation: is("linear"),
          use_bias: is(bias !== undefined),
          ...(isDepthwise ? { depth_multiplier: is(1) } : { filters: is(kernel?.shape[3]) }),
        });
        if (!isKnown || !kernel || !stride) return undefined;
        const padding = config.padding === "same" ? "same" : ([0, 0] as const);
        return convolution(x, { weight: kernel, bias, stride, padding, isDepthwise });
      }
      case "Dense": {
        const [kernel, bias] = [weight("kernel"), weight("bias")];
        const isKnown = known({ units: is(bias?.shape[0]), activation: is("linear"), use_bias: is(true) });
        return isKnown && kernel && bias ? product(x, kernel, bias) : undefined;
      }
      case "BatchNormalization": {
        const constants = ["gamma", "beta", "moving_mean", "moving_variance"].flatMap(
          (name) => weight(name) ?? [],
        );
        const isKnown = known({ axis: is(-1), epsilon: isNumber }) && constants.length === 4;
        return isKnown ? { kind: "batchNorm", x, constants, epsilon: Number(config.epsilon) } : undefined;
      }
      case "LayerNormalization": {
        const [gamma, beta] = [weight("gamma"), weight("beta")];
        const axes = Array.isArray(config.axis)
          ? config.axis.map((axis) => (axis === -1 ? 3 : Number(axis)))
          : [];
        const isKnown = known({
          axis: any,
          epsilon: isNumber,
          center: is(beta !== undefined),
          scale: is(gamma !== undefined),
        });
        if (!isKnown) return undefined;
        return {
          kind: "normalise",
          x,
          axes: inNchw(axes),
          epsilon: Number(config.epsilon),
          gamma,
          beta,
        };
      }
      case "Activation": {
        const name = Object.entries(ACTIVATIONS).find(([key]) => key === config.activation)?.[1];
        return name && known({ activation: any }) ? { kind: "call", name, inputs } : undefined;
      }
      case "MaxPooling2D":
      case "AveragePooling2D": {
        const [window, stride] = [sizeOf(config, "pool_size"), sizeOf(config, "strides")];
        const isKnown = known({ pool_size: any, strides: any, padding: is("valid") });
        if (!isKnown || !window || !stride) return undefined;
        const type = className === "MaxPooling2D" ? "max" : "mean";
        return { kind: "pool", type, x, window, stride, padding: [0, 0] };
      }
      case "ZeroPadding2D": {
        const [[top, bottom], [left, right]] = pairs(config.padding);
        const isKnown = known({ padding: any }) && top === bottom && left === right;
        return isKnown && isCount(top) && isCount(left)
          ? { kind: "pad", x, sizes: [top, left], value: 0 }
          : undefined;
      }
      case "Rescaling":
        return known({ scale: isNumber, offset: isNumber })
          ? { kind: "rescale", x, factor: Number(config.scale), offset: Number(config.offset) }
          : undefined;
      case "Flatten":
        return known({}) ? { kind: "flatten", x } : undefined;
      default:
        return undefined;
    }
  };

  return {
    input: input.value,
    size: isCount(height) && isCount(width) ? [height, width] : undefined,
    outputs: outputs.map((value) => ({ name: value, value })),
    operation: (value) => {
      const call = byValue.get(value);
      return (call && read(call)) ?? unknown();
    },
    // A layers model has no constants except its layers' weights.
    number: () => undefined,
    channels: () => undefined,
    tails: () => [],
    describe: (value) =>
      `layer ${JSON.stringify(value)} (${byValue.get(value)?.className ?? "which is not there"})`,
  };
}

function checkOf(own: Readonly<Record<string, Check>>, key: string): Check | undefined {
  return Object.hasOwn(own, key) ? own[key] : COMMON.get(key);
}

/** Whether the model, its layers and its input have no members but the ones that are read here or by `readTopology`. */
function isPlain(topology: JsonObject, input: string): boolean {
  const root = objectOf(topology.model_config ?? topology);
  const { layers, input_layers: images } = objectOf(root.config);
  const all = arrayOf(layers).map(objectOf);
  return (
    root.class_name !== "Sequential" &&
    JSON.stringify(images) === JSON.stringify([[input, 0, 0]]) &&
    hasOnly(objectOf(root.config), ["name", "trainable", "layers", "input_layers", "output_layers"]) &&
    all.every(
      (layer) =>
        hasOnly(layer, ["class_name", "name", "config", "inbound_nodes"]) &&
        (layer.class_name !== "InputLayer" ||
          hasOnly(objectOf(layer.config), ["name", "batch_input_shape", "dtype", "sparse", "ragged"])),
    )
  );
}

function hasOnly(object: JsonObject, keys: readonly string[]): boolean {
  return Object.keys(object).every((key) => keys.includes(key));
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0;
}

function sizeOf(config: JsonObject, key: string): Size2d | undefined {
  const value = config[key];
  if (!Array.isArray(value) || value.length !== 2) return undefined;
  const [height, width] = value;
  return isCount(height) && isCount(width) ? [height, width] : undefined;
}

function pairs(value: unknown): readonly [readonly unknown[], readonly unknown[]] {
  const [rows, columns] = Array.isArray(value) && value.length === 2 ? value : [];
  return [Array.isArray(rows) ? rows : [], Array.isArray(columns) ? columns : []];
}
