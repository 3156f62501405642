export { type DecodeTfjsOptions, decodeTfjs, encodeTfjs, tfjsShardPaths } from "./codec.js";
export { nodeOf } from "./graph.js";
export type { Json, JsonObject } from "./json.js";
export type {
  QuantizedDType,
  StoredTensor,
  TfjsAttribute,
  TfjsAttributeType,
  TfjsAttributeValues,
  TfjsDType,
  TfjsFiles,
  TfjsGraphModel,
  TfjsLayersModel,
  TfjsModel,
  TfjsNode,
  TfjsQuantization,
  TfjsShape,
  TfjsSignature,
  TfjsTensorInfo,
  TfjsWeight,
} from "./model.js";
export { QUANTIZED_DTYPES } from "./model.js";
export { chooseQuantization, isQuantizable, roundToStored } from "./quantization.js";
