import type { LayerCall } from "../../../formats/tfjs/index.js";
import type { Draft } from "../draft.js";
import { same, translate } from "../translation.js";
import { permute, reshape, zeroPadding } from "./layout.js";
import { globalPool, pool } from "./maps.js";
import { batchNorm, layerNorm } from "./norms.js";
import { activate, relu, rescaling } from "./pointwise.js";
import { convolution, dense } from "./products.js";
import type { LayerTranslation } from "./site.js";

/** Keras's stock layers in ONNX's words (https://keras.io/api/layers). */

/** Writes what a call of a layer computes, with its activation. */
export function translateLayer(draft: Draft, { layer, className, config, value, inputs }: LayerCall): void {
  const activation = typeof config.activation === "string" ? config.activation : "linear";
  const isLinear = className === "Activation" || activation === "linear";
  const output = isLinear ? value : `${value}#linear`;
  translate(TRANSLATIONS, className, { draft, layer, config, inputs, output }, DOMAIN);
  if (!isLinear) activate(draft, activation, output, value, DOMAIN);
}

const DOMAIN = "keras";

const TRANSLATIONS: Readonly<Record<string, LayerTranslation>> = {
  Activation: ({ draft, config, inputs: [x = ""], output }) =>
    activate(draft, String(config.activation), x, output, DOMAIN),
  Add: same("Add"),
  AveragePooling2D: pool("AveragePool"),
  BatchNormalization: batchNorm,
  BatchNormalizationV1: batchNorm,
  Conv2D: convolution("full"),
  Dense: dense,
  DepthwiseConv2D: convolution("depthwise"),
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
