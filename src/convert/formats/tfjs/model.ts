import type { DType, Tensor } from "../../../core/tensor.js";
import type { JsonObject } from "./json.js";

/**
 * A TensorFlow.js model as plain readonly data: the content of `model.json` and its weight files.
 *
 * Quantised weights are dequantised on reading; `stored` describes how, so that the same file can be written again.
 */
export type TfjsModel = TfjsGraphModel | TfjsLayersModel;

interface TfjsModelParts {
  /** The programs that made and converted the model; either may be missing in another converter's file. */
  readonly generatedBy?: string;
  readonly convertedBy?: string;
  /** `userDefinedMetadata`, unchanged. */
  readonly metadata?: JsonObject;
  /** Constants by name, in the order of the weight files. */
  readonly weights: ReadonlyMap<string, TfjsWeight>;
  /** Missing weight files, whose numbers are zeros. Absent if none is missing. */
  readonly missing?: readonly string[];
}

/** A model for `tf.loadGraphModel`: a TensorFlow graph whose constants are in the weight files. */
export interface TfjsGraphModel extends TfjsModelParts {
  /** As in `model.json`; the discriminant of the two kinds of model. */
  readonly format: "graph-model";
  /** In no particular order; osnet-convert writes them in topological order. */
  readonly nodes: readonly TfjsNode[];
  /** The inputs and outputs of a program, in the file's order. */
  readonly signature: TfjsSignature;
}

/** A model for `tf.loadLayersModel`: a Keras model. */
export interface TfjsLayersModel extends TfjsModelParts {
  /** As in `model.json`; the discriminant of the two kinds of model. */
  readonly format: "layers-model";
  /** `{ keras_version, backend, model_config: { class_name, config } }`. */
  readonly topology: JsonObject;
}

/** The supported element types of weight files; `string` and `complex64` are refused. */
export type TfjsDType = "float32" | "int32" | "bool";

/** A constant of a model. */
export interface TfjsWeight {
  /** Its values as tfjs computes with them, dequantised. */
  readonly tensor: Tensor<TfjsDType>;
  /** The storage, if quantised. */
  readonly stored?: TfjsQuantization;
  /** The weight files that it is in, by their paths; absent if the model has only one. */
  readonly files?: readonly string[];
}

/** The storage types of fewer bits than float32. */
export const QUANTIZED_DTYPES = ["float16", "uint16", "uint8"] as const;

export type QuantizedDType = (typeof QUANTIZED_DTYPES)[number];

/** Quantised storage: `value = stored · scale + min`, or IEEE binary16. */
export type TfjsQuantization =
  | { readonly dtype: "float16" }
  | { readonly dtype: "uint8" | "uint16"; readonly min: number; readonly scale: number };

/** A dequantised constant, its storage if quantised, and its weight files if there are several. */
export type StoredTensor<D extends DType = DType> = Tensor<D> & Pick<TfjsWeight, "stored" | "files">;

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

/** A typed attribute of a node; the type determines `value`. */
export type TfjsAttribute = {
  [T in TfjsAttributeType]: { readonly type: T; readonly value: TfjsAttributeValues[T] };
}[TfjsAttributeType];

/** Dimensions, −1 for a dynamic one; null for an unknown rank. */
export type TfjsShape = readonly number[] | null;

/** The graph's inputs and outputs under their public names. */
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
  /** TensorFlow's name of the element type, such as `DT_FLOAT`; absent if the file does not state it. */
  readonly dtype?: string;
  /** As in the signature; absent if the file does not state it. */
  readonly shape?: TfjsShape;
}

/** The files of a model: `model.json`, and each weight file by its relative path. */
export interface TfjsFiles {
  /** The bytes of `model.json`, UTF-8. */
  readonly json: Uint8Array;
  /** The bytes of the weight files, by their paths in the manifest. */
  readonly shards: ReadonlyMap<string, Uint8Array>;
}
