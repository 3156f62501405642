import { DTYPES, type DType, type Shape } from "../../../core/tensor.js";
import type { Budget } from "../budget.js";
import { encodeLatin1 } from "../encodings.js";
import { printable } from "../refusals.js";
import {
  type InertObject,
  inertObject,
  isGlobal,
  isObject,
  isStorage,
  type PickleValue,
  type Storage,
  typeName,
} from "./pickle/values.js";

/** Where a tensor's elements are: element `i` is at `offset + Σ iₐ·strideₐ` elements into the storage. */
export interface TensorRef {
  readonly dtype: DType;
  readonly elementBytes: number;
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: Shape;
  readonly strides: readonly number[];
}

/** Why a tensor cannot be used, as the end of a sentence about it; `format` when no honest writer makes it. */
export interface TensorProblem {
  readonly code: "format" | "unsupported";
  readonly text: string;
}

/** No network's tensors have more than 5 dimensions. With `MAX_SIZE` it keeps products of sizes finite. */
const MAX_RANK = 16;
const MAX_SIZE = 2 ** 48;

/** Whether a value is a list of sizes or strides. */
export function isSizes(value: PickleValue | undefined): value is number[] {
  return Array.isArray(value) && value.length <= MAX_RANK && value.every(isSize);
}

/** Whether a value can be a size, a stride or an offset. */
export function isSize(value: PickleValue | undefined): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < MAX_SIZE;
}

/** A problem that no honest writer causes. */
export function malformed(text: string): TensorProblem {
  return { code: "format", text };
}

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

/**
 * numpy arrays as pickles describe them. Source: numpy/core/src/multiarray/methods.c (`array_reduce`, `array_setstate`)
 * and descriptor.c (`arraydescr_reduce`). Elements lie in the pickle itself, in C or Fortran order, in either byte order.
 */

/** An array's parts, wherever its constructor or state has them. */
interface ArrayParts {
  readonly shape: PickleValue | undefined;
  readonly dtype: PickleValue | undefined;
  readonly fortranOrder: boolean;
  readonly data: PickleValue | undefined;
}

/** How each of numpy's constructors carries the parts. */
const ARRAYS: ReadonlyMap<string, (array: InertObject) => ArrayParts> = new Map([
  ["numpy.core.multiarray._reconstruct", ({ state }: InertObject) => stateParts(state)],
  [
    "numpy.core.numeric._frombuffer",
    ({ args: [data, dtype, shape, order] }: InertObject) => ({
      shape,
      dtype,
      fortranOrder: order === "F",
      data,
    }),
  ],
  [
    "numpy.core.multiarray.scalar",
    ({ args: [dtype, data] }: InertObject) => ({
      shape: [],
      dtype,
      fortranOrder: false,
      data,
    }),
  ],
]);

/** Whether an object is a numpy array or scalar. */
export function isArray({ path }: InertObject): boolean {
  return ARRAYS.has(path);
}

/** Describes the array that an object for which `isArray` holds stands for, or says why that cannot be used. */
export function arrayRef(array: InertObject, budget: Budget): TensorRef | TensorProblem {
  const parts = ARRAYS.get(array.path)?.(array);
  if (parts === undefined || !isSizes(parts.shape)) return malformed("a numpy array without a shape");
  const { shape } = parts;
  const type = elementType(parts.dtype);
  if (type === undefined) return malformed("a numpy array without a dtype");
  const dtype = numpyDType(type.code);
  if (dtype === undefined)
    return { code: "unsupported", text: `numpy elements of type ${printable(type.code)}` };
  const elementBytes = DTYPES[dtype].BYTES_PER_ELEMENT;
  const storage = inlineStorage(parts.data, type.bigEndian, budget);
  if (storage === undefined) return malformed(`numpy elements in a value of type ${typeName(parts.data)}`);
  const strides = parts.fortranOrder ? fortranStrides(shape) : contiguousStrides(shape);
  return { dtype, elementBytes, storage, offset: 0, shape, strides };
}

/** `([version,] shape, dtype, is Fortran order, data)`. */
function stateParts(state: PickleValue): ArrayParts {
  const parts = Array.isArray(state) ? state.slice(-4) : [];
  return { shape: parts[0], dtype: parts[1], fortranOrder: parts[2] === true, data: parts[3] };
}

/** A dtype object: made with a code such as `f4`, its byte order set with its state. */
function elementType(dtype: PickleValue | undefined) {
  if (!isObject(dtype) || dtype.path !== "numpy.dtype") return undefined;
  const [code] = dtype.args;
  const byteOrder = Array.isArray(dtype.state) ? dtype.state[1] : undefined;
  return typeof code === "string" ? { code, bigEndian: byteOrder === ">" } : undefined;
}

function inlineStorage(
  data: PickleValue | undefined,
  bigEndian: boolean,
  budget: Budget,
): Storage | undefined {
  const bytes = typeof data === "string" ? python2Bytes(data, budget) : data;
  if (!(bytes instanceof Uint8Array)) return undefined;
  return {
    kind: "storage",
    element: "numpy",
    byteLength: bytes.length,
    bigEndian,
    read: (start, end) => bytes.subarray(start, end),
  };
}

/** Python 2 pickles bytes as text. */
function python2Bytes(text: string, budget: Budget): Uint8Array | undefined {
  budget.spend(text.length, "byte strings");
  return encodeLatin1(text);
}

/** Strides of row-major order, in elements. */
function contiguousStrides(shape: Shape): number[] {
  return fortranStrides(shape.toReversed()).reverse();
}

function fortranStrides(shape: Shape): number[] {
  let stride = 1;
  return shape.map((dimension) => {
    const current = stride;
    stride *= dimension;
    return current;
  });
}

/**
 * Tensors as pickles describe them. Source: torch/_utils.py (`_rebuild_*`), torch/_tensor.py (`__reduce_ex__`).
 * Nothing is read or allocated here: an optimizer's tensors cost no more than their description.
 */

/** Tensors with elements in one storage. The dtype is the storage's, or in the newest form an argument. */
const STRIDED: ReadonlyMap<string, { readonly dtype?: number; readonly metadata?: number }> = new Map([
  ["torch._utils._rebuild_tensor", {}],
  ["torch._utils._rebuild_tensor_v2", { metadata: 6 }],
  ["torch._utils._rebuild_tensor_v3", { dtype: 6, metadata: 7 }],
]);

/** A wrapper around a tensor, which is its first argument. */
const WRAPPERS: ReadonlySet<string> = new Set([
  "torch._utils._rebuild_parameter",
  "torch._utils._rebuild_parameter_with_state",
  "torch.autograd.variable.Variable",
  "torch.nn.parameter.Buffer",
  "torch.nn.parameter.Parameter",
]);

/** A tensor with Python attributes: (function, type, arguments, state). */
const FROM_TYPE = "torch._tensor._rebuild_from_type_v2";

/** Tensors that are not a strided block of numbers, and what to call them. */
const OTHER_TENSORS: ReadonlyMap<string, string> = new Map([
  ["torch._utils._rebuild_device_tensor_from_cpu_tensor", "a tensor of another device"],
  ["torch._utils._rebuild_device_tensor_from_numpy", "a tensor of another device"],
  ["torch._utils._rebuild_meta_tensor_no_storage", "a meta tensor, which has no data"],
  ["torch._utils._rebuild_nested_tensor", "a nested tensor"],
  ["torch._utils._rebuild_qtensor", "a quantized tensor"],
  ["torch._utils._rebuild_sparse_csr_tensor", "a sparse tensor"],
  ["torch._utils._rebuild_sparse_tensor", "a sparse tensor"],
  ["torch._utils._rebuild_wrapper_subclass", "a tensor subclass without data"],
  ["torch._utils._rebuild_xla_tensor", "a tensor of another device"],
]);

/** Whether a value stands for a tensor or array, usable or not. */
export function isTensor(value: PickleValue | undefined): boolean {
  if (!isObject(value)) return false;
  const { path } = value;
  return (
    STRIDED.has(path) || WRAPPERS.has(path) || path === FROM_TYPE || OTHER_TENSORS.has(path) || isArray(value)
  );
}

/** Describes the tensor that a value for which `isTensor` holds stands for, or says why that cannot be used. */
export function tensorRef(value: PickleValue, budget: Budget): TensorRef | TensorProblem {
  const tensor = unwrap(value);
  if (!isObject(tensor)) return malformed(`a tensor made from a value of type ${typeName(tensor)}`);
  const other = OTHER_TENSORS.get(tensor.path);
  if (other !== undefined) return { code: "unsupported", text: other };
  if (isArray(tensor)) return arrayRef(tensor, budget);
  const layout = STRIDED.get(tensor.path);
  if (layout === undefined) return malformed(`a tensor made by ${printable(tensor.path)}`);
  if (layout.metadata !== undefined && hasLazyBits(tensor.args[layout.metadata])) {
    return { code: "unsupported", text: "a tensor with a pending negation or conjugation" };
  }
  return stridedRef(tensor, layout.dtype === undefined ? undefined : tensor.args[layout.dtype]);
}

/** No writer nests wrappers deeper, and a hostile pickle can make them circular. */
const MAX_WRAPPERS = 8;

function unwrap(value: PickleValue): PickleValue {
  let inner = value;
  for (let depth = 0; depth < MAX_WRAPPERS && isObject(inner); depth++) {
    if (WRAPPERS.has(inner.path)) inner = inner.args[0] ?? null;
    else if (inner.path === FROM_TYPE) inner = fromType(inner);
    else break;
  }
  return inner;
}

function fromType({ args: [callee, , args] }: InertObject): PickleValue {
  return isGlobal(callee) && Array.isArray(args) ? inertObject(callee.path, args) : null;
}

function hasLazyBits(metadata: PickleValue | undefined): boolean {
  return metadata instanceof Map && [...metadata.values()].some((bit) => bit === true);
}

function stridedRef({ args }: InertObject, dtypeName: PickleValue | undefined): TensorRef | TensorProblem {
  const [storage, offset, shape, strides] = args;
  if (!isStorage(storage)) return malformed(`a tensor over a value of type ${typeName(storage)}`);
  if (!isSize(offset) || !isSizes(shape) || !isSizes(strides) || shape.length !== strides.length) {
    return malformed("a tensor without a proper offset, shape and strides");
  }
  const dtype = dtypeName === undefined ? storageElement(storage.element)?.dtype : namedDType(dtypeName);
  if (dtype === undefined) {
    const name = isGlobal(dtypeName) ? dtypeName.path.replace(/^torch\./, "") : storage.element;
    return { code: "unsupported", text: `elements of type ${printable(name)}` };
  }
  return { dtype, elementBytes: DTYPES[dtype].BYTES_PER_ELEMENT, storage, offset, shape, strides };
}

function namedDType(value: PickleValue): DType | undefined {
  return isGlobal(value) ? torchDType(value.path) : undefined;
}
