import type { Op, OpKind, ParameterRole } from "../../arch/graph.js";
import type { Shape } from "../../core/tensor.js";
import type { Numbers } from "./elements.js";
import type { Engine, Products } from "./engine.js";

/** A tensor, row-major NCHW or NC: what kernels read, and the buffer they fill. */
export interface Operand<N extends Numbers = Float64Array> {
  readonly shape: Shape;
  readonly data: N;
}

/** A layer's parameters, in float32 if they are stored so, laid out as in the state dict: OIHW, [out, in], [channels]. */
export type LayerParameters = Readonly<Partial<Record<ParameterRole, Numbers>>>;

type Affine = Readonly<Record<"weight" | "bias", Numbers>>;

/** The parameters an operation reads, if any. A convolution without bias has none added. */
interface ParameterTable {
  conv: Pick<Affine, "weight"> & Partial<Pick<Affine, "bias">>;
  linear: Affine;
  batchNorm: Readonly<Record<ParameterRole, Numbers>>;
  instanceNorm: Affine;
  layerNorm: Affine;
}

/** The inputs of the operations that do not read just one tensor. */
interface InputTable {
  scale: readonly [stream: Operand, gate: Operand];
  add: readonly [first: Operand, second: Operand, ...rest: Operand[]];
}

/** What a kernel of kind `K` is given. */
export interface Call<K extends OpKind = OpKind> {
  readonly op: Op<K>;
  readonly inputs: K extends keyof InputTable ? InputTable[K] : readonly [Operand];
  readonly parameters: K extends keyof ParameterTable ? ParameterTable[K] : object;
  /** Filled by the kernel; its shape is from `outputShapes` of src/arch. In the engine's memory. */
  readonly output: Operand;
  readonly engine: Engine;
  /** Where the kernel's scratch memory starts in the engine's: as many elements as `scratchSize` says. */
  readonly scratch: number;
}

/**
 * Computes one operation from its definition: the output depends on the inputs and parameters only, and inputs are
 * never modified. A batch norm's output may share the memory of its input.
 */
export type Kernel<K extends OpKind> = (call: Call<K>) => void;

/** The dimensions of a tensor NCHW; of NC, height and width are 1. */
interface Dimensions {
  readonly images: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  /** Elements of one channel of one image: height × width. */
  readonly plane: number;
}

export function dimensions({ shape }: Pick<Operand, "shape">): Dimensions {
  const [images = 1, channels = 1, height = 1, width = 1] = shape;
  return { images, channels, height, width, plane: height * width };
}

/** Planes of an image, one channel after another, row by row. */
export interface Planes {
  readonly data: Numbers;
  /** Where the first plane starts. */
  readonly start: number;
  /** Elements from one row to the next. */
  readonly rowStride: number;
  /** Elements from one plane to the next. */
  readonly planeStride: number;
}

/** Elements of a plane with a convolution's border of padding zeros. */
export function borderedSize({ padding }: Op<"conv">, [, , height = 1, width = 1]: Shape): number {
  return (height + 2 * padding[0]) * (width + 2 * padding[1]);
}

/** Makes room for `count` bordered planes in zeroed memory from `start`. */
export function borderedPlanes(
  op: Op<"conv">,
  input: Operand<Numbers>,
  count: number,
  data: Numbers,
  start: number,
): Planes {
  const planeStride = borderedSize(op, input.shape);
  data.fill(0, start, start + count * planeStride);
  return { data, start, rowStride: dimensions(input).width + 2 * op.padding[1], planeStride };
}

/** Where a view starts in its memory, in elements. */
export function placeIn({ byteOffset, BYTES_PER_ELEMENT }: Numbers): number {
  return byteOffset / BYTES_PER_ELEMENT;
}

/** Copies `count` planes of the input, from its plane `first` on, inside their borders. */
export function fillPlanes(
  op: Op<"conv">,
  input: Operand<Numbers>,
  first: number,
  count: number,
  target: Planes,
  engine: Products,
): void {
  const { height, width } = dimensions(input);
  const isHere = input.data.buffer === engine.memory.buffer && width % (engine.tileColumns / 2) === 0;
  const from = input.data;
  const to = target.data;
  for (let plane = 0; plane < count; plane++) {
    const corner =
      target.start + plane * target.planeStride + op.padding[0] * target.rowStride + op.padding[1];
    if (isHere) {
      const from = placeIn(input.data) + (first + plane) * height * width;
      const strides = { fromStride: width, toStride: target.rowStride };
      engine.copyRows({ from, to: corner, rows: height, columns: width, ...strides });
      continue;
    }
    for (let y = 0; y < height; y++) {
      const source = ((first + plane) * height + y) * width;
      const row = corner + y * target.rowStride;
      for (let x = 0; x < width; x++) to[row + x] = from[source + x] as number;
    }
  }
}
