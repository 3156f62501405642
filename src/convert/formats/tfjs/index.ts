export { decodeTfjs, encodeTfjs, tfjsShardPaths } from "./codec.js";
export { nodeOf } from "./graph.js";
export { arrayOf, type Json, type JsonObject, objectOf } from "./json.js";
export { chooseQuantization, roundToStored } from "./manifest.js";
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
  TfjsTensorInfo,
  TfjsWeight,
} from "./model.js";
export { QUANTIZED_DTYPES } from "./model.js";
export { isKeras3, type LayerCall, layerClasses, readTopology } from "./topology.js";
