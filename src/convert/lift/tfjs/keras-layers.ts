import { arrayOf, type Json, type JsonObject, type LayerCall } from "../../formats/tfjs/index.js";
import {
  add,
  addBias,
  addConstant,
  type Draft,
  depthwiseOihw,
  domainOf,
  float,
  int,
  ints,
  oihw,
  scalar,
  wholeNumbers,
} from "./draft.js";
import { windowAttributes } from "./windows.js";

/** Keras's stock layers in ONNX's words (https://keras.io/api/layers). */

/** One call of a layer, to be written into the draft. */
interface Site {
  readonly draft: Draft;
  readonly call: LayerCall;
  /** The first value that it reads. */
  readonly x: string;
  /** Where its result goes. */
  readonly output: string;
}

/** Writes a layer without its activation; false if it is configured in a way that has no meaning here. */
type Translation = (site: Site) => boolean;

/** Writes a layer; one that no translation knows keeps its own class's name. */
export function translateLayer(draft: Draft, call: LayerCall): void {
  const { className, config, value, inputs } = call;
  const [x = ""] = inputs;
  const activation = typeof config.activation === "string" ? config.activation : "linear";
  const isLinear = className === "Activation" || activation === "linear";
  const output = isLinear ? value : `${value}#linear`;
  const translate = Object.hasOwn(TRANSLATIONS, className) ? TRANSLATIONS[className] : undefined;
  if (!translate?.({ draft, call, x, output })) add(draft, className, inputs, output, {}, UNKNOWN_DOMAIN);
  if (!isLinear) activate(draft, activation, output, value);
}

/** No operator of this domain is known. */
const UNKNOWN_DOMAIN = "keras";

const ACTIVATIONS: Readonly<Record<string, string>> = {
  linear: "Identity",
  relu: "Relu",
  sigmoid: "Sigmoid",
  softmax: "Softmax",
  softsign: "Softsign",
  tanh: "Tanh",
};

function activate(draft: Draft, activation: string, x: string, output: string): boolean {
  const known = Object.hasOwn(ACTIVATIONS, activation) ? ACTIVATIONS[activation] : undefined;
  return add(draft, known ?? activation, [x], output, {}, known ? "" : UNKNOWN_DOMAIN) !== "";
}

/** One or two numbers, or none. */
function pair(value: Json | undefined): readonly number[] {
  const values = typeof value === "number" ? [value, value] : arrayOf(value);
  return values.map(Number);
}

/** Keras's sizes of a window, as TensorFlow has them per axis of the image. */
function perAxis(value: Json | undefined, isFirst: boolean): readonly number[] {
  const [height = 1, width = 1] = pair(value);
  return isFirst ? [1, 1, height, width] : [1, height, width, 1];
}

const isChannelsFirst = ({ data_format: format }: JsonObject): boolean => format === "channels_first";

function convolution(isDepthwise: boolean): Translation {
  return ({ draft, call: { layer, config }, x, output }) => {
    const isFirst = isChannelsFirst(config);
    const padding = String(config.padding ?? "valid").toUpperCase();
    const [strides, dilations] = [config.strides, config.dilation_rate].map((value) =>
      perAxis(value, isFirst),
    );
    const names = isDepthwise ? ["depthwise_kernel", "kernel"] : ["kernel"];
    const weight = names.map((name) => `${layer}/${name}`).find((name) => draft.constants.has(name));
    if (weight === undefined) return false;
    const turned = isDepthwise ? depthwiseOihw(draft, weight) : oihw(draft, weight);
    const product = config.use_bias === false ? output : `${output}#product`;
    const attributes = windowAttributes({ strides, dilations, padding }, isFirst);
    add(draft, "Conv", [x, turned], product, attributes, domainOf(isFirst));
    if (product !== output) addBias(draft, product, `${layer}/bias`, output, isFirst);
    return true;
  };
}

function pool(opType: string): Translation {
  return ({ draft, call: { config }, x, output }) => {
    const isFirst = isChannelsFirst(config);
    const kernel = perAxis(config.pool_size ?? 2, isFirst);
    const strides = config.strides === null || config.strides === undefined ? kernel : undefined;
    const window = {
      kernel,
      strides: strides ?? perAxis(config.strides, isFirst),
      padding: String(config.padding ?? "valid").toUpperCase(),
    };
    return add(draft, opType, [x], output, windowAttributes(window, isFirst), domainOf(isFirst)) !== "";
  };
}

function globalPool(opType: string): Translation {
  return ({ draft, call: { config }, x, output }) => {
    const axes = isChannelsFirst(config) ? ints(2, 3) : ints(1, 2);
    return add(draft, opType, [x], output, { axes, keepdims: int(config.keepdims === true ? 1 : 0) }) !== "";
  };
}

const dense: Translation = ({ draft, call: { layer, config }, x, output }) => {
  if (!draft.constants.has(`${layer}/kernel`)) return false;
  const product = config.use_bias === false ? output : `${output}#product`;
  add(draft, "MatMul", [x, `${layer}/kernel`], product, {}, domainOf(false));
  if (product !== output) addBias(draft, product, `${layer}/bias`, output, false);
  return true;
};

/** A weight that the layer may be configured to do without, with what stands for it then. */
function optional(draft: Draft, name: string, like: string, value: number): string {
  if (draft.constants.has(name)) return name;
  const size = draft.constants.get(like)?.data.length ?? 0;
  return addConstant(draft, `${name}#absent`, {
    dtype: "float32",
    shape: [size],
    data: new Float32Array(size).fill(value),
  });
}

/** Keras's ε, where a file leaves it out. */
const DEFAULT_EPSILON = 1e-3;

const epsilonOf = ({ epsilon }: JsonObject): number =>
  typeof epsilon === "number" ? epsilon : DEFAULT_EPSILON;

const batchNorm: Translation = ({ draft, call: { layer, config }, x, output }) => {
  const [axis = -1] = typeof config.axis === "number" ? [config.axis] : arrayOf(config.axis).map(Number);
  const mean = `${layer}/moving_mean`;
  if (!draft.constants.has(mean)) return false;
  const inputs = [
    x,
    optional(draft, `${layer}/gamma`, mean, 1),
    optional(draft, `${layer}/beta`, mean, 0),
    mean,
    `${layer}/moving_variance`,
  ];
  const attributes = { epsilon: float(epsilonOf(config)) };
  return add(draft, "BatchNormalization", inputs, output, attributes, domainOf(axis === 1)) !== "";
};

/** Over an image's pixels without weights it is an instance norm; over its channels, a layer norm. */
const layerNorm: Translation = ({ draft, call: { layer, config }, x, output }) => {
  const axes = (typeof config.axis === "number" ? [config.axis] : arrayOf(config.axis).map(Number)).join();
  const attributes = { epsilon: float(epsilonOf(config)) };
  const [gamma, beta] = [`${layer}/gamma`, `${layer}/beta`].map((name) => draft.constants.has(name));
  if (axes === "1,2" && !gamma && !beta)
    return add(draft, "InstanceNormalization", [x], output, attributes, domainOf(false)) !== "";
  if ((axes !== "-1" && axes !== "3") || !gamma) return false;
  const inputs = [x, `${layer}/gamma`, ...(beta ? [`${layer}/beta`] : [])];
  const along = { ...attributes, axis: int(-1) };
  return add(draft, "LayerNormalization", inputs, output, along, domainOf(false)) !== "";
};

const zeroPadding: Translation = ({ draft, call: { config }, x, output }) => {
  const [rows = 0, columns = 0] =
    typeof config.padding === "number" ? [config.padding, config.padding] : arrayOf(config.padding);
  const [[top = 0, bottom = 0], [left = 0, right = 0]] = [pair(rows), pair(columns)];
  const [before, after] = isChannelsFirst(config)
    ? [
        [0, 0, top, left],
        [0, 0, bottom, right],
      ]
    : [
        [0, top, left, 0],
        [0, bottom, right, 0],
      ];
  return add(draft, "Pad", [x], output, { pads: ints(...before, ...after) }) !== "";
};

/** x · scale + offset, each a number or one per channel. */
const rescaling: Translation = ({ draft, call: { config }, x, output }) => {
  const [scale, offset] = [config.scale, config.offset].map((value) =>
    typeof value === "number" ? [value] : arrayOf(value).map(Number),
  );
  const constant = (name: string, values: readonly number[]): string =>
    addConstant(
      draft,
      `${output}#${name}`,
      values.length === 1
        ? scalar(values[0] ?? 0)
        : { dtype: "float32", shape: [values.length], data: Float32Array.from(values) },
    );
  const isMoved = offset?.some((value) => value !== 0) ?? false;
  const product = isMoved ? `${output}#scaled` : output;
  add(draft, "Mul", [x, constant("scale", scale ?? [1])], product);
  if (isMoved) add(draft, "Add", [product, constant("offset", offset ?? [0])], output);
  return true;
};

const reshape: Translation = ({ draft, call: { config }, x, output }) => {
  const target = arrayOf(config.target_shape).map(Number);
  const shape = addConstant(draft, `${output}#shape`, wholeNumbers(-1, ...target));
  return target.every(Number.isSafeInteger) && add(draft, "Reshape", [x, shape], output) !== "";
};

const permute: Translation = ({ draft, call: { config }, x, output }) =>
  add(draft, "Transpose", [x], output, { perm: ints(0, ...arrayOf(config.dims).map(Number)) }) !== "";

/** An operator on all of the layer's inputs. */
function same(opType: string): Translation {
  return ({ draft, call: { inputs }, output }) => add(draft, opType, inputs, output) !== "";
}

const relu: Translation = ({ draft, call: { config }, x, output }) => {
  const isPlain = [config.max_value, config.negative_slope, config.threshold].every((value) => !value);
  return isPlain && add(draft, "Relu", [x], output) !== "";
};

const TRANSLATIONS: Readonly<Record<string, Translation>> = {
  Activation: ({ draft, call: { config }, x, output }) =>
    activate(draft, String(config.activation), x, output),
  Add: same("Add"),
  AveragePooling2D: pool("AveragePool"),
  BatchNormalization: batchNorm,
  BatchNormalizationV1: batchNorm,
  Conv2D: convolution(false),
  Dense: dense,
  DepthwiseConv2D: convolution(true),
  Dropout: same("Identity"),
  Flatten: same("Flatten"),
  GlobalAveragePooling2D: globalPool("ReduceMean"),
  GlobalMaxPooling2D: globalPool("ReduceMax"),
  LayerNormalization: layerNorm,
  MaxPooling2D: pool("MaxPool"),
  Multiply: same("Mul"),
  Permute: permute,
  ReLU: relu,
  Rescaling: rescaling,
  Reshape: reshape,
  SpatialDropout2D: same("Identity"),
  Subtract: same("Sub"),
  ZeroPadding2D: zeroPadding,
};
