import type { Op, OpKind, ParameterRole } from "../../../arch/ops.js";
import type { Shape } from "../../../tensor.js";
import type { Engine } from "../engine.js";

/** A float64 tensor, row-major NCHW or NC: what kernels read, and the buffer they fill. */
export interface Operand {
  readonly shape: Shape;
  readonly data: Float64Array;
}

/** A layer's parameters in float64, laid out as in the state dict: OIHW, [out, in], [channels]. */
export type LayerParameters = Readonly<Partial<Record<ParameterRole, Float64Array>>>;

type Affine = Readonly<Record<"weight" | "bias", Float64Array>>;

/** The parameters an operation reads, if any. A convolution without bias has none added. */
interface ParameterTable {
  conv: Pick<Affine, "weight"> & Partial<Pick<Affine, "bias">>;
  linear: Affine;
  batchNorm: Readonly<Record<ParameterRole, Float64Array>>;
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
  /** Filled by the kernel; its shape is the one that `outputShapes` of src/arch gives. Lies in the engine's memory. */
  readonly output: Operand;
  readonly engine: Engine;
  /** Where the kernel's scratch memory starts in the engine's: as many elements as `scratchSize` says. */
  readonly scratch: number;
}

/**
 * Computes one operation from its definition: the output is a function of the inputs and parameters alone, and inputs
 * are never written to. A batch norm's output may be the memory of its input.
 */
export type Kernel<K extends OpKind> = (call: Call<K>) => void;

/** The dimensions of a tensor NCHW; of NC, height and width are 1. */
export interface Dimensions {
  readonly images: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  /** Elements of one channel of one image: height × width. */
  readonly plane: number;
}

export function dimensions({ shape }: Operand): Dimensions {
  const [images = 1, channels = 1, height = 1, width = 1] = shape;
  return { images, channels, height, width, plane: height * width };
}
