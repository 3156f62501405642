import type { Size2d } from "../../arch/index.js";
import type { Tensor } from "../../core/tensor.js";

/**
 * What a value of a TensorFlow.js model is computed by, in words that graph models and layers models share. Maps are NHWC.
 * Each reader (tf-graph.ts, tf-layers.ts) gives a value's operation where every attribute of it is known, and nothing else.
 */
export type Operation =
  | {
      readonly kind: "conv";
      readonly x: string;
      readonly isDepthwise: boolean;
      /** [height, width, in, out], or [height, width, channels, 1]. */
      readonly weight: Tensor;
      readonly bias?: Tensor;
      readonly stride: Size2d;
      /** Rows and columns of zeros at both ends; `same` keeps the size, at a stride of 1. */
      readonly padding: Size2d | "same";
    }
  /** x · W + b with W [in, out]. */
  | { readonly kind: "dense"; readonly x: string; readonly weight: Tensor; readonly bias?: Tensor }
  /** γ, β, mean, variance. */
  | {
      readonly kind: "batchNorm";
      readonly x: string;
      readonly constants: readonly Tensor[];
      readonly epsilon: number;
    }
  /** Windows that lie inside the map. */
  | {
      readonly kind: "pool";
      readonly type: "max" | "average";
      readonly x: string;
      readonly window: Size2d;
      readonly stride: Size2d;
    }
  /** Rows and columns of one number at both ends. */
  | { readonly kind: "pad"; readonly x: string; readonly sizes: Size2d; readonly value: number }
  /** Over these axes, which stay as ones. */
  | {
      readonly kind: "reduce";
      readonly type: "mean" | "max";
      readonly x: string;
      readonly axes: readonly number[];
    }
  /** [N, …] to [N, D]. */
  | { readonly kind: "flatten"; readonly x: string; readonly width: number | undefined }
  /** Channels in the opposite order. */
  | { readonly kind: "reverse"; readonly x: string }
  /** (x − mean) / √(variance + ε) over these axes. */
  | {
      readonly kind: "normalise";
      readonly x: string;
      readonly axes: readonly number[];
      readonly epsilon: number;
      readonly gamma?: Tensor;
      readonly beta?: Tensor;
    }
  /** x · factor + offset. */
  | { readonly kind: "rescale"; readonly x: string; readonly factor: number; readonly offset: number }
  | { readonly kind: "call"; readonly name: Call; readonly inputs: readonly string[] };

/** Operators that say all by their names; of two inputs, which are broadcast as in NumPy. */
export type Call =
  | "add"
  | "subtract"
  | "multiply"
  | "divide"
  | "squaredDifference"
  | "square"
  | "rsqrt"
  | "relu"
  | "sigmoid"
  | "softsign"
  | "identity";

/** A model of either format. */
export interface TfDocument {
  readonly input: string;
  /** Height and width of the images, where the model fixes them, and how many there are. */
  readonly size: Size2d | undefined;
  readonly outputs: readonly { readonly name: string; readonly value: string }[];
  /** Undefined for what the proof does not know. */
  readonly operation: (value: string) => Operation | undefined;
  readonly constant: (value: string) => Tensor | undefined;
  /** What computes a value, in words. */
  readonly describe: (value: string) => string;
}
