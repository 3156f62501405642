/**
 * numpy arrays as pickles describe them. Source: numpy/core/src/multiarray/methods.c (`array_reduce`, `array_setstate`)
 * and descriptor.c (`arraydescr_reduce`). Elements lie in the pickle itself, in C or Fortran order, in either byte order.
 */

import { DTYPES, type Shape } from "../../../../tensor.js";
import type { Budget } from "../../budget.js";
import { encodeLatin1 } from "../../encodings.js";
import { printable } from "../../refusals.js";
import { type InertObject, isObject, type PickleValue, type Storage, typeName } from "../pickle/values.js";
import { numpyDType } from "./elements.js";
import { isSizes, malformed, type TensorProblem, type TensorRef } from "./layout.js";

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
