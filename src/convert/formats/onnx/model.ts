import type { DType, Tensor } from "../../../tensor.js";

/**
 * An ONNX file as plain readonly data: what the project reads and writes of onnx.proto3's `ModelProto`, with names for
 * its numbers. Documentation strings, shape annotations of inner values and training information are left out, and
 * calls of the file's own functions are replaced by their nodes.
 */
export interface OnnxModel {
  /** Version of the file format itself. */
  readonly irVersion: number;
  /** Version of the standard operators (the domain `""`, also written `ai.onnx`). */
  readonly opset: number;
  /** Versions of other operator domains, such as `com.microsoft`, by domain. */
  readonly customOpsets: ReadonlyMap<string, number>;
  /** The program that wrote the file; either may be empty. */
  readonly producer: { readonly name: string; readonly version: string };
  readonly graph: OnnxGraph;
  readonly metadata: ReadonlyMap<string, string>;
  /** How many calls of the file's own functions were replaced by their nodes; absent where there are none. */
  readonly inlined?: number;
  /** The files beside it that its weights were read from; absent where they are inside. */
  readonly sidecars?: readonly string[];
  /** Files that should be beside it and are not: the tensors in them are zeros. Absent where none is missing. */
  readonly missing?: readonly string[];
}

/** Nodes in topological order, reading inputs, initializers and each other's outputs by name. */
export interface OnnxGraph {
  readonly name: string;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly nodes: readonly OnnxNode[];
  /** Constant tensors by value name. */
  readonly initializers: ReadonlyMap<string, Tensor>;
}

/** A graph input or output. */
export interface OnnxValue {
  readonly name: string;
  /** Absent when the file gives none, or one that is not a dense tensor of a `DType`. */
  readonly dtype?: DType;
  /** Absent when the file does not even fix the rank. */
  readonly shape?: readonly OnnxDimension[];
}

/** A fixed size, the name of a dynamic one, or null for a size of which nothing is known. */
export type OnnxDimension = number | string | null;

export interface OnnxNode {
  readonly name: string;
  readonly opType: string;
  /** Operator domain; `""` for the standard operators. */
  readonly domain: string;
  /** Value names; `""` for an optional input that is left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, OnnxAttribute>;
}

/** What each attribute type holds. */
export interface OnnxAttributeValues {
  float: number;
  int: number;
  string: string;
  tensor: Tensor;
  graph: OnnxGraph;
  floats: readonly number[];
  ints: readonly number[];
  strings: readonly string[];
}

export type OnnxAttributeType = keyof OnnxAttributeValues;

/**
 * One attribute with its type. Integers are JavaScript numbers: int64 values beyond ±(2⁵³ − 1), which only stand for
 * "to the end" in practice (`Slice`), are read as that bound.
 */
export type OnnxAttribute = {
  [T in OnnxAttributeType]: { readonly type: T; readonly value: OnnxAttributeValues[T] };
}[OnnxAttributeType];
