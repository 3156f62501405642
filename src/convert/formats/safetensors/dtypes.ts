import type { DType } from "../../../tensor.js";

/**
 * The format's names of element types, in its canonical order: a file's tensors follow each other as their types do
 * here, so that wide elements come first and every tensor is aligned (safetensors/src/tensor.rs, `enum Dtype`,
 * descending).
 */
const NAMES = {
  int64: "I64",
  float64: "F64",
  float32: "F32",
  int32: "I32",
  bfloat16: "BF16",
  float16: "F16",
  int16: "I16",
  int8: "I8",
  uint8: "U8",
  bool: "BOOL",
} as const satisfies Record<DType, string>;

const BY_NAME: ReadonlyMap<string, DType> = new Map(
  (Object.keys(NAMES) as DType[]).map((dtype) => [NAMES[dtype], dtype]),
);

const RANKS: ReadonlyMap<DType, number> = new Map([...BY_NAME.values()].map((dtype, rank) => [dtype, rank]));

/** An element type's name in a file. */
export function dtypeToName(dtype: DType): string {
  return NAMES[dtype];
}

/** The element type that a name means, or undefined: 8-bit and 4-bit floats, wide unsigned and complex numbers. */
export function nameToDType(name: string): DType | undefined {
  return BY_NAME.get(name);
}

/** An element type's place in the canonical order. */
export function rankOf(dtype: DType): number {
  return RANKS.get(dtype) ?? 0;
}
