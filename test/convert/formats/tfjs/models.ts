import type {
  TfjsFiles,
  TfjsGraphModel,
  TfjsLayersModel,
} from "../../../../src/convert/formats/tfjs/model.js";

/** A graph model with everything that the document type can say. */
export const GRAPH_MODEL: TfjsGraphModel = {
  format: "graph-model",
  generatedBy: "someone",
  convertedBy: "someone else",
  metadata: { "osnet.folded": "true" },
  signature: {
    inputs: new Map([["images", { name: "images:0", dtype: "DT_FLOAT", shape: [-1, 4, 2, 3] }]]),
    outputs: new Map([["features", { name: "y:0", dtype: "DT_FLOAT", shape: null }]]),
  },
  nodes: [
    {
      name: "w",
      op: "Const",
      inputs: [],
      attributes: new Map([["dtype", { type: "dtype", value: "DT_FLOAT" }]]),
    },
    {
      name: "images",
      op: "Placeholder",
      inputs: [],
      attributes: new Map([["shape", { type: "shape", value: [-1, 4, 2, 3] }]]),
    },
    {
      name: "y",
      op: "Anything",
      inputs: ["images", "w:0", "^w"],
      attributes: new Map([
        ["int", { type: "int", value: -3 }],
        ["float", { type: "float", value: 0.5 }],
        ["bool", { type: "bool", value: false }],
        ["string", { type: "string", value: "EXPLICIT" }],
        ["shape", { type: "shape", value: [-1, 0, 7] }],
        ["ints", { type: "ints", value: [0, 3] }],
        ["none", { type: "ints", value: [] }],
        ["floats", { type: "floats", value: [0.25] }],
        ["strings", { type: "strings", value: ["BiasAdd", "Relu"] }],
        ["dtypes", { type: "dtypes", value: ["DT_INT32"] }],
        ["other", { type: "other", value: { tensor: { dtype: "DT_FLOAT" } } }],
      ]),
    },
  ],
  weights: new Map([
    ["w", { tensor: { dtype: "float32", shape: [2, 2], data: Float32Array.of(1, -0, 1e-45, 3) } }],
    ["flags", { tensor: { dtype: "bool", shape: [3], data: Uint8Array.of(0, 1, 1) } }],
    // After three bytes: not aligned to its element size.
    ["axes", { tensor: { dtype: "int32", shape: [2], data: Int32Array.of(1, -2) } }],
    ["empty", { tensor: { dtype: "float32", shape: [0], data: new Float32Array() } }],
    ["__proto__", { tensor: { dtype: "float32", shape: [], data: Float32Array.of(7) } }],
  ]),
};

export const LAYERS_MODEL: TfjsLayersModel = {
  format: "layers-model",
  topology: { keras_version: "2.15.0", backend: "tensorflow", model_config: { class_name: "Functional" } },
  weights: GRAPH_MODEL.weights,
};

/** The same files with a changed `model.json`. */
export function edited({ json, shards }: TfjsFiles, edit: (document: Document) => void): TfjsFiles {
  const document = JSON.parse(new TextDecoder().decode(json)) as Document;
  edit(document);
  return { json: new TextEncoder().encode(JSON.stringify(document)), shards };
}

/** As much of `model.json` as the tests change. */
export interface Document {
  format?: unknown;
  signature?: unknown;
  userDefinedMetadata?: Record<string, unknown>;
  modelTopology: {
    node?: { name?: unknown; op?: unknown; input?: unknown[]; attr?: unknown }[];
    library?: unknown;
  };
  weightsManifest: {
    paths: unknown[];
    weights: { name?: unknown; shape?: unknown; dtype?: unknown; quantization?: unknown }[];
  }[];
}
