import type { DType } from "../../../tensor.js";

/** The repeated field of TensorProto that holds elements which are not stored raw. */
export type TypedField = "floatData" | "doubleData" | "int32Data" | "int64Data";

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

/** The element type of a TensorProto.DataType code, or undefined if the project has none such. */
export function codeToDType(code: number): DType | undefined {
  return BY_CODE.get(code);
}

/** Where TensorProto keeps elements of a type that are not raw. */
export function typedField(dtype: DType): TypedField {
  return TABLE[dtype].field;
}
