import type { LayerGraph } from "../../../arch/graph.js";
import { InputError } from "../../../core/errors.js";
import type { QuantizedDType } from "../../formats/tfjs/model.js";
import { type ModelOptions, type ResolvedModelOptions, resolveModelOptions } from "../options.js";
import { isLegalNodeName } from "./names.js";

/** How a graph model is written; every field has a default. */
export interface TfjsOptions extends ModelOptions {
  /**
   * Whether a bias and a ReLU are computed with the convolution or linear layer before them. Faster; a layer whose
   * ReLU is merged has no value of its own. Otherwise every operation is one of TensorFlow's own. Default true.
   */
  readonly fuse?: boolean;
  /**
   * How the weights of convolutions and linear layers are stored in the files, which are so much smaller; tfjs computes in
   * float32. What else there is (biases, norms: 3 % of all numbers) stays float32. Default: as they are.
   */
  readonly quantize?: QuantizedDType;
}

/** Options with all defaults filled in, for one network. */
export interface ResolvedTfjsOptions extends ResolvedModelOptions {
  readonly fuse: boolean;
  readonly quantize: QuantizedDType | undefined;
}

/**
 * Fills in the defaults.
 *
 * @throws InputError (`argument`) if a value cannot be used, or the network has no such output
 */
export function resolveTfjsOptions(graph: LayerGraph, options: TfjsOptions): ResolvedTfjsOptions {
  const { fuse = true, outputName, quantize } = options;
  const resolved = resolveModelOptions(graph, options);
  expectName("input name", resolved.inputName, isLegalNodeName(resolved.inputName));
  if (outputName !== undefined) expectName("output name", outputName, outputName !== "");
  return { ...resolved, fuse, quantize };
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
