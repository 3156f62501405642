import { DTYPES, type DType, elementCount, type Shape } from "../../../core/tensor.js";
import { encodeLatin1 } from "../cursor.js";
import { type Budget, printable } from "../refusals.js";
import {
  type InertObject,
  inertObject,
  isDict,
  isGlobal,
  isObject,
  isStorage,
  type PickleDict,
  type PickleValue,
  type Storage,
  typeName,
} from "./pickle/values.js";

/** The position of a tensor's elements: element `i` is at `offset + Σ iₐ·strideₐ` elements into the storage. */
export interface TensorRef {
  readonly dtype: DType;
  readonly elementBytes: number;
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: Shape;
  readonly strides: readonly number[];
}

/** Why a tensor cannot be used, as the end of a sentence about it; `format` if no ordinary writer produces it. */
export interface TensorProblem {
  readonly code: "format" | "unsupported";
  readonly text: string;
}

/** No network's tensors have more than 5 dimensions. With `MAX_SIZE` it keeps products of sizes finite. */
const MAX_RANK = 16;
const MAX_SIZE = 2 ** 48;

/** Whether a value is a list of sizes or strides. */
function isSizes(value: PickleValue | undefined): value is number[] {
  return Array.isArray(value) && value.length <= MAX_RANK && value.every(isSize);
}

/** Whether a value can be a size, a stride or an offset. */
function isSize(value: PickleValue | undefined): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < MAX_SIZE;
}

/** A problem that no ordinary writer causes. */
export function malformed(text: string): TensorProblem {
  return { code: "format", text };
}

/** An element of a storage or tensor: its size, and its dtype if the project supports it. */
interface ElementType {
  readonly bytes: number;
  readonly dtype?: DType;
}

/**
 * Element types by the name of PyTorch's storage class, without its `Storage` (torch/storage.py,
 * `_dtype_to_storage_type_map`). Those without a dtype can be skipped but not used.
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

/** The dtype for a name such as `torch.float32`; undefined for unsupported ones. */
function torchDType(path: string): DType | undefined {
  const name = path.replace(/^torch\./, "");
  return isDType(name) ? name : undefined;
}

/** dtypes by numpy's kind and size (numpy.dtype.str without its byte order), for element types that PyTorch has too. */
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
function numpyDType(code: string): DType | undefined {
  return NUMPY_DTYPES.get(code);
}

function isDType(name: string): name is DType {
  return Object.hasOwn(DTYPES, name);
}

/**
 * Pickled numpy arrays. Source: numpy/core/src/multiarray/methods.c (`array_reduce`, `array_setstate`), descriptor.c
 * (`arraydescr_reduce`) and numeric.py (`_frombuffer`). Elements are in the pickle itself, in either byte order, in C
 * or Fortran order or, since NumPy 2.3, in C order of permuted axes.
 */

/** An array's parts, from its constructor or its state. */
interface ArrayParts {
  readonly shape: PickleValue | undefined;
  readonly dtype: PickleValue | undefined;
  readonly data: PickleValue | undefined;
  /** Strides in elements, by shape; undefined for an unknown order. */
  readonly strides: (shape: Shape) => readonly number[] | undefined;
  /** The axes of the stored array in the array's order. */
  readonly axes?: PickleValue | undefined;
}

/** How each of numpy's constructors passes the parts; undefined for other arguments than numpy's. */
const ARRAYS: ReadonlyMap<string, (array: InertObject) => ArrayParts | undefined> = new Map([
  ["numpy.core.multiarray._reconstruct", reconstructedParts],
  ["numpy.core.numeric._frombuffer", bufferParts],
  ["numpy.core.multiarray.scalar", scalarParts],
]);

/** Whether an object is a numpy array or scalar. */
function isArray({ path }: InertObject): boolean {
  return ARRAYS.has(path);
}

/** The array that a value with `isArray` represents, or why it cannot be used. */
function arrayRef(array: InertObject, budget: Budget): TensorRef | TensorProblem {
  if (array.items !== null || array.entries !== null)
    return malformed("a numpy array with items set afterwards");
  const parts = ARRAYS.get(array.path)?.(array);
  if (parts === undefined)
    return malformed(`a numpy array created in another way than numpy's, by ${printable(array.path)}`);
  if (!isSizes(parts.shape)) return malformed("a numpy array without a shape");
  const stored = parts.shape;
  const type = elementType(parts.dtype);
  if (type === undefined) return malformed("a numpy array without a dtype that numpy writes");
  const dtype = numpyDType(type.code);
  if (dtype === undefined)
    return { code: "unsupported", text: `numpy elements of type ${printable(type.code)}` };
  const elementBytes = DTYPES[dtype].BYTES_PER_ELEMENT;
  const storage = inlineStorage(parts.data, type.bigEndian, budget);
  if (storage === undefined) return malformed(`numpy elements in a value of type ${typeName(parts.data)}`);
  if (storage.byteLength !== elementCount(stored) * elementBytes)
    return malformed(`a numpy array of ${storage.byteLength} bytes, which does not match its shape,`);
  const strides = parts.strides(stored);
  if (strides === undefined) return malformed("a numpy array with an unknown memory order");
  const axes = parts.axes ?? stored.map((_, axis) => axis);
  if (!isPermutation(axes, stored.length))
    return malformed("a numpy array with a memory order for other axes");
  return {
    dtype,
    elementBytes,
    storage,
    offset: 0,
    shape: axes.map((axis) => stored[axis] ?? 0),
    strides: axes.map((axis) => strides[axis] ?? 0),
  };
}

/** `_reconstruct(ndarray, (0,), b"b")`, then the state `([version,] shape, dtype, is Fortran order, data)`. */
function reconstructedParts({ args, state }: InertObject): ArrayParts | undefined {
  const [type] = args;
  if (args.length !== 3 || !isGlobal(type) || type.path !== "numpy.ndarray" || !Array.isArray(state))
    return undefined;
  const [shape, dtype, isFortran, data] = state.slice(-4);
  const version = state.length === 5 ? state[0] : 0;
  if (state.length < 4 || state.length > 5 || !(version === 0 || version === 1)) return undefined;
  if (typeof isFortran !== "boolean") return undefined;
  return { shape, dtype, data, strides: isFortran ? fortranStrides : contiguousStrides };
}

/** `_frombuffer(data, dtype, shape, order[, axis order])`. */
function bufferParts({ args, state }: InertObject): ArrayParts | undefined {
  const [data, dtype, shape, order, axes = null] = args;
  if (state !== undefined || args.length > 5) return undefined;
  const strides =
    order === "F"
      ? fortranStrides
      : order === "C" || (order === "K" && axes !== null)
        ? contiguousStrides
        : () => undefined;
  // numpy reads the axes only in order K.
  return { shape, dtype, data, strides, ...(order === "K" ? { axes } : {}) };
}

/** `scalar(dtype, data)`. */
function scalarParts({ args, state }: InertObject): ArrayParts | undefined {
  const [dtype, data] = args;
  if (state !== undefined || args.length !== 2) return undefined;
  return { shape: [], dtype, data, strides: contiguousStrides };
}

function isPermutation(axes: PickleValue, rank: number): axes is number[] {
  return (
    isSizes(axes) && axes.length === rank && new Set(axes).size === rank && axes.every((axis) => axis < rank)
  );
}

/** The parts of a dtype's state after its version and byte order: no subarray, fields or metadata, default sizes. */
const PLAIN_DTYPE_STATE: readonly PickleValue[] = [null, null, null, -1, -1, 0];

/**
 * A dtype object: `dtype("f4", align, copy)`, its byte order set with the state
 * `(3, order, subarray, names, fields, size, alignment, flags)`.
 */
function elementType(dtype: PickleValue | undefined) {
  if (!isObject(dtype) || dtype.path !== "numpy.dtype") return undefined;
  const [code, ...copying] = dtype.args;
  const isNew = copying.length === 0 || (copying.length === 2 && copying.every(isBit));
  if (typeof code !== "string" || !isNew || dtype.items !== null || dtype.entries !== null) return undefined;
  if (dtype.state === undefined) return { code, bigEndian: false };
  if (!Array.isArray(dtype.state)) return undefined;
  const [version, order, ...rest] = dtype.state;
  const isPlain =
    rest.length === PLAIN_DTYPE_STATE.length && rest.every((part, at) => part === PLAIN_DTYPE_STATE[at]);
  if (version !== 3 || !isPlain || typeof order !== "string" || !["<", ">", "|", "="].includes(order))
    return undefined;
  // Without a copy the dtype is numpy's own, whose byte order does not change.
  if (order === ">" && !copying[1]) return undefined;
  return { code, bigEndian: order === ">" };
}

function isBit(value: PickleValue): boolean {
  return typeof value === "boolean" || value === 0 || value === 1;
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
 * Pickled tensors. Source: torch/_utils.py (`_rebuild_*`), torch/_tensor.py (`__reduce_ex__`, `__setstate__`). Nothing
 * is read or allocated here: an optimizer's tensors cost no more than their description. Anything else that a pickle
 * does to a tensor (state, items, metadata, attributes) can change what PyTorch makes of it, so it is read too, and
 * refused unless it is harmless.
 */

/** Tensors with elements in one storage: how many arguments they take, and where some of them are. */
interface StridedLayout {
  readonly least: number;
  readonly most: number;
  readonly hooks?: number;
  /** That of the dtype, or else of the storage. */
  readonly dtype?: number;
  readonly metadata?: number;
}

const STRIDED: ReadonlyMap<string, StridedLayout> = new Map([
  ["torch._utils._rebuild_tensor", { least: 4, most: 4 }],
  ["torch._utils._rebuild_tensor_v2", { least: 6, most: 7, hooks: 5, metadata: 6 }],
  ["torch._utils._rebuild_tensor_v3", { least: 7, most: 8, hooks: 5, dtype: 6, metadata: 7 }],
]);

/** A wrapper around a tensor, which is its first argument. */
interface WrapperLayout {
  readonly least: number;
  readonly most: number;
  readonly hooks?: number;
  readonly attributes?: number;
  /** Whether PyTorch before 0.4 set `(requires_grad, volatile, hooks)` as its state. */
  readonly hasState?: boolean;
}

const WRAPPERS: ReadonlyMap<string, WrapperLayout> = new Map([
  ["torch._utils._rebuild_parameter", { least: 3, most: 3, hooks: 2 }],
  ["torch._utils._rebuild_parameter_with_state", { least: 4, most: 4, hooks: 2, attributes: 3 }],
  ["torch.autograd.variable.Variable", { least: 1, most: 2, hasState: true }],
  ["torch.nn.parameter.Buffer", { least: 1, most: 2 }],
  ["torch.nn.parameter.Parameter", { least: 1, most: 2, hasState: true }],
]);

/** A tensor with Python attributes: (function, type, arguments, state). */
const FROM_TYPE = "torch._tensor._rebuild_from_type_v2";

/** Classes that compute with a tensor as a tensor does. */
const TENSOR_TYPES: ReadonlySet<string> = new Set([
  "torch.Tensor",
  "torch._tensor.Tensor",
  "torch.nn.parameter.Buffer",
  "torch.nn.parameter.Parameter",
]);

/** Tensors that are not a strided block of numbers, and their names in messages. */
const OTHER_TENSORS: ReadonlyMap<string, string> = new Map([
  ["torch._utils._rebuild_device_tensor_from_cpu_tensor", "a tensor on another device"],
  ["torch._utils._rebuild_device_tensor_from_numpy", "a tensor on another device"],
  ["torch._utils._rebuild_meta_tensor_no_storage", "a meta tensor, which has no data"],
  ["torch._utils._rebuild_nested_tensor", "a nested tensor"],
  ["torch._utils._rebuild_qtensor", "a quantized tensor"],
  ["torch._utils._rebuild_sparse_csr_tensor", "a sparse tensor"],
  ["torch._utils._rebuild_sparse_tensor", "a sparse tensor"],
  ["torch._utils._rebuild_wrapper_subclass", "a tensor subclass without data"],
  ["torch._utils._rebuild_xla_tensor", "a tensor on another device"],
]);

/**
 * Tensors constructed as objects of a class and filled by their state, as before PyTorch had functions that rebuild
 * them.
 */
const CLASS_TENSOR = /^torch\.(?:\w+\.)*\w*Tensor$/;

/** Whether a value represents a tensor or array, usable or not. */
export function isTensor(value: PickleValue | undefined): boolean {
  if (!isObject(value)) return false;
  const { path } = value;
  return (
    STRIDED.has(path) ||
    WRAPPERS.has(path) ||
    path === FROM_TYPE ||
    OTHER_TENSORS.has(path) ||
    CLASS_TENSOR.test(path) ||
    isArray(value)
  );
}

/** No writer nests wrappers deeper, and a hostile pickle can make them circular. */
const MAX_WRAPPERS = 8;

/** The tensor that a value with `isTensor` represents, or why it cannot be used. */
export function tensorRef(value: PickleValue, budget: Budget, depth = 0): TensorRef | TensorProblem {
  if (!isObject(value) || depth > MAX_WRAPPERS) return malformed(`a value of type ${typeName(value)}`);
  const { path, args } = value;
  const other =
    OTHER_TENSORS.get(path) ??
    (CLASS_TENSOR.test(path) ? `a tensor created by ${printable(path)}` : undefined);
  if (other !== undefined) return { code: "unsupported", text: other };
  if (isArray(value)) return arrayRef(value, budget);
  if (value.items !== null || value.entries !== null) return changed("items set afterwards");
  const wrapper = WRAPPERS.get(path);
  if (wrapper !== undefined) {
    const problem = wrapperProblem(value, wrapper);
    return problem ?? tensorRef(args[0] ?? null, budget, depth + 1);
  }
  if (value.state !== undefined) return changed("state set afterwards");
  if (path === FROM_TYPE) {
    const [callee, type, inner, attributes] = args;
    if (args.length !== 4 || !isGlobal(callee) || !isGlobal(type) || !Array.isArray(inner))
      return malformed(`a tensor made by ${printable(path)} with unexpected arguments`);
    if (!TENSOR_TYPES.has(type.path))
      return { code: "unsupported", text: `a tensor of class ${printable(type.path)}` };
    return attributesProblem(attributes) ?? tensorRef(inertObject(callee.path, inner), budget, depth + 1);
  }
  const layout = STRIDED.get(path);
  if (layout === undefined) return { code: "unsupported", text: `a value of type ${printable(path)}` };
  return stridedProblem(value, layout) ?? stridedRef(value, layout);
}

function wrapperProblem(
  { path, args, state }: InertObject,
  layout: WrapperLayout,
): TensorProblem | undefined {
  if (args.length < layout.least || args.length > layout.most)
    return malformed(`a tensor made by ${printable(path)} of ${args.length} arguments`);
  if (layout.hooks !== undefined && !isEmpty(args[layout.hooks])) return changed("backward hooks");
  if (state !== undefined) {
    const isPlain = layout.hasState && Array.isArray(state) && state.length === 3 && isEmpty(state[2]);
    if (!isPlain || !state.slice(0, 2).every((flag) => flag === null || typeof flag === "boolean"))
      return changed("state set afterwards");
  }
  return layout.attributes === undefined ? undefined : attributesProblem(args[layout.attributes]);
}

function stridedProblem({ path, args }: InertObject, layout: StridedLayout): TensorProblem | undefined {
  if (args.length < layout.least || args.length > layout.most)
    return malformed(`a tensor made by ${printable(path)} of ${args.length} arguments`);
  if (layout.hooks !== undefined && !isEmpty(args[layout.hooks])) return changed("backward hooks");
  const metadata = layout.metadata === undefined ? null : (args[layout.metadata] ?? null);
  if (metadata === null) return undefined;
  // PyTorch negates for a key `neg` whatever its value, and passes other keys to a device.
  const isPlain = isDict(metadata) && metadata.size === 0;
  return isPlain
    ? undefined
    : { code: "unsupported", text: "a tensor with a pending negation or conjugation" };
}

/** Attributes that write to the tensor's elements or its class when set. */
const ACTIVE_ATTRIBUTES: ReadonlySet<string> = new Set([
  "data",
  "real",
  "imag",
  "grad",
  "_grad",
  "names",
  "shape",
]);

/**
 * Python attributes of a tensor: None, a dict, or a pair of them (`torch._utils._set_obj_state`), usually left from
 * training. A callable one might replace one of the tensor's methods.
 */
function attributesProblem(state: PickleValue | undefined): TensorProblem | undefined {
  const parts = Array.isArray(state) && state.length === 2 ? state : [state ?? null];
  for (const part of parts) {
    if (part === null) continue;
    if (!isDict(part)) return changed(`attributes of type ${typeName(part)}`);
    const active = activeAttribute(part);
    if (active !== undefined) return changed(`the attribute ${printable(active)}`);
  }
  return undefined;
}

function activeAttribute(attributes: PickleDict): string | undefined {
  for (const [name, value] of attributes) {
    if (typeof name !== "string") return typeName(name);
    const isMark = !(isObject(value) || isGlobal(value) || isStorage(value));
    if (!isMark || ACTIVE_ATTRIBUTES.has(name) || name.startsWith("__")) return name;
  }
  return undefined;
}

function isEmpty(hooks: PickleValue | undefined): boolean {
  return hooks === null || (isDict(hooks) && hooks.size === 0);
}

function changed(by: string): TensorProblem {
  return { code: "unsupported", text: `a tensor with ${by}, which may change its elements` };
}

function stridedRef({ args }: InertObject, layout: StridedLayout): TensorRef | TensorProblem {
  const [storage, offset, shape, strides] = args;
  const dtypeName = layout.dtype === undefined ? undefined : args[layout.dtype];
  if (!isStorage(storage)) return malformed(`a tensor whose storage is a value of type ${typeName(storage)}`);
  if (!isSize(offset) || !isSizes(shape) || !isSizes(strides) || shape.length !== strides.length) {
    return malformed("a tensor without a proper offset, shape and strides");
  }
  const element = storageElement(storage.element);
  const dtype = dtypeName === undefined ? element?.dtype : namedDType(dtypeName);
  if (dtype === undefined) {
    const name = isGlobal(dtypeName) ? dtypeName.path.replace(/^torch\./, "") : storage.element;
    return { code: "unsupported", text: `elements of type ${printable(name)}` };
  }
  const elementBytes = DTYPES[dtype].BYTES_PER_ELEMENT;
  // PyTorch swaps the bytes of a storage's elements, whatever type a tensor gives them.
  if (storage.bigEndian && element?.bytes !== elementBytes)
    return { code: "unsupported", text: "big-endian elements of another size than their storage's" };
  return { dtype, elementBytes, storage, offset, shape, strides };
}

function namedDType(value: PickleValue): DType | undefined {
  return isGlobal(value) ? torchDType(value.path) : undefined;
}
