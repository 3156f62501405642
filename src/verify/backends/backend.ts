import type { RealTensor, StateDict, Tensor } from "../../core/tensor.js";

/** One value of the network under its layer name: activations NCHW, or NC after pooling. */
export interface LayerOutput {
  /** The layer's name in the network's graph. */
  readonly name: string;
  /** Its value: [N, C, H, W], or [N, C] after pooling, in the precision of the runtime. */
  readonly tensor: RealTensor;
  /**
   * Whether this value is output again: it comes from the run of the layers that follow it, and may differ from the
   * earlier one by rounding.
   */
  readonly again?: boolean;
  /** Releases the tensor's memory at once; call it when nothing reads the tensor any more. */
  readonly release?: () => void;
}

/** Layers whose values are in memory together. */
export interface Segment {
  /** In network order. */
  readonly layers: readonly string[];
  /** Layers of other segments that these are computed from, or could be confused with. */
  readonly others: readonly string[];
}

/** Options for loading a model. */
export interface LoadOptions {
  /** Whether the runtime may rewrite the graph before it runs it. Default true. */
  readonly optimised?: boolean;
  /** For a few runs while other threads work: on one thread, releasing memory after each. Default false. */
  readonly alone?: boolean;
  /** Whether to load the copy from which intermediate values are read, instead of the file itself. Default false. */
  readonly copy?: boolean;
}

/** An output of a model, as a program receives it. */
export interface OutputPlace {
  /** As the file calls it. */
  readonly name: string;
  /** From 0. */
  readonly index: number;
}

/** A loaded model, for some of its outputs. */
export interface LoadedModel {
  /**
   * Those outputs, in their order.
   *
   * @throws InputError (`tensor`) if it does not support these images
   */
  run(images: Tensor<"float32">): Promise<readonly RealTensor[]>;
  /** Releases its memory; it cannot run afterwards. */
  release(): Promise<void>;
}

/**
 * Computes, or has recorded, the values of a network's layers. All backends use layer names and NCHW; a comparison
 * depends on nothing else.
 */
export interface Backend {
  /** The runtime, for reports. */
  readonly name: BackendName;
  /** Names of the layers that `run` yields, in the order it yields them. */
  readonly layers: readonly string[];
  /**
   * Runs the network on images [batch, 3, height, width], float32, and yields every layer's output, once each, except
   * for those marked as repeated.
   *
   * @throws InputError (`tensor`) if the backend does not support such an input
   */
  run(images: Tensor<"float32">): AsyncIterable<LayerOutput>;
  /** For the float64 reference: the network that it computes, which another thread may compute too. */
  readonly network?: StateDict;
  /** The hardware and software that it ran on, after a run: a browser's version, GPU and driver. */
  readonly facts?: () => RuntimeFacts | undefined;
  /** Ends the browser that was started to run it; a later run starts it again. */
  readonly close?: () => Promise<void>;
}

/** A model's file in a runtime: `run` reads its intermediate values, `load` its outputs as a program receives them. */
export interface ModelBackend extends Backend {
  readonly name: RuntimeName;
  /**
   * Whether a segment continues from the ones before it, so that many small segments cost no more than a few.
   */
  readonly continues?: boolean;
  /**
   * Runtimes keep all outputs of a run in memory. With segments, each one is a separate run, of the model or of the
   * part of it after the segments before.
   *
   * @param segments all layers, in the order to yield them in
   */
  run(images: Tensor<"float32">, segments?: readonly Segment[]): AsyncIterable<LayerOutput>;
  /** Values of the file as the runtime has them, of any type. */
  valuesOf(names: readonly string[], images: Tensor<"float32">): Promise<ReadonlyMap<string, RuntimeValue>>;
  /** The unmodified model. The runtime is loaded on the first run. */
  load(outputs: readonly OutputPlace[], options?: LoadOptions): LoadedModel;
}

/** A value as a runtime has it. */
export interface RuntimeValue {
  /** The element type, by ONNX's name. */
  readonly type: string;
  /** The elements: halves as their bits, 64-bit integers as BigInts. */
  readonly data: ArrayLike<unknown>;
}

/** The hardware and software of a run, if it is more than a package of this machine. */
export interface RuntimeFacts {
  /** `Chrome/156.0.8078.108`. */
  readonly browser?: string;
  /** The GPU and its driver, as named by the browser. */
  readonly gpu?: string;
  /** The type of stored intermediate values, if not float32. */
  readonly storage?: "float16";
}

/** The engines that run model files, each a row of `BACKENDS` (registry.ts). */
export type EngineName =
  | "onnxruntime"
  | "onnxruntime-web"
  | "onnxruntime-web-webgpu"
  | "tfjs-wasm"
  | "tfjs-cpu"
  | "tfjs-node"
  | "tfjs-webgl"
  | "tfjs-webgpu";

/** The runtimes of model files: in this process or page, or in a Chromium that is started for it. */
export type RuntimeName = EngineName | `chromium:${EngineName}`;

/** `reference`: float64, in TypeScript. `recorded`: PyTorch's activations from an .npz. */
export type BackendName = "reference" | "recorded" | RuntimeName;

/**
 * How a runtime's float32 arithmetic rounds, as far as a standard or a specification defines it. Each runtime's row
 * states it (registry.ts), and every bound depends on it. The order of sums, and fused multiply-adds, do not matter
 * here: the bounds allow any.
 */
export interface Numerics {
  /** Unit roundoff u of a sum or product: |fl(a ∘ b) − a ∘ b| ≤ u·|a ∘ b|. */
  readonly unit: number;
  /** Additional roundings of a quotient and a square root together, beyond one each. */
  readonly quotients: number;
  /** The sigmoid's absolute error, in units. */
  readonly sigmoid: number;
  /** How an instance norm computes its variance: from deviations from the mean, or as E[x²] − μ². */
  readonly variance: "one pass" | "two passes";
}

/**
 * IEEE 754, rounded to nearest, with correctly rounded quotients and roots.
 *
 * Sigmoids are rational or polynomial approximations, or use exp. Measured over 35 million float32 arguments, every
 * 64th between −100 and 100: 1.7e-7 in onnxruntime 1.30 (MLAS, a rational function clamped at ±18), 9.0e-8 in tfjs-wasm
 * 4.22 (XNNPACK), 8.9e-8 in PyTorch 2.13, 3.0e-8 in tfjs-cpu. Four units are 2.4e-7.
 */
export const FLOAT32_CPU: Numerics = { unit: 2 ** -24, quotients: 0, sigmoid: 4, variance: "two passes" };

/**
 * The accuracy guaranteed by WGSL (section 15.7.4.1, "Accuracy of Concrete Floating Point Expressions") and GLSL ES
 * 3.00 (section 4.5.1, highp), in the same figures. Sums and products are "correctly rounded", but neither specifies
 * the direction, so u is one ULP, 2⁻²³. A quotient is off by up to 2.5 ULP; a root, "inherited from" the quotient of 1
 * and an inverse root of 2 ULP, by 4.5: five roundings more than one each. exp(x) is off by 3 + 2|x| ULP, times σ(1 −
 * σ) in a sigmoid, at most 0.99 ULP in all; its sum adds one and its quotient 2.5.
 */
export const FLOAT32_GPU: Numerics = { unit: 2 ** -23, quotients: 5, sigmoid: 4.5, variance: "one pass" };
