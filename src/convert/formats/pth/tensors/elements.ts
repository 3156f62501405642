import { DTYPES, type DType } from "../../../../tensor.js";

/** What one element of a storage or tensor is: its size, and its dtype unless the project has none for it. */
export interface ElementType {
  readonly bytes: number;
  readonly dtype?: DType;
}

/**
 * Element types by the name of PyTorch's storage class, without its `Storage` (torch/storage.py,
 * `_dtype_to_storage_type_map`). Those without a dtype can be skipped over but not used.
 */
const STORAGE_ELEMENTS: ReadonlyMap<string, ElementType> = new Map<string, ElementType>([
  ["Double", { bytes: 8, dtype: "float64" }],
  ["Float", { bytes: 4, dtype: "float32" }],
  ["Half", { bytes: 2, dtype: "float16" }],
  ["BFloat16", { bytes: 2, dtype: "bfloat16" }],
  ["Long", { bytes: 8, dtype: "int64" }],
  ["Int", { bytes: 4, dtype: "int32" }],
  ["Short", { bytes: 2, dtype: "int16" }],
  ["Char", { bytes: 1, dtype: "int8" }],
  ["Byte", { bytes: 1, dtype: "uint8" }],
  ["Bool", { bytes: 1, dtype: "bool" }],
  ["Untyped", { bytes: 1, dtype: "uint8" }],
  ["ComplexDouble", { bytes: 16 }],
  ["ComplexFloat", { bytes: 8 }],
  ["QInt32", { bytes: 4 }],
  ["QInt8", { bytes: 1 }],
  ["QUInt8", { bytes: 1 }],
  ["QUInt4x2", { bytes: 1 }],
  ["QUInt2x4", { bytes: 1 }],
]);

/** Names the element type of a storage class such as `torch.cuda.FloatStorage`; undefined for any other class. */
export function storageElementName(path: string): string | undefined {
  const name = /^torch\.(?:\w+\.)*(\w+)Storage$/.exec(path)?.[1];
  return name !== undefined && STORAGE_ELEMENTS.has(name) ? name : undefined;
}

/** The element type of a storage by that name. */
export function storageElement(name: string): ElementType | undefined {
  return STORAGE_ELEMENTS.get(name);
}

/** The dtype that `torch.float32` and the like name; undefined for those the project has no tensors of. */
export function torchDType(path: string): DType | undefined {
  const name = path.replace(/^torch\./, "");
  return isDType(name) ? name : undefined;
}

/**
 * dtypes by numpy's kind and size (numpy.dtype.str without its byte order): those whose elements are numbers that
 * PyTorch has too.
 */
const NUMPY_DTYPES: ReadonlyMap<string, DType> = new Map([
  ["f8", "float64"],
  ["f4", "float32"],
  ["f2", "float16"],
  ["i8", "int64"],
  ["i4", "int32"],
  ["i2", "int16"],
  ["i1", "int8"],
  ["u1", "uint8"],
  ["b1", "bool"],
]);

/** The dtype of a numpy type code such as `f4`. */
export function numpyDType(code: string): DType | undefined {
  return NUMPY_DTYPES.get(code);
}

function isDType(name: string): name is DType {
  return Object.hasOwn(DTYPES, name);
}
