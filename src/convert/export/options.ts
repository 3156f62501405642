import type { GraphOutputs, LayerGraph } from "../../arch/graph.js";
import { InputError } from "../../core/errors.js";

/** Height and width of the images, in pixels. */
export interface ImageSize {
  /** Pixels from top to bottom; people are taller than wide: 256. */
  readonly height: number;
  /** Pixels from left to right: 128. */
  readonly width: number;
}

/** torchreid's image size. */
export const DEFAULT_SIZE: ImageSize = { height: 256, width: 128 };

/** Options of every model format; each has a default. */
export interface ModelOptions extends ResultOptions {
  /** Whether batch norms are folded into the layers before them. Default true. */
  readonly fold?: boolean;
  /** Whether to keep negligible weights instead of setting them to zero (negligible.ts). Default false. */
  readonly keepDenormals?: boolean;
  /** Images per run: a number, or `dynamic` for any. Default dynamic. */
  readonly batch?: "dynamic" | number;
  /** Size of the images, or `dynamic` for any that the network supports, which is slower. Default 256×128. */
  readonly size?: "dynamic" | ImageSize;
  /** Name of the input. Default `images`. */
  readonly inputName?: string;
}

/** Options with all defaults filled in, for one network. */
export interface ResolvedModelOptions {
  readonly fold: boolean;
  readonly keepDenormals: boolean;
  readonly batch: "dynamic" | number;
  readonly size: "dynamic" | ImageSize;
  readonly inputName: string;
  readonly results: readonly Result[];
  readonly preprocess: PixelOrder | undefined;
}

/**
 * Fills in the defaults.
 *
 * @throws InputError (`argument`) if a value cannot be used, or the network has no such output
 */
export function resolveModelOptions(graph: LayerGraph, options: ModelOptions): ResolvedModelOptions {
  const { fold = true, batch = "dynamic", size = DEFAULT_SIZE, inputName = "images", preprocess } = options;
  const { keepDenormals = false } = options;
  expectInputShape(batch, size);
  return {
    fold,
    keepDenormals,
    batch,
    size,
    inputName,
    results: selectResults(graph, options),
    preprocess,
  };
}

/** @throws InputError (`argument`) if a fixed batch or image size is not a positive integer */
function expectInputShape(batch: "dynamic" | number, size: "dynamic" | ImageSize): void {
  if (batch !== "dynamic") expectPositive("batch", batch);
  if (size === "dynamic") return;
  expectPositive("image height", size.height);
  expectPositive("image width", size.width);
}

function expectPositive(subject: string, value: number): void {
  if (Number.isSafeInteger(value) && value > 0) return;
  throw new InputError({
    code: "argument",
    subject,
    found: String(value),
    expected: "a positive whole number",
    remedy: "correct the value",
  });
}

/** The results that a file returns; `both` is the embedding and the logits. */
export const OUTPUT_SELECTIONS = ["features", "logits", "both", "probabilities"] as const;

export type OutputSelection = (typeof OUTPUT_SELECTIONS)[number];

/** A single result. */
export const RESULT_KINDS = ["features", "logits", "probabilities"] as const;

export type ResultKind = (typeof RESULT_KINDS)[number];

/**
 * The floor of an L2 norm, which keeps it from being zero: ε added to its square or its length, or a minimum of either.
 */
export interface NormFloor {
  /** Whether it applies to the sum of squares or to its root. */
  readonly of: "square" | "length";
  /** `sum`: ε is added. `max`: the larger of the two is used. */
  readonly how: "sum" | "max";
  /** The value, such as PyTorch's 1e-12. */
  readonly epsilon: number;
}

/**
 * A requested result: its kind, its name, and whether it is divided by its L2 norm: if `floors` is set, even if empty.
 */
export interface WantedResult {
  /** The result: the embedding, the logits, or an attribute model's probabilities. */
  readonly kind: ResultKind;
  /** The output's name in the file. */
  readonly name: string;
  /** Present: the result is divided by its L2 norm, with these floors. Absent: it is not. */
  readonly floors?: readonly NormFloor[];
}

/** An output of the file: its name there, its layer, and whether it is divided by its L2 norm. */
interface Result {
  readonly name: string;
  readonly layer: string;
  readonly floors?: readonly NormFloor[];
}

/** The names of the network's values in exported files. */
export interface ValueNames {
  readonly of: (layer: string) => string;
  /** Of the normalised images, if the model normalises them; the network's input is then a separate value. */
  readonly normalized: string;
}

/** Options for results, in every model format. */
export interface ResultOptions {
  /** Results, or each with its own name. Default: what torchreid returns in evaluation mode. */
  readonly output?: OutputSelection | readonly WantedResult[];
  /** Whether every stream's gate vector is an output too, under its layer's name. Default false. */
  readonly gates?: boolean;
  /** Name of the first output. Default `features`, `logits` or `probabilities`, according to its kind. */
  readonly outputName?: string;
  /**
   * The channel order of raw pixels from 0 to 255, float32, as the input, which the model normalises itself. Default:
   * RGB in [0, 1], normalised with ImageNet's statistics.
   */
  readonly preprocess?: PixelOrder;
}

/**
 * The file's outputs, in order.
 *
 * @throws InputError (`argument`) if the network has no such output
 */
function selectResults({ outputs, gates }: LayerGraph, options: ResultOptions): readonly Result[] {
  const { output = outputs.evaluation, outputName } = options;
  const selected: readonly WantedResult[] =
    typeof output === "string" ? kindsOf(output).map((kind) => ({ kind, name: kind })) : output;
  const results = selected.map(
    ({ kind, name, floors }, index): Result => ({
      name: (index === 0 ? outputName : undefined) ?? name,
      layer: outputs[kind] ?? refuseOutput(kind, outputs),
      ...(floors ? { floors } : {}),
    }),
  );
  return options.gates ? [...results, ...gates.map(({ layer }) => ({ name: layer, layer }))] : results;
}

/** The single results of a selection, in the order of the outputs. */
export function kindsOf(selection: OutputSelection): readonly ResultKind[] {
  return selection === "both" ? ["features", "logits"] : [selection];
}

function refuseOutput(kind: string, outputs: GraphOutputs): never {
  const available = RESULT_KINDS.filter((name) => outputs[name]);
  throw new InputError({
    code: "argument",
    subject: "output",
    found: kind,
    expected: available.join(" or "),
    remedy: "choose an output that this network has",
  });
}

/**
 * Raw pixels as a model's input: torchvision's `ToTensor` and `Normalize`, as torchreid's networks require, written
 * into the model.
 *
 * Not folded into the stem's convolution, although it is affine: the stem pads with zeros, which mean the mean colour
 * after normalisation and black before it, so a folded stem would be wrong along the borders.
 */
/** The order of the channels of a pixel: as in browsers and Pillow, or as in OpenCV. */
export const PIXEL_ORDERS = ["rgb", "bgr"] as const;

export type PixelOrder = (typeof PIXEL_ORDERS)[number];

/** ImageNet's statistics of RGB in [0, 1], which torchreid uses. */
export const IMAGENET = {
  /** A pixel's largest value. */
  white: 255,
  mean: [0.485, 0.456, 0.406],
  deviation: [0.229, 0.224, 0.225],
} as const;

/** The element types that networks are written in. */
export const ONNX_DTYPES = ["float32", "float16"] as const;

export type OnnxDType = (typeof ONNX_DTYPES)[number];
