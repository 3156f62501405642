import type { LayerGraph } from "../../../arch/graph.js";
import { InputError } from "../../../errors.js";
import type { QuantizedDType } from "../../formats/tfjs/index.js";
import type { PixelOrder } from "../preprocess.js";
import {
  DEFAULT_SIZE,
  expectInputShape,
  type ImageSize,
  type Result,
  type ResultOptions,
  selectResults,
} from "../results.js";
import { isLegalNodeName } from "./names.js";

/** How a graph model is written; every field has a default. */
export interface TfjsOptions extends ResultOptions {
  /** Whether batch norms are folded into the layers before them. Default true. */
  readonly fold?: boolean;
  /**
   * Whether a bias and a ReLU are computed with the convolution or linear layer before them. Faster; a layer whose
   * ReLU is merged has no value of its own. Otherwise every operation is one of TensorFlow's own. Default true.
   */
  readonly fuse?: boolean;
  /** Images per run: a number, or `dynamic` for any. Default dynamic. */
  readonly batch?: "dynamic" | number;
  /** Size of the images, or `dynamic` for any that the network can take. Default 256×128. */
  readonly size?: "dynamic" | ImageSize;
  /** Name of the input. Default `images`. */
  readonly inputName?: string;
  /**
   * How the weights of convolutions and linear layers are stored in the files, which are so much smaller; tfjs computes in
   * float32. What else there is (biases, norms: 3 % of all numbers) stays float32. Default: as they are.
   */
  readonly quantize?: QuantizedDType;
}

/** Options with all defaults filled in, for one network. */
export interface ResolvedTfjsOptions {
  readonly fold: boolean;
  readonly fuse: boolean;
  readonly batch: "dynamic" | number;
  readonly size: "dynamic" | ImageSize;
  readonly inputName: string;
  readonly results: readonly Result[];
  readonly preprocess: PixelOrder | undefined;
  readonly quantize: QuantizedDType | undefined;
}

/**
 * Fills in the defaults.
 *
 * @throws InputError (`argument`) if a value cannot be used, or the network has no such output
 */
export function resolveTfjsOptions(graph: LayerGraph, options: TfjsOptions): ResolvedTfjsOptions {
  const { fold = true, fuse = true, batch = "dynamic", size = DEFAULT_SIZE, inputName = "images" } = options;
  expectInputShape(batch, size);
  expectName("input name", inputName, isLegalNodeName(inputName));
  const { outputName, preprocess, quantize } = options;
  if (outputName !== undefined) expectName("output name", outputName, outputName !== "");
  return { fold, fuse, batch, size, inputName, results: selectResults(graph, options), preprocess, quantize };
}

function expectName(subject: string, name: string, legal: boolean): void {
  if (legal) return;
  throw new InputError({
    code: "argument",
    subject,
    found: JSON.stringify(name),
    expected: "letters, digits, dots, hyphens and underscores",
    remedy: "choose another name",
  });
}
