import type { Size2d } from "../../arch/index.js";
import type { Tensor } from "../../core/tensor.js";

/**
 * What a value of a document is computed by, in words that all formats share, as PyTorch has it: maps are NCHW, weights OIHW and
 * [out, in]. Each reader (onnx.ts, tf-graph.ts, tf-layers.ts) knows which operators of its format mean which of these, with which
 * attributes and forms of inputs; what it does not know in every part is unknown.
 */
export type Operation =
  | {
      readonly kind: "conv";
      readonly x: string;
      /** [out, in / groups, height, width]. */
      readonly weight: Tensor;
      readonly bias?: Tensor | undefined;
      readonly groups: number;
      readonly stride: Size2d;
      /** Rows and columns of zeros at both ends. */
      readonly padding: Size2d;
    }
  /** x · Wᵀ + b with W [out, in]. */
  | {
      readonly kind: "linear";
      readonly x: string;
      readonly weight: Tensor;
      readonly bias?: Tensor | undefined;
    }
  /** γ, β, mean, variance. */
  | {
      readonly kind: "batchNorm";
      readonly x: string;
      readonly constants: readonly Tensor[];
      readonly epsilon: number;
    }
  /** (x − mean) / √(variance + ε) over these axes, with γ and β by channel. */
  | {
      readonly kind: "normalise";
      readonly x: string;
      readonly axes: readonly number[];
      readonly epsilon: number;
      readonly gamma?: Tensor | undefined;
      readonly beta?: Tensor | undefined;
    }
  /** Of a maximum, what is around the map is less than any number; an average has no padding. */
  | {
      readonly kind: "pool";
      readonly type: "max" | "mean";
      readonly x: string;
      readonly window: Size2d;
      readonly stride: Size2d;
      readonly padding: Size2d;
    }
  /** Rows and columns of one number at both ends. */
  | { readonly kind: "pad"; readonly x: string; readonly sizes: Size2d; readonly value: number }
  /** Over these axes of a map, which stay as ones or are left out. */
  | {
      readonly kind: "reduce";
      readonly type: "max" | "mean";
      readonly x: string;
      readonly axes: readonly number[];
      readonly keeps: boolean;
    }
  /** [N, …] to [N, D]. */
  | { readonly kind: "flatten"; readonly x: string; readonly width?: number | undefined }
  /** Channels in the opposite order. */
  | { readonly kind: "reverse"; readonly x: string }
  /** x · factor + offset. */
  | { readonly kind: "rescale"; readonly x: string; readonly factor: number; readonly offset: number }
  | { readonly kind: "call"; readonly name: Call; readonly inputs: readonly string[] }
  /** What the proof does not know, and why, in a clause; empty if the operator itself is not known. */
  | { readonly kind: "unknown"; readonly why: string };

/** Operators that say all by their names; several inputs are broadcast as in NumPy. */
export type Call =
  | "add"
  | "subtract"
  | "multiply"
  | "divide"
  | "squaredDifference"
  | "square"
  | "sqrt"
  | "rsqrt"
  | "relu"
  | "sigmoid"
  | "softsign"
  | "identity";

/** A document as the proof sees it, whatever its format. */
export interface ProofDocument {
  /** The value of the images. */
  readonly input: string;
  /** Height and width of the images, where the document fixes them. */
  readonly size: Size2d | undefined;
  readonly outputs: readonly { readonly name: string; readonly value: string }[];
  /** What computes a value. */
  readonly operation: (value: string) => Operation;
  /** A constant of one number, in float32. */
  readonly number: (value: string) => number | undefined;
  /** A constant that is broadcast by channel over values of this rank, as [C]. */
  readonly channels: (value: string, rank: 2 | 4) => Tensor | undefined;
  /** What an output may be a function of. */
  readonly tails: (output: string) => readonly Tail[];
  /** What computes a value, in words: the node and its operator. */
  readonly describe: (value: string) => string;
}

/** What may stand behind a result [N, D]: an operation that is named in the report, exactly. */
export interface Tail {
  /** What the operation is of. */
  readonly value: string;
  readonly tail: string;
}

/** An operation that a reader does not know in this form. */
export function unknown(why = ""): Operation {
  return { kind: "unknown", why };
}
