import type { LayerGraph, LayerNode, Op, OpKind, ParameterRole, Size2d } from "../../arch/graph.js";
import { outputShapes } from "../../arch/shapes.js";
import { variantOf } from "../../arch/variants.js";
import { InputError } from "../../core/errors.js";
import type { Shape, StateDict, Tensor } from "../../core/tensor.js";
import type { JsonObject } from "../formats/tfjs/json.js";
import type { QuantizedDType, TfjsLayersModel, TfjsWeight } from "../formats/tfjs/model.js";
import { modelMetadata } from "./metadata.js";
import { writtenWeights } from "./negligible.js";
import { IMAGENET, type PixelOrder } from "./options.js";
import { resolveTfjsOptions, type TfjsOptions } from "./tfjs-graph-model.js";
import { type KerasCall, kerasCall, NORMALIZED_LAYER, storedWeight, toTensorFlow } from "./tfjs-names.js";
import { padsAsSame, perChannel } from "./tfjs-operators.js";
import { type NodeWeights, neededNetwork } from "./weights.js";

/** The options of a graph model except for the names and `fuse`: Keras names layers only. */
export type TfjsLayersOptions = Omit<TfjsOptions, "fuse" | "inputName" | "outputName">;

/** Name of the input. */
const IMAGES = "images";

/** A layer of the model with all its calls. */
interface KerasLayer {
  readonly step: KerasStep;
  readonly calls: (readonly KerasCall[])[];
}

/**
 * Writes a network in standard Keras layers for `tf.loadLayersModel`, trainable: input [batch, height, width, 3].
 *
 * A layer is named after its module; a gate's modules are one layer each, called once per stream (`kerasCall`). Weights
 * are called `MODULE/kernel`, `MODULE/gamma` …
 *
 * @throws InputError (`argument`, `tensor`, `state-dict`) for options or weights that do not fit the network
 */
export function lowerToTfjsLayers(
  graph: LayerGraph,
  stateDict: StateDict,
  options: TfjsLayersOptions = {},
): TfjsLayersModel {
  const resolved = resolveTfjsOptions(graph, options);
  const { fold, results, batch, size, preprocess, quantize, keepDenormals } = resolved;
  if (size === "dynamic") throw refuseAnySize();
  const images = [1, 3, size.height, size.width];
  const network = neededNetwork(graph, fold, results);
  const written = writtenWeights(network, stateDict, keepDenormals || quantize !== undefined);
  const shapes = outputShapes(graph, images);
  const ops = new Map(network.nodes.map(({ name, op }) => [name, op]));
  const layers = new Map<string, KerasLayer>();
  const weights = new Map<string, TfjsWeight>(preprocess && normalizedWeights(preprocess));
  if (preprocess)
    layers.set(NORMALIZED_LAYER, { step: NORMALIZED_STEP, calls: [[{ layer: IMAGES, call: 0 }]] });
  const source: KerasCall = { layer: preprocess ? NORMALIZED_LAYER : IMAGES, call: 0 };
  const callOf = (name: string): KerasCall => (ops.get(name)?.kind === "input" ? source : kerasCall(name));
  for (const node of network.nodes) {
    if (node.op.kind === "input") continue;
    const [first = ""] = node.inputs;
    const steps = kerasSteps(node.op, {
      input: shapes.get(first) ?? [],
      fromRelu: ops.get(first)?.kind === "relu",
    });
    addCalls(layers, node, steps, callOf);
    addWeights(weights, node, steps, written.of(node), quantize);
  }
  const inputShape = [batch === "dynamic" ? null : batch, size.height, size.width, 3];
  return {
    format: "layers-model",
    generatedBy: "osnet-convert",
    convertedBy: "osnet-convert",
    metadata: modelMetadata(graph.spec, resolved, written.zeroed),
    topology: {
      keras_version: "2.15.0",
      backend: "tensorflow",
      model_config: {
        class_name: "Functional",
        config: {
          name: variantOf(graph.spec) ?? "osnet",
          trainable: true,
          layers: [inputLayer(inputShape), ...Array.from(layers, ([name, layer]) => layerJson(name, layer))],
          input_layers: [[IMAGES, 0, 0]],
          output_layers: results.map(({ layer }) => reference(kerasCall(layer))),
        },
      },
    },
    weights,
  };
}

/** Adds a layer's call to the model: the first of its steps reads its inputs, each other one the step before. */
function addCalls(
  layers: Map<string, KerasLayer>,
  node: LayerNode,
  steps: readonly KerasStep[],
  callOf: (name: string) => KerasCall,
): void {
  const { layer: name, call } = kerasCall(node.name);
  const own = node.inputs.map(callOf);
  let inputs = own;
  for (const step of steps) {
    const { reads } = step;
    if (reads)
      inputs = reads.flatMap((suffix) => (suffix === INPUT ? own : { layer: `${name}${suffix}`, call }));
    const layer = `${name}${step.suffix ?? ""}`;
    const entry = layers.get(layer) ?? { step, calls: [] };
    // A call's number is its stream's: the graph has the streams in order.
    if (entry.calls.length !== call) throw new Error(`${node.name} is not call ${call} of ${layer}`);
    entry.calls.push(inputs);
    layers.set(layer, entry);
    inputs = [{ layer, call }];
  }
}

function addWeights(
  weights: Map<string, TfjsWeight>,
  node: LayerNode,
  steps: readonly KerasStep[],
  values: NodeWeights,
  quantize: QuantizedDType | undefined,
): void {
  const { layer } = kerasCall(node.name);
  const names = steps.at(-1)?.weights ?? {};
  for (const [key, { tensor }] of Object.entries(values)) {
    const role = key as ParameterRole;
    const laidOut = kerasShape(node.op, role, toTensorFlow(node.op, role, tensor));
    weights.set(`${layer}/${names[role]}`, storedWeight(node.op, role, laidOut, quantize));
  }
}

function layerJson(name: string, { step, calls }: KerasLayer): JsonObject {
  return {
    class_name: step.className,
    name,
    config: { name, trainable: true, dtype: "float32", ...step.config },
    inbound_nodes: calls.map((inputs) => inputs.map((call) => [...reference(call), {}])),
  };
}

function inputLayer(shape: readonly (number | null)[]): JsonObject {
  const config = { name: IMAGES, batch_input_shape: shape, dtype: "float32", sparse: false };
  return { class_name: "InputLayer", name: IMAGES, config, inbound_nodes: [] };
}

function reference({ layer, call }: KerasCall): readonly [string, number, number] {
  return [layer, call, 0];
}

function refuseAnySize(): InputError {
  return new InputError({
    code: "argument",
    subject: "--size",
    found: "dynamic",
    expected: "a fixed size for a layers model",
    remedy: "use a size such as 256x128, or write a graph model",
  });
}

/**
 * Normalisation as a Keras layer. Keras has no division per channel, so this is a 1×1 convolution: x / (255 ·
 * deviation) − mean / deviation for each channel, in RGB order. It is not trainable.
 */
const NORMALIZED_STEP: KerasStep = {
  className: "Conv2D",
  config: {
    data_format: "channels_last",
    filters: 3,
    kernel_size: [1, 1],
    strides: [1, 1],
    padding: "valid",
    dilation_rate: [1, 1],
    activation: "linear",
    use_bias: true,
    trainable: false,
  },
};

/** The weights of that layer: kernel [1, 1, in, out], whose zeros add nothing, and bias. */
function normalizedWeights(order: PixelOrder): ReadonlyMap<string, TfjsWeight> {
  const { white, mean, deviation } = IMAGENET;
  const kernel = new Float32Array(9);
  for (let channel = 0; channel < 3; channel++) {
    const pixelChannel = order === "bgr" ? 2 - channel : channel;
    kernel[pixelChannel * 3 + channel] = 1 / (white * (deviation[channel] ?? 1));
  }
  const bias = deviation.map((value, channel) => -(mean[channel] ?? 0) / value);
  return new Map([
    [`${NORMALIZED_LAYER}/kernel`, { tensor: { dtype: "float32", shape: [1, 1, 3, 3], data: kernel } }],
    [`${NORMALIZED_LAYER}/bias`, { tensor: perChannel(bias) }],
  ]);
}

/** One standard Keras layer. */
interface KerasStep {
  readonly className: string;
  readonly config: JsonObject;
  /** Its weights by role, under Keras's names. */
  readonly weights?: Readonly<Partial<Record<ParameterRole, string>>>;
  /** The suffix of a step before the last: `-padded`. */
  readonly suffix?: string;
  /**
   * The steps it reads, by suffix; `INPUT` is the layer's input. Default: the step before it, or the layer's inputs if
   * it is the first.
   */
  readonly reads?: readonly string[];
}

/** The name of the layer's input among the inputs of a step. */
const INPUT = "";

/** The inputs of a layer. */
interface KerasSite {
  /** The shape of its first input, NCHW or NC for one image. */
  readonly input: Shape;
  /** Whether the input cannot be negative. */
  readonly fromRelu: boolean;
}

const CHANNELS_LAST = { data_format: "channels_last" } as const;

/** The window of a convolution. */
interface KerasWindow {
  readonly kernel: Size2d;
  readonly stride: Size2d;
  readonly padding: "same" | "valid";
}

function convolution(filters: number, window: KerasWindow, bias: boolean): KerasStep {
  return {
    className: "Conv2D",
    config: { ...windowConfig(window, bias), filters },
    weights: { weight: "kernel", bias: "bias" },
  };
}

/** A depthwise convolution. */
function depthwiseConvolution(window: KerasWindow, bias: boolean): KerasStep {
  return {
    className: "DepthwiseConv2D",
    config: { ...windowConfig(window, bias), depth_multiplier: 1 },
    weights: { weight: "depthwise_kernel", bias: "bias" },
  };
}

function windowConfig({ kernel, stride, padding }: KerasWindow, bias: boolean): JsonObject {
  return {
    ...CHANNELS_LAST,
    kernel_size: kernel,
    strides: stride,
    padding,
    dilation_rate: [1, 1],
    activation: "linear",
    use_bias: bias,
  };
}

function pooling(className: string, kernel: Size2d, stride: Size2d): KerasStep {
  return { className, config: { ...CHANNELS_LAST, pool_size: kernel, strides: stride, padding: "valid" } };
}

/** A whole map to one pixel: its columns first, so that shorter sums are accumulated. */
function wholeMap(
  className: string,
  [, , height = 1, width = 1]: Shape,
  suffix?: string,
): readonly KerasStep[] {
  const last = suffix === undefined ? {} : { suffix };
  const columns = { ...pooling(className, [height, 1], [height, 1]), ...last };
  const row = { ...pooling(className, [1, width], [1, width]), ...last };
  if (height === 1 && width === 1)
    return [{ className: "Activation", config: { activation: "linear" }, ...last }];
  if (height === 1) return [row];
  return width === 1 ? [columns] : [{ ...columns, suffix: `${suffix ?? ""}-columns` }, row];
}

function zeroPadding([height, width]: Size2d): KerasStep {
  return {
    className: "ZeroPadding2D",
    config: {
      ...CHANNELS_LAST,
      padding: [
        [height, height],
        [width, width],
      ],
    },
    suffix: "-padded",
  };
}

/**
 * Keras normalises over height and width with a weight per pixel or none: here with none, followed by a 1×1 depthwise
 * convolution with γ and β.
 *
 * `LayerNormalization` alone would be correct, but tfjs's WebAssembly sums all pixels sequentially for it, which at
 * 128×64 pixels makes the variance wrong by 2e-6, and later gates up to six times less accurate than PyTorch's.
 * Therefore its mean is subtracted beforehand, and its scale corrected afterwards, by means over the columns and then
 * over the row of their means: for centred values c with variance v and normalised ones y = c·s, s² ≈ 1 / (v + ε),
 * mean(y²) should be v / (v + ε), which is softsign(v / ε). It is off by a millionth, and y + y · (v / (v + ε) −
 * mean(y²)) / 2 by the square of that.
 */
function lowerInstanceNorm({ epsilon }: Op<"instanceNorm">, { input }: KerasSite): readonly KerasStep[] {
  const mean = (suffix: string): readonly KerasStep[] => wholeMap("AveragePooling2D", input, suffix);
  return [
    ...mean("-mean"),
    rescaling("-opposite", -1),
    step("-centered", "Add", {}, INPUT, "-opposite"),
    step("-normalized", "LayerNormalization", { axis: [1, 2], epsilon, center: false, scale: false }),
    // tfjs disposes of a tensor too early if a layer reads it twice, so squares are products with the
    // negation.
    rescaling("-mirrored", -1, 0, "-centered"),
    step("-squares", "Multiply", {}, "-centered", "-mirrored"),
    ...mean("-variance"),
    rescaling("-ratio", -1 / epsilon),
    step("-expected", "Activation", { activation: "softsign" }),
    rescaling("-inverted", -1, 0, "-normalized"),
    step("-energies", "Multiply", {}, "-normalized", "-inverted"),
    ...mean("-energy"),
    step("-excess", "Add", {}, "-expected", "-energy"),
    rescaling("-half", 0.5),
    step("-correction", "Multiply", {}, "-normalized", "-half"),
    step("-corrected", "Add", {}, "-normalized", "-correction"),
    depthwiseConvolution({ kernel: [1, 1], stride: [1, 1], padding: "valid" }, true),
  ];
}

/** A step without weights, reading the step before it or the named ones. */
function step(
  suffix: string,
  className: string,
  config: KerasStep["config"],
  ...reads: readonly string[]
): KerasStep {
  return { className, config, suffix, ...(reads.length > 0 ? { reads } : {}) };
}

/** x · scale + offset. */
function rescaling(suffix: string, scale: number, offset = 0, ...reads: readonly string[]): KerasStep {
  return step(suffix, "Rescaling", { scale, offset }, ...reads);
}

type KerasLowering<K extends OpKind> = (op: Op<K>, site: KerasSite) => readonly KerasStep[];

const NORM_WEIGHTS = {
  weight: "gamma",
  bias: "beta",
  runningMean: "moving_mean",
  runningVar: "moving_variance",
} as const;

/** Each operation as a sequence of standard Keras layers; the last has the layer's name. */
const LOWERINGS: { readonly [K in OpKind]: KerasLowering<K> } = {
  input: () => [],
  conv: lowerConv,
  linear: ({ outFeatures }) => [
    {
      className: "Dense",
      config: { units: outFeatures, activation: "linear", use_bias: true },
      weights: { weight: "kernel", bias: "bias" },
    },
  ],
  // PyTorch's momentum of 0.1 is the weight of the new statistics; Keras's is the weight of the old ones.
  batchNorm: ({ epsilon }) => [
    { className: "BatchNormalization", config: { axis: -1, momentum: 0.9, epsilon }, weights: NORM_WEIGHTS },
  ],
  instanceNorm: lowerInstanceNorm,
  layerNorm: ({ epsilon }) => [
    {
      className: "LayerNormalization",
      config: { axis: [-1], epsilon, center: true, scale: true },
      weights: { weight: "gamma", bias: "beta" },
    },
  ],
  relu: () => [{ className: "Activation", config: { activation: "relu" } }],
  sigmoid: () => [{ className: "Activation", config: { activation: "sigmoid" } }],
  maxPool: lowerMaxPool,
  avgPool: (op) => [pooling("AveragePooling2D", op.kernel, op.stride)],
  globalAvgPool: (_op, { input }) => wholeMap("AveragePooling2D", input),
  globalMaxPool: (_op, { input }) => wholeMap("MaxPooling2D", input),
  flatten: () => [{ className: "Flatten", config: CHANNELS_LAST }],
  scale: () => [{ className: "Multiply", config: {} }],
  add: () => [{ className: "Add", config: {} }],
};

/** The Keras layers that compute one operation. */
function kerasSteps(op: Op, site: KerasSite): readonly KerasStep[] {
  // One lookup over a union of operations: the table's type pairs each kind with its own function.
  return (LOWERINGS[op.kind] as (op: Op, site: KerasSite) => readonly KerasStep[])(op, site);
}

/** Keras pads like PyTorch at a stride of 1 only (`same`); otherwise the map is padded beforehand. */
function lowerConv(op: Op<"conv">): readonly KerasStep[] {
  const { kernel, stride, groups, outChannels, bias } = op;
  const same = padsAsSame(op);
  const window = { kernel, stride, padding: same ? "same" : "valid" } as const;
  const step = groups === 1 ? convolution(outChannels, window, bias) : depthwiseConvolution(window, bias);
  const padded = op.padding.some((size) => size > 0);
  return padded && !same ? [zeroPadding(op.padding), step] : [step];
}

/** Keras pads with zeros only, which is the same after a ReLU, where every OSNet has its max-pool. */
function lowerMaxPool(op: Op<"maxPool">, { fromRelu }: KerasSite): readonly KerasStep[] {
  const pool = pooling("MaxPooling2D", op.kernel, op.stride);
  if (op.padding.every((size) => size === 0)) return [pool];
  if (!fromRelu) throw new Error("a padded max-pool of numbers that may be negative has no Keras layer");
  return [zeroPadding(op.padding), pool];
}

/** Keras's names for the weights of an operation, by role. */
export function kerasWeights(op: Op): Readonly<Partial<Record<ParameterRole, string>>> {
  const anywhere: KerasSite = { input: [], fromRelu: true };
  // A convolution with a folded batch norm has a bias.
  return kerasSteps(op.kind === "conv" ? { ...op, bias: true } : op, anywhere).at(-1)?.weights ?? {};
}

/** A weight in the shape of its Keras layer: an instance norm's γ is a depthwise convolution's [1, 1, channels, 1]. */
function kerasShape(op: Op, role: ParameterRole, tensor: Tensor<"float32">): Tensor<"float32"> {
  return op.kind === "instanceNorm" && role === "weight"
    ? { ...tensor, shape: [1, 1, op.channels, 1] }
    : tensor;
}
