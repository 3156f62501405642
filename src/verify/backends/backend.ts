import type { RealTensor, Tensor } from "../../core/tensor.js";

/** One value of the network under its layer name: activations NCHW, or NC after pooling. */
export interface LayerOutput {
  /** The layer, as the network's graph names it. */
  readonly name: string;
  /** Its value: [N, C, H, W], or [N, C] after pooling, in the precision of the runtime. */
  readonly tensor: RealTensor;
  /**
   * Whether this is beside the layer's own turn: its value in the run that the layers which follow come from. In another
   * run it may be another, by rounding.
   */
  readonly again?: boolean;
}

/** Layers whose values are held at one time. */
export interface Stage {
  /** In network order. */
  readonly layers: readonly string[];
  /** Layers of other stages that these are computed from, or may be mistaken about. */
  readonly others: readonly string[];
}

/** How a model is loaded to be run as it is. */
export interface LoadOptions {
  /** Whether the runtime may rewrite the graph before it runs it. Default true. */
  readonly optimised?: boolean;
}

/** An output of a model, as a program receives it. */
export interface OutputPlace {
  /** As the file calls it. */
  readonly name: string;
  /** From 0. */
  readonly index: number;
}

/** A model as it is used, for some of its outputs. */
export interface LoadedModel {
  /**
   * Those outputs, in their order.
   *
   * @throws InputError (`tensor`) if it does not take these images
   */
  run(images: Tensor<"float32">): Promise<readonly RealTensor[]>;
  /** Gives its memory back; nothing runs after that. */
  release(): Promise<void>;
}

/**
 * Something that computes, or has computed, the values of a network's layers. All backends speak layer names and NCHW;
 * a comparison sees nothing else of them.
 */
export interface Backend {
  /** The runtime, for reports. */
  readonly name: BackendName;
  /** Names of the layers that `run` yields, in the order it yields them. */
  readonly layers: readonly string[];
  /**
   * Runs the network on images [batch, 3, height, width], float32, and yields every layer's output, once each, but for
   * those that are marked as shown again.
   *
   * @throws InputError (`tensor`) if the backend cannot take such an input
   */
  run(images: Tensor<"float32">): AsyncIterable<LayerOutput>;
}

/**
 * `reference`: float64, in TypeScript. `onnxruntime`: an ONNX file. `recorded`: PyTorch's activations in an .npz.
 * `tfjs-…`: a TensorFlow.js model, in WebAssembly, in JavaScript or in TensorFlow's own library.
 */
export type BackendName = "reference" | "recorded" | RuntimeName;

/** What runs a model's file. */
export type RuntimeName = "onnxruntime" | TfjsBackendName;

export const TFJS_BACKENDS = ["tfjs-wasm", "tfjs-cpu", "tfjs-node"] as const;

/** The runtimes of TensorFlow.js models, as `--backend` takes them. */
export type TfjsBackendName = (typeof TFJS_BACKENDS)[number];

export const RUNTIMES: readonly RuntimeName[] = ["onnxruntime", ...TFJS_BACKENDS];
