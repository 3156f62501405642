import { DTYPES, elementCount, type Tensor } from "../../../core/tensor.js";
import type { Budget } from "../budget.js";
import { malformed, type TensorProblem, type TensorRef } from "./tensor-ref.js";

/** How tensors may be made. */
export interface MaterializeOptions {
  readonly budget: Budget;
  /** Whether a tensor may be a view over the storage's bytes, which then live as long as the tensor does. */
  readonly share: boolean;
  /** Whether reading a storage's bytes takes memory: they are then in no array that others see. */
  readonly copied: boolean;
}

/** The number of storage elements from a tensor's first to its last, or 0 for an empty tensor. */
function spanOf({ shape, strides }: TensorRef): number {
  if (shape.includes(0)) return 0;
  return 1 + shape.reduce((last, dimension, axis) => last + (dimension - 1) * (strides[axis] ?? 0), 0);
}

/**
 * Makes a tensor of what a reference describes: row-major, contiguous, in the machine's byte order. Bytes are shared
 * when `share` allows it and they lie as typed arrays need them, otherwise copied once. (Typed arrays are
 * little-endian on every platform that JavaScript engines are built for.) Returns what is wrong with a reference that
 * leaves its storage; throws `InputError` when the storage's bytes are not there or the budget is exceeded.
 */
export function materialize(ref: TensorRef, options: MaterializeOptions): Tensor | TensorProblem {
  const { dtype, shape, storage, elementBytes } = ref;
  const count = elementCount(shape);
  const span = spanOf(ref);
  const end = (ref.offset + span) * elementBytes;
  // Also false for sums beyond 2^53 that have lost exactness: no storage is that long.
  if (!(end <= storage.byteLength) && span > 0) {
    return malformed(
      `elements ${ref.offset} to ${ref.offset + span} of a storage of ${storage.byteLength / elementBytes}`,
    );
  }
  const start = ref.offset * elementBytes;
  if (options.copied) options.budget.spend(span * elementBytes, "copies of tensors");
  const bytes = span === 0 ? new Uint8Array(0) : storage.read(start, end);
  const contiguous = span === count && isContiguous(ref);

  const needsCopy =
    bytes.byteOffset % elementBytes !== 0 ||
    storage.bigEndian ||
    (contiguous && !options.share) ||
    dtype === "bool";
  let source = bytes;
  if (needsCopy) {
    options.budget.spend(bytes.length, "copies of tensors");
    source = bytes.slice();
  }
  if (storage.bigEndian) swapBytes(source, elementBytes);
  if (dtype === "bool") normalizeBooleans(source);
  if (contiguous) return { dtype, shape, data: new DTYPES[dtype](source.buffer, source.byteOffset, count) };

  options.budget.spend(count * elementBytes, "copies of tensors");
  const target = new DTYPES[dtype](count);
  gather(ref, source, new Uint8Array(target.buffer));
  return { dtype, shape, data: target };
}

/** Whether elements follow one another in row-major order; a dimension of 1 may have any stride. */
function isContiguous({ shape, strides }: TensorRef): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const dimension = shape[axis] ?? 1;
    if (dimension > 1 && strides[axis] !== expected) return false;
    expected *= dimension;
  }
  return true;
}

/** Copies strided elements into row-major order. Elements move as integers: a float would lose a NaN's payload. */
function gather({ shape, strides, elementBytes }: TensorRef, source: Uint8Array, target: Uint8Array): void {
  const unit = Math.min(elementBytes, 4);
  const from = unsignedView(source, unit);
  const to = unsignedView(target, unit);
  const units = elementBytes / unit;
  const index = shape.map(() => 0);
  let element = 0;
  for (let position = 0; position < to.length; position += units) {
    for (let part = 0; part < units; part++) to[position + part] = from[element * units + part] ?? 0;
    // Advances the index as an odometer, the last axis first.
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const stride = strides[axis] ?? 0;
      const next = (index[axis] ?? 0) + 1;
      if (next < (shape[axis] ?? 0)) {
        index[axis] = next;
        element += stride;
        break;
      }
      index[axis] = 0;
      element -= (next - 1) * stride;
    }
  }
}

function unsignedView({ buffer, byteOffset, byteLength }: Uint8Array, unit: number) {
  if (unit === 4) return new Uint32Array(buffer, byteOffset, byteLength / 4);
  if (unit === 2) return new Uint16Array(buffer, byteOffset, byteLength / 2);
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Reverses the bytes of each element in place. */
function swapBytes(bytes: Uint8Array, elementBytes: number): void {
  for (let start = 0; start < bytes.length; start += elementBytes) {
    for (let low = start, high = start + elementBytes - 1; low < high; low++, high--) {
      const byte = bytes[low] ?? 0;
      bytes[low] = bytes[high] ?? 0;
      bytes[high] = byte;
    }
  }
}

/** A bool is 0 or 1; any other byte reads as true in PyTorch. */
function normalizeBooleans(bytes: Uint8Array): void {
  bytes.forEach((byte, index) => {
    bytes[index] = byte === 0 ? 0 : 1;
  });
}
