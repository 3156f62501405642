import { float, int, ints, wholeNumbers } from "../../formats/onnx/model.js";
import { arrayOf, type Json, type JsonObject } from "../../formats/tfjs/json.js";
import type { LayerCall } from "../../formats/tfjs/topology.js";
import {
  add,
  addBatchNorm,
  addBias,
  addConstant,
  addConvolution,
  addPool,
  type Draft,
  domainOf,
  type Site,
  same,
  stepOf,
  type TfWindow,
  type Translation,
  translate,
} from "./draft.js";

/** One call of a Keras layer, to be written into the draft without its activation. */
interface LayerSite extends Site {
  /** The layer's name: its weights are called `NAME/kernel`. */
  readonly layer: string;
  readonly config: JsonObject;
}

type LayerTranslation = Translation<LayerSite>;

function isChannelsFirst({ data_format: format }: JsonObject): boolean {
  return format === "channels_first";
}

/** The window of a convolution or pool; a pool's default stride is its size. */
function windowOf(config: JsonObject, kernel?: Json): TfWindow {
  const channelsFirst = isChannelsFirst(config);
  // Keras gives sizes per axis of the image, or one for both.
  const perAxis = (value: Json | undefined): readonly number[] => {
    const [height = 1, width = 1] = pair(value);
    return channelsFirst ? [1, 1, height, width] : [1, height, width, 1];
  };
  return {
    ...(kernel === undefined ? {} : { kernel: perAxis(kernel) }),
    strides: perAxis(config.strides ?? kernel),
    dilations: perAxis(config.dilation_rate),
    padding: String(config.padding ?? "valid").toUpperCase(),
    channelsFirst,
  };
}

/** One or two numbers, or none. */
function pair(value: Json | undefined): readonly number[] {
  const values = typeof value === "number" ? [value, value] : arrayOf(value);
  return values.map(Number);
}

/** A number or a list of them. */
function list(value: Json | undefined): readonly number[] {
  return typeof value === "number" ? [value] : arrayOf(value).map(Number);
}

/** Layers that move elements without computing. */

const zeroPadding: LayerTranslation = ({ draft, config, inputs: [x = ""], output }) => {
  const { padding } = config;
  const [rows = 0, columns = 0] = typeof padding === "number" ? [padding, padding] : arrayOf(padding);
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
  return add(draft, "Pad", [x], output, { pads: ints(...before, ...after) });
};

const reshape: LayerTranslation = ({ draft, config, inputs: [x = ""], output }) => {
  const target = list(config.target_shape);
  if (!target.every(Number.isSafeInteger)) return undefined;
  return add(
    draft,
    "Reshape",
    [x, addConstant(draft, stepOf(output, "shape"), wholeNumbers([-1, ...target]))],
    output,
  );
};

const permute: LayerTranslation = ({ draft, config, inputs: [x = ""], output }) =>
  add(draft, "Transpose", [x], output, { perm: ints(0, ...list(config.dims)) });

/** Pools over the pixels of a map. */

function pool(opType: string): LayerTranslation {
  return ({ draft, config, inputs: [x = ""], output }) =>
    addPool(draft, opType, x, output, windowOf(config, config.pool_size ?? 2));
}

function globalPool(opType: string): LayerTranslation {
  return ({ draft, config, inputs: [x = ""], output }) => {
    const axes = isChannelsFirst(config) ? ints(2, 3) : ints(1, 2);
    return add(draft, opType, [x], output, { axes, keepdims: int(config.keepdims === true ? 1 : 0) });
  };
}

const batchNorm: LayerTranslation = (site) => {
  const {
    draft,
    layer,
    config,
    inputs: [x = ""],
    output,
  } = site;
  const [axis = -1] = list(config.axis);
  const mean = `${layer}/moving_mean`;
  if (!draft.constants.has(mean)) return undefined;
  const inputs = [
    x,
    optional(site, "gamma", mean, 1),
    optional(site, "beta", mean, 0),
    mean,
    `${layer}/moving_variance`,
  ];
  return addBatchNorm(draft, { inputs, epsilon: epsilonOf(config) }, output, axis === 1);
};

/** Over an image's pixels without weights it is an instance norm; over its channels, a layer norm. */
const layerNorm: LayerTranslation = ({ draft, layer, config, inputs: [x = ""], output }) => {
  const axes = list(config.axis).join();
  const epsilon = float(epsilonOf(config));
  const [gamma, beta] = [`${layer}/gamma`, `${layer}/beta`];
  const [isScaled, isMoved] = [draft.constants.has(gamma), draft.constants.has(beta)];
  if (axes === "1,2" && !isScaled && !isMoved)
    return add(draft, "InstanceNormalization", [x], output, { epsilon }, domainOf(false));
  if ((axes !== "-1" && axes !== "3") || !isScaled) return undefined;
  const inputs = [x, gamma, ...(isMoved ? [beta] : [])];
  return add(draft, "LayerNormalization", inputs, output, { epsilon, axis: int(-1) }, domainOf(false));
};

/** Keras's default ε. */
const DEFAULT_EPSILON = 1e-3;

function epsilonOf({ epsilon }: JsonObject): number {
  return typeof epsilon === "number" ? epsilon : DEFAULT_EPSILON;
}

/** A weight that the layer may be configured without, or its default. */
function optional({ draft, layer, output }: LayerSite, role: string, like: string, value: number): string {
  const name = `${layer}/${role}`;
  if (draft.constants.has(name)) return name;
  const size = draft.constants.get(like)?.data.length ?? 0;
  return addConstant(draft, stepOf(output, role), {
    dtype: "float32",
    shape: [size],
    data: new Float32Array(size).fill(value),
  });
}

/** Elementwise layers. */

const ACTIVATIONS: Readonly<Record<string, string>> = {
  linear: "Identity",
  relu: "Relu",
  sigmoid: "Sigmoid",
  softmax: "Softmax",
  softsign: "Softsign",
  tanh: "Tanh",
};

/** An activation by its Keras name. An unknown one keeps its name, in a domain without known operators. */
function activate(draft: Draft, activation: string, x: string, output: string, domain: string): string {
  const known = Object.hasOwn(ACTIVATIONS, activation) ? ACTIVATIONS[activation] : undefined;
  return add(draft, known ?? activation, [x], output, {}, known ? "" : domain);
}

/** An activation with a slope or a threshold, by tfjs's name for that and its default. */
function sloped(opType: string, name: string, usual: number): LayerTranslation {
  return ({ draft, config, inputs: [x = ""], output }) =>
    add(draft, opType, [x], output, { alpha: float(Number(config[name] ?? usual)) });
}

/** x · scale + offset, each a number or one per channel. */
const rescaling: LayerTranslation = ({ draft, config, inputs: [x = ""], output }) => {
  const { scale = 1, offset = 0 } = config;
  const constant = (name: string, values: readonly number[]): string =>
    addConstant(draft, stepOf(output, name), {
      dtype: "float32",
      shape: values.length === 1 ? [] : [values.length],
      data: Float32Array.from(values),
    });
  const scaled = (name: string): string => add(draft, "Mul", [x, constant("scale", list(scale))], name);
  if (list(offset).every((value) => value === 0)) return scaled(output);
  return add(draft, "Add", [scaled(stepOf(output, "scaled")), constant("offset", list(offset))], output);
};

/** Convolutions and matrix products, with their bias. */

function convolution(kind: "full" | "depthwise"): LayerTranslation {
  return (site) => {
    const { draft, layer, config, inputs } = site;
    const [x = ""] = inputs;
    const names = kind === "full" ? ["kernel"] : ["depthwise_kernel", "kernel"];
    const weight = names.map((name) => `${layer}/${name}`).find((name) => draft.constants.has(name));
    if (weight === undefined) return undefined;
    const window = windowOf(config);
    return biased(site, window.channelsFirst, (output) =>
      addConvolution(draft, kind, [x, weight], output, window),
    );
  };
}

const dense: LayerTranslation = (site) => {
  const { draft, layer, inputs } = site;
  const [x = ""] = inputs;
  const kernel = `${layer}/kernel`;
  if (!draft.constants.has(kernel)) return undefined;
  return biased(site, false, (output) => add(draft, "MatMul", [x, kernel], output, {}, domainOf(false)));
};

/** A product with its bias, if the layer has one. */
function biased(
  { draft, layer, config, output }: LayerSite,
  channelsFirst: boolean,
  product: (output: string) => string,
): string {
  if (config.use_bias === false) return product(output);
  return addBias(draft, product(stepOf(output, "product")), `${layer}/bias`, output, channelsFirst);
}

/** Keras's standard layers, written as ONNX operators (https://keras.io/api/layers). */

/** Writes what a call of a layer computes, with its activation. */
export function translateLayer(draft: Draft, call: LayerCall): void {
  const { layer, className, config, value, inputs, hasArguments } = call;
  if (hasArguments || !hasKnownSettings(call)) {
    add(draft, className, inputs, value, {}, DOMAIN);
    return;
  }
  const activation = typeof config.activation === "string" ? config.activation : "linear";
  const isLinear = className === "Activation" || activation === "linear";
  const output = isLinear ? value : stepOf(value, "linear");
  const write = Object.hasOwn(TRANSLATIONS, className) ? TRANSLATIONS[className] : undefined;
  translate(write, className, { draft, layer, config, inputs, output }, DOMAIN);
  if (!isLinear) activate(draft, activation, output, value, DOMAIN);
}

const DOMAIN = "keras";

const TRANSLATIONS: Readonly<Record<string, LayerTranslation>> = {
  Activation: ({ draft, config, inputs: [x = ""], output }) =>
    activate(draft, String(config.activation ?? "linear"), x, output, DOMAIN),
  ActivityRegularization: same("Identity"),
  Add: same("Add"),
  AlphaDropout: same("Identity"),
  AveragePooling2D: pool("AveragePool"),
  BatchNormalization: batchNorm,
  BatchNormalizationV1: batchNorm,
  Conv2D: convolution("full"),
  Dense: dense,
  DepthwiseConv2D: convolution("depthwise"),
  Dropout: same("Identity"),
  ELU: sloped("Elu", "alpha", 1),
  Flatten: same("Flatten"),
  GaussianDropout: same("Identity"),
  GaussianNoise: same("Identity"),
  GlobalAveragePooling2D: globalPool("ReduceMean"),
  GlobalMaxPooling2D: globalPool("ReduceMax"),
  LayerNormalization: layerNorm,
  LeakyReLU: sloped("LeakyRelu", "alpha", 0.3),
  MaxPooling2D: pool("MaxPool"),
  Multiply: same("Mul"),
  Permute: permute,
  ReLU: same("Relu"),
  Rescaling: rescaling,
  Reshape: reshape,
  SpatialDropout2D: same("Identity"),
  Subtract: same("Sub"),
  ThresholdedReLU: sloped("ThresholdedRelu", "theta", 1),
  ZeroPadding2D: zeroPadding,
};

/**
 * The settings of the Keras layers that are read, with the values that are: an allow-list of what tfjs-layers (4.22,
 * `src/layers`) and Keras write. A setting that is not here may mean something to tfjs.
 */

type Check = (value: Json) => boolean;

const any: Check = () => true;
const never: Check = () => false;
const isNumber: Check = (value) => typeof value === "number" && Number.isFinite(value);
const isBoolean: Check = (value) => typeof value === "boolean";
const isString: Check = (value) => typeof value === "string";
const isInteger: Check = (value) => Number.isInteger(value);
const isOneOf =
  (...values: readonly Json[]): Check =>
  (value) =>
    values.includes(value);
const isList =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
/** One number for both axes of an image, or one for each. */
const isSize: Check = (value) =>
  isInteger(value) || (isList(isInteger)(value) && (value as readonly Json[]).length === 2);
const isNumbers: Check = (value) => isNumber(value) || isList(isNumber)(value);
const isPaddings: Check = (value) =>
  isInteger(value) || (Array.isArray(value) && value.length === 2 && value.every(isSize));

/** Of every layer, and without effect on what it computes; the shape is that of a sequential model's images. */
const COMMON = { name: isString, trainable: isBoolean, dtype: any, batch_input_shape: isList(any) };

const FORMAT = { data_format: isOneOf("channels_last", "channels_first") };
const WINDOW = { ...FORMAT, strides: isSize, padding: isOneOf("valid", "same") };
const PRODUCT = { activation: isString, use_bias: isBoolean };
const CONVOLUTION = { ...WINDOW, ...PRODUCT, kernel_size: isSize, dilation_rate: isSize, groups: isOneOf(1) };
const POOL = { ...WINDOW, pool_size: isSize };
const GLOBAL_POOL = { ...FORMAT, keepdims: isBoolean };
const NORM = { epsilon: isNumber, center: isBoolean, scale: isBoolean };
const BATCH_NORM = {
  ...NORM,
  axis: (value: Json): boolean =>
    isOneOf(-1, 1, 3)(Array.isArray(value) && value.length === 1 ? (value[0] ?? null) : value),
  momentum: isNumber,
  // Statistics of training.
  synchronized: isBoolean,
  renorm: isOneOf(false),
  renorm_momentum: isNumber,
  fused: isBoolean,
};
const DROPOUT = { rate: isNumber, noise_shape: any, seed: any };

const SETTINGS: ReadonlyMap<string, Readonly<Record<string, Check>>> = new Map(
  Object.entries({
    Activation: { activation: isString },
    ActivityRegularization: { l1: isNumber, l2: isNumber },
    Add: {},
    AlphaDropout: DROPOUT,
    AveragePooling2D: POOL,
    BatchNormalization: BATCH_NORM,
    BatchNormalizationV1: BATCH_NORM,
    Conv2D: { ...CONVOLUTION, filters: isInteger },
    Dense: { ...PRODUCT, units: isInteger },
    DepthwiseConv2D: { ...CONVOLUTION, depth_multiplier: isInteger },
    Dropout: DROPOUT,
    ELU: { alpha: isNumber },
    Flatten: FORMAT,
    GaussianDropout: DROPOUT,
    GaussianNoise: { stddev: isNumber, seed: any },
    GlobalAveragePooling2D: GLOBAL_POOL,
    GlobalMaxPooling2D: GLOBAL_POOL,
    LayerNormalization: { ...NORM, axis: isNumbers, rms_scaling: isOneOf(false) },
    LeakyReLU: { alpha: isNumber },
    MaxPooling2D: POOL,
    Multiply: {},
    Permute: { dims: isList(isInteger) },
    // tfjs reads a maximum only, and Keras all three.
    ReLU: { max_value: never, negative_slope: isOneOf(0), threshold: isOneOf(0) },
    Rescaling: { scale: isNumbers, offset: isNumbers },
    Reshape: { target_shape: isList(isInteger) },
    SpatialDropout2D: { ...DROPOUT, ...FORMAT },
    Subtract: {},
    ThresholdedReLU: { theta: isNumber },
    ZeroPadding2D: { ...FORMAT, padding: isPaddings },
  }),
);

/** Settings for which tfjs has no default that is used here. */
const REQUIRED: ReadonlyMap<string, string> = new Map([
  ["Rescaling", "scale"],
  ["ZeroPadding2D", "padding"],
]);

/** Whether a layer has known settings only, so that it computes the same in Keras, in tfjs and here. */
function hasKnownSettings({ className, config }: LayerCall): boolean {
  const own = { ...COMMON, ...SETTINGS.get(className) } as Readonly<Record<string, Check>>;
  const required = REQUIRED.get(className);
  return (
    (required === undefined || (config[required] ?? null) !== null) &&
    Object.entries(config).every(
      ([key, value]) =>
        // tfjs treats null as a missing setting. A constraint changes weights when they are loaded.
        value === null ||
        /_(initializer|regularizer)$/.test(key) ||
        (Object.hasOwn(own, key) && own[key]?.(value) === true),
    )
  );
}
