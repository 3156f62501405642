import type { Json } from "../../formats/tfjs/json.js";
import type { LayerCall } from "../../formats/tfjs/topology.js";

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

/** Settings that tfjs takes no default for that is used here. */
const REQUIRED: ReadonlyMap<string, string> = new Map([
  ["Rescaling", "scale"],
  ["ZeroPadding2D", "padding"],
]);

/** Whether a layer has known settings only, so that it computes the same in Keras, in tfjs and here. */
export function hasKnownSettings({ className, config }: LayerCall): boolean {
  const own = { ...COMMON, ...SETTINGS.get(className) } as Readonly<Record<string, Check>>;
  const required = REQUIRED.get(className);
  return (
    (required === undefined || (config[required] ?? null) !== null) &&
    Object.entries(config).every(
      ([key, value]) =>
        // tfjs takes null for a missing setting. A constraint changes weights when they are loaded.
        value === null ||
        /_(initializer|regularizer)$/.test(key) ||
        (Object.hasOwn(own, key) && own[key]?.(value) === true),
    )
  );
}
