/**
 * The tensor type shared by the whole project: row-major ("C order"), contiguous, never strided.
 *
 * `float16` and `bfloat16` are raw 16-bit patterns in a `Uint16Array`, `bool` is 0 or 1 in a `Uint8Array`: converting
 * between containers never rounds.
 */

/** The typed array for each element type, by PyTorch's names. */
export interface DTypeArrays {
  float64: Float64Array;
  float32: Float32Array;
  float16: Uint16Array;
  bfloat16: Uint16Array;
  int64: BigInt64Array;
  int32: Int32Array;
  int16: Int16Array;
  int8: Int8Array;
  uint8: Uint8Array;
  bool: Uint8Array;
}

/** The name of an element type. */
export type DType = keyof DTypeArrays;

/** The typed array for elements of dtype `D`. */
export type TensorData<D extends DType = DType> = DTypeArrays[D];

/** Constructs a typed array of one kind, empty or over existing bytes (with an aligned offset). */
interface TensorDataConstructor<A> {
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): A;
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): A;
}

/** The constructor of each element type's array: the one dtype table of the project. */
export const DTYPES: { readonly [D in DType]: TensorDataConstructor<DTypeArrays[D]> } = {
  float64: Float64Array,
  float32: Float32Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

/** Dimensions, outermost first; empty for a scalar. */
export type Shape = readonly number[];

/** A dense row-major array. `data.length` is the product of `shape`. */
export interface Tensor<D extends DType = DType> {
  /** PyTorch's name of the element type. */
  readonly dtype: D;
  /** Dimensions, outermost first: [N, C, H, W] for images and activations. */
  readonly shape: Shape;
  /** The elements, the last dimension fastest. `float16` and `bfloat16` are raw bits in a `Uint16Array`. */
  readonly data: TensorData<D>;
}

/** A floating-point tensor on which arithmetic can run directly. */
export type RealTensor = Tensor<"float32"> | Tensor<"float64">;

/** The number of elements of a shape (1 for a scalar). */
export function elementCount(shape: Shape): number {
  return shape.reduce((count, dimension) => count * dimension, 1);
}

/** `[1, 3, 256, 128]`, for messages. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Whether two shapes agree in every dimension. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dimension, axis) => dimension === b[axis]);
}

/** A tensor with memory of its own: backends may use that of a value again. */
export function copyOf<T extends Tensor>(tensor: T): T {
  return { ...tensor, data: tensor.data.slice() };
}

/** Rows of a tensor, such as images of a batch, from the one at an index on; the last one is repeated to fill the number. */
export function rowsOf<T extends RealTensor>(tensor: T, first: number, count: number): T {
  const [total = 1, ...rest] = tensor.shape;
  if (first === 0 && count === total) return tensor;
  const length = tensor.data.length / Math.max(1, total);
  const data = new DTYPES[tensor.dtype](count * length);
  for (let row = 0; row < count; row++) {
    const from = Math.min(first + row, total - 1) * length;
    data.set(tensor.data.subarray(from, from + length), row * length);
  }
  return { ...tensor, shape: [count, ...rest], data };
}

/** A tensor with permuted axes: axis k of the result is axis `axes[k]` of the tensor. */
export function permute<T extends Tensor>(tensor: T, axes: readonly number[]): T {
  const { shape, data } = tensor;
  const resultShape = axes.map((axis) => shape[axis] ?? 1);
  // Axes of size 1 have no effect; without them the innermost loop is long.
  const moved = axes.filter((axis) => shape[axis] !== 1);
  const sizes = moved.map((axis) => shape[axis] ?? 1);
  const steps = moved.map((axis) => elementCount(shape.slice(axis + 1)));
  const [length, step] = [sizes.pop() ?? 1, steps.pop() ?? 1];
  const index = sizes.map(() => 0);
  const result = data.slice();
  // `result` is a copy of `data`, and has the same array type.
  const [from, to] = [data as Float32Array, result as Float32Array];
  for (let row = 0, start = 0; row < to.length; row += length) {
    for (let at = 0; at < length; at++) to[row + at] = from[start + at * step] as number;
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      const stride = steps[axis] as number;
      const next = (index[axis] as number) + 1;
      start += stride;
      if (next < (sizes[axis] as number)) {
        index[axis] = next;
        break;
      }
      start -= stride * next;
      index[axis] = 0;
    }
  }
  return { ...tensor, shape: resultShape, data: result };
}

/**
 * PyTorch's `state_dict()`: parameter and buffer paths to tensors, in the order of the file. A `Map`, so that a key
 * called `__proto__` is an ordinary key.
 */
export type StateDict = ReadonlyMap<string, Tensor>;
