import type { DType, Tensor } from "../../../core/tensor.js";
import type { JsonObject } from "./json.js";

/**
 * A TensorFlow.js model as plain readonly data: what `model.json` and its weight files say together.
 *
 * Weights are as arithmetic sees them. Those that are stored in fewer bits are widened when they are read; `stored`
 * says how, so that the same file can be written again.
 */
export type TfjsModel = TfjsGraphModel | TfjsLayersModel;

interface TfjsModelParts {
  /** Who made the model that was converted, and who converted it; either may be missing in a foreign file. */
  readonly generatedBy?: string;
  readonly convertedBy?: string;
  /** `userDefinedMetadata`, unchanged. */
  readonly metadata?: JsonObject;
  /** Constants by name, in the order of the weight files. */
  readonly weights: ReadonlyMap<string, TfjsWeight>;
  /** Weight files that should be there and are not: the numbers in them are zeros. Absent where none is missing. */
  readonly missing?: readonly string[];
}

/** What `tf.loadGraphModel` takes: a TensorFlow graph whose constants are in the weight files. */
export interface TfjsGraphModel extends TfjsModelParts {
  /** As in `model.json`; the discriminant of the two kinds of model. */
  readonly format: "graph-model";
  /** In no particular order; osnet-convert writes them in topological order. */
  readonly nodes: readonly TfjsNode[];
  /** What a program feeds and receives, in the file's order. */
  readonly signature: TfjsSignature;
}

/** What `tf.loadLayersModel` takes: a Keras model. */
export interface TfjsLayersModel extends TfjsModelParts {
  /** As in `model.json`; the discriminant of the two kinds of model. */
  readonly format: "layers-model";
  /** `{ keras_version, backend, model_config: { class_name, config } }`. */
  readonly topology: JsonObject;
}

/** The element types of weight files that an OSNet needs; `string` and `complex64` are refused. */
export type TfjsDType = "float32" | "int32" | "bool";

/** A constant of a model. */
export interface TfjsWeight {
  /** Its values as tfjs computes with them, dequantised. */
  readonly tensor: Tensor<TfjsDType>;
  /** How the file stores it, if not as it is. */
  readonly stored?: TfjsQuantization;
}

/** The storage types of fewer bits than float32. */
export const QUANTIZED_DTYPES = ["float16", "uint16", "uint8"] as const;

export type QuantizedDType = (typeof QUANTIZED_DTYPES)[number];

/** Storage in fewer bits: `value = stored · scale + min`, or IEEE binary16. */
export type TfjsQuantization =
  | { readonly dtype: "float16" }
  | { readonly dtype: "uint8" | "uint16"; readonly min: number; readonly scale: number };

/** A constant as arithmetic sees it, and how its file stores it if in fewer bits. */
export type StoredTensor<D extends DType = DType> = Tensor<D> & { readonly stored?: TfjsQuantization };

/** One operation of a TensorFlow graph (graph.proto's `NodeDef`). */
export interface TfjsNode {
  /** Unique in its graph. */
  readonly name: string;
  /** The TensorFlow operation, such as `Conv2D`. */
  readonly op: string;
  /** Names of nodes, `NAME:1` for a second output, `^NAME` for a node that must only run before. */
  readonly inputs: readonly string[];
  /** By TensorFlow's names, such as `strides`; absent ones have the operation's default. */
  readonly attributes: ReadonlyMap<string, TfjsAttribute>;
}

/** The value of each kind of attribute (attr_value.proto's `AttrValue`). */
export interface TfjsAttributeValues {
  int: number;
  float: number;
  bool: boolean;
  string: string;
  /** Name of an element type: `DT_FLOAT`. */
  dtype: string;
  shape: TfjsShape;
  ints: readonly number[];
  floats: readonly number[];
  strings: readonly string[];
  dtypes: readonly string[];
  /** Anything else, as its JSON. */
  other: JsonObject;
}

export type TfjsAttributeType = keyof TfjsAttributeValues;

/** An attribute of a node with its type, which says what `value` is. */
export type TfjsAttribute = {
  [T in TfjsAttributeType]: { readonly type: T; readonly value: TfjsAttributeValues[T] };
}[TfjsAttributeType];

/** Dimensions, −1 for one that is not fixed; null if not even the rank is. */
export type TfjsShape = readonly number[] | null;

/** The graph's inputs and outputs under the names by which users ask for them. */
export interface TfjsSignature {
  /** Placeholders, by the names under which a program feeds them. */
  readonly inputs: ReadonlyMap<string, TfjsTensorInfo>;
  /** Values by the names that a program uses for them. */
  readonly outputs: ReadonlyMap<string, TfjsTensorInfo>;
}

/** An input or an output of a signature. */
export interface TfjsTensorInfo {
  /** The node, as `NAME:0`. */
  readonly name: string;
  /** TensorFlow's name of the element type, such as `DT_FLOAT`; absent where the file does not say. */
  readonly dtype?: string;
  /** As the signature states it; absent where the file does not say. */
  readonly shape?: TfjsShape;
}

/** The files of a model: `model.json`, and each weight file by its relative path. */
export interface TfjsFiles {
  /** The bytes of `model.json`, UTF-8. */
  readonly json: Uint8Array;
  /** The bytes of the weight files, by the paths that the manifest gives them. */
  readonly shards: ReadonlyMap<string, Uint8Array>;
}
