import { InputError } from "../../../core/errors.js";
import type { DType, Shape, Tensor } from "../../../core/tensor.js";
import { quoted } from "../../../core/text.js";

/**
 * An ONNX file as plain readonly data: the part of onnx.proto3's `ModelProto` that the project reads and writes, with
 * names for its numbers. Documentation strings, shape annotations of intermediate values and training information are
 * omitted, and local functions are inlined.
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
  /** The main graph. */
  readonly graph: OnnxGraph;
  /** `metadata_props`: strings by key, such as `osnet.spec` in files of this package. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The number of inlined calls to local functions; absent if there are none. */
  readonly inlined?: number;
  /** The files beside it that its weights were read from; absent if they are inside. */
  readonly sidecars?: readonly string[];
  /** Missing weight files, whose tensors are zeros. Absent if none is missing. */
  readonly missing?: readonly string[];
}

/** Nodes in topological order, reading inputs, initializers and each other's outputs by name. */
export interface OnnxGraph {
  /** The exporter's name for it, often `main_graph`; may be empty. */
  readonly name: string;
  /** The inputs, in the file's order; an input that is also an initializer has a default. */
  readonly inputs: readonly OnnxValue[];
  /** The outputs, in the file's order. */
  readonly outputs: readonly OnnxValue[];
  /** In topological order, whatever the file's order. */
  readonly nodes: readonly OnnxNode[];
  /** Constant tensors by value name. */
  readonly initializers: ReadonlyMap<string, Tensor>;
}

/** A graph input or output. */
export interface OnnxValue {
  /** Unique among the values of its graph. */
  readonly name: string;
  /** Absent when the file gives none, or one that is not a dense tensor of a `DType`. */
  readonly dtype?: DType;
  /** Absent if the file does not even fix the rank. */
  readonly shape?: readonly OnnxDimension[];
}

/** A fixed size, the name of a dynamic one, or null for an unknown size. */
export type OnnxDimension = number | string | null;

/** One operator of a graph (onnx.proto3's `NodeProto`). */
export interface OnnxNode {
  /** May be empty, and need not be unique: nodes are connected by values. */
  readonly name: string;
  /** The operator, such as `Conv`. */
  readonly opType: string;
  /** Operator domain; `""` for the standard operators. */
  readonly domain: string;
  /** Value names; `""` for an omitted optional input. */
  readonly inputs: readonly string[];
  /** Value names; `""` for an optional output that nothing reads. */
  readonly outputs: readonly string[];
  /** By name; attributes that the file omits are absent, and have the operator's default. */
  readonly attributes: ReadonlyMap<string, OnnxAttribute>;
}

/** The value of each attribute type. */
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
 * One attribute with its type. Integers are JavaScript numbers: int64 values beyond ±(2⁵³ − 1), which in practice only
 * mean "to the end" (`Slice`), are clamped.
 */
export type OnnxAttribute = {
  [T in OnnxAttributeType]: { readonly type: T; readonly value: OnnxAttributeValues[T] };
}[OnnxAttributeType];

/** Makes a node with one output, named after it. */

export type OnnxAttributeRecord = Readonly<Record<string, OnnxAttribute>>;

export const int = (value: number): OnnxAttribute => ({ type: "int", value });
export const ints = (...value: readonly number[]): OnnxAttribute => ({ type: "ints", value });
export const float = (value: number): OnnxAttribute => ({ type: "float", value });
export const text = (value: string): OnnxAttribute => ({ type: "string", value });

/** Makes a node, with a standard operator unless a domain is given. */
export function onnxNode(
  output: string,
  opType: string,
  inputs: readonly string[],
  attributes: OnnxAttributeRecord = {},
  domain = "",
): OnnxNode {
  return {
    name: output,
    opType,
    domain,
    inputs,
    outputs: [output],
    attributes: new Map(Object.entries(attributes)),
  };
}

/** The repeated field of TensorProto for elements that are not stored raw. */
type TypedField = "floatData" | "doubleData" | "int32Data" | "int64Data";

/**
 * TensorProto.DataType of each element type, and the field for elements that are not in `raw_data` (onnx.proto3:
 * small integers and the bit patterns of 16-bit floats share `int32_data`). Types not listed (strings, unsigned
 * integers above 8 bits, complex numbers, 8- and 4-bit floats) occur in no OSNet and are refused.
 */
const TABLE = {
  float32: { code: 1, field: "floatData" },
  uint8: { code: 2, field: "int32Data" },
  int8: { code: 3, field: "int32Data" },
  int16: { code: 5, field: "int32Data" },
  int32: { code: 6, field: "int32Data" },
  int64: { code: 7, field: "int64Data" },
  bool: { code: 9, field: "int32Data" },
  float16: { code: 10, field: "int32Data" },
  float64: { code: 11, field: "doubleData" },
  bfloat16: { code: 16, field: "int32Data" },
} as const satisfies Record<DType, { code: number; field: TypedField }>;

const BY_CODE: ReadonlyMap<number, DType> = new Map(
  (Object.keys(TABLE) as DType[]).map((dtype) => [TABLE[dtype].code, dtype]),
);

/** The TensorProto.DataType code of an element type. */
export function dtypeToCode(dtype: DType): number {
  return TABLE[dtype].code;
}

/** The element type of a TensorProto.DataType code, or undefined if it is not supported. */
export function codeToDType(code: number): DType | undefined {
  return BY_CODE.get(code);
}

/** TensorProto's field for elements of a type that are not raw. */
export function typedField(dtype: DType): TypedField {
  return TABLE[dtype].field;
}

/** Integers as in ONNX shapes, axes and so on. */
export function wholeNumbers(values: readonly number[], shape: Shape = [values.length]): Tensor<"int64"> {
  return { dtype: "int64", shape, data: BigInt64Array.from(values, BigInt) };
}

/**
 * Names in the order of their computation, each after everything that it reads. Names that nothing computes are
 * omitted.
 *
 * @throws InputError (`format`) if a name depends on itself
 */
export function inOrder<T>(
  items: ReadonlyMap<string, T>,
  reads: (item: T) => readonly string[],
  subject: string,
): readonly T[] {
  const done = new Set<string>();
  const open = new Set<string>();
  const order: T[] = [];
  for (const start of items.keys()) {
    // Depth first without recursion: a graph may be a chain of any length.
    const pending = [{ name: start, inputs: inputsOf(start), next: 0 }];
    for (let top = pending.at(-1); top; top = pending.at(-1)) {
      const { name } = top;
      if (top.next === 0 && done.has(name)) {
        pending.pop();
        continue;
      }
      open.add(name);
      const input = top.inputs[top.next++];
      if (input === undefined) {
        pending.pop();
        open.delete(name);
        done.add(name);
        const item = items.get(name);
        if (item !== undefined) order.push(item);
      } else if (open.has(input))
        throw new InputError({
          code: "format",
          subject,
          found: `${quoted(input)}, which depends on itself`,
          expected: "an acyclic graph",
          remedy: "export the model again",
        });
      else if (!done.has(input)) pending.push({ name: input, inputs: inputsOf(input), next: 0 });
    }
  }
  return order;

  function inputsOf(name: string): readonly string[] {
    const item = items.get(name);
    return item === undefined ? [] : reads(item);
  }
}

/** The inputs that a program feeds: those without a default value. */
export function fedInputs({ inputs, initializers }: OnnxGraph): readonly OnnxValue[] {
  return inputs.filter(({ name }) => !initializers.has(name));
}
