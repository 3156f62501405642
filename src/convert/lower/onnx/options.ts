import type { GraphOutputs, LayerGraph } from "../../../arch/graph.js";
import { InputError } from "../../../errors.js";
import { DEFAULT_OPSET, irVersionFor } from "./opsets.js";

/** Which results the file returns; `both` is the embedding and the logits. */
export type OnnxOutputSelection = "features" | "logits" | "both" | "probabilities";

/** Height and width of the images, in pixels. */
export interface ImageSize {
  readonly height: number;
  readonly width: number;
}

/** How an ONNX file is written; every field has a default. */
export interface OnnxOptions {
  /** Whether batch norms are folded into the layers before them. Default true. */
  readonly fold?: boolean;
  /** Version of the operators, 11 to 26. Default 17. */
  readonly opset?: number;
  /** Images per run: a number, or `dynamic` for any. Default dynamic. */
  readonly batch?: "dynamic" | number;
  /** Size of the images, or `dynamic` for any that the network can take, 5–8 % slower in onnxruntime. Default 256×128. */
  readonly size?: "dynamic" | ImageSize;
  /** Default: what torchreid returns in evaluation mode. */
  readonly output?: OnnxOutputSelection;
  /** Whether every stream's gate vector [N, C, 1, 1] is an output too, named as its layer. Default false. */
  readonly gates?: boolean;
  /** Name of the input. Default `images`. */
  readonly inputName?: string;
  /** Name of the first output. Default `features`, `logits` or `probabilities`, as it is one. */
  readonly outputName?: string;
}

/** torchreid's image size. */
export const DEFAULT_SIZE: ImageSize = { height: 256, width: 128 };

/** A graph output of the file: the name it has there, and the layer it is. */
export interface OnnxResult {
  readonly name: string;
  readonly layer: string;
}

/** Options with all defaults filled in, for one network. */
export interface ResolvedOptions {
  readonly fold: boolean;
  readonly opset: number;
  readonly irVersion: number;
  readonly batch: "dynamic" | number;
  readonly size: "dynamic" | ImageSize;
  readonly inputName: string;
  readonly results: readonly OnnxResult[];
}

/**
 * Fills in the defaults.
 *
 * @throws InputError (`argument`) if a value cannot be used, or the network has no such output.
 */
export function resolveOptions(graph: LayerGraph, options: OnnxOptions): ResolvedOptions {
  const { fold = true, opset = DEFAULT_OPSET, batch = "dynamic", size = DEFAULT_SIZE } = options;
  if (batch !== "dynamic") expectPositive("batch", batch);
  if (size !== "dynamic") {
    expectPositive("image height", size.height);
    expectPositive("image width", size.width);
  }
  const { inputName = "images" } = options;
  const results = selectResults(graph, options);
  return { fold, opset, irVersion: irVersionFor(opset), batch, size, inputName, results };
}

function selectResults({ outputs, gates }: LayerGraph, options: OnnxOptions): readonly OnnxResult[] {
  const { output = outputs.evaluation, outputName } = options;
  const selected = output === "both" ? (["features", "logits"] as const) : ([output] as const);
  const results = selected.map((kind, index) => ({
    name: (index === 0 ? outputName : undefined) ?? kind,
    layer: outputs[kind] ?? refuseOutput(kind, outputs),
  }));
  return options.gates ? [...results, ...gates.map(({ layer }) => ({ name: layer, layer }))] : results;
}

function refuseOutput(kind: string, outputs: GraphOutputs): never {
  const available = (["features", "logits", "probabilities"] as const).filter((name) => outputs[name]);
  throw new InputError({
    code: "argument",
    subject: "output",
    found: kind,
    expected: available.join(" or "),
    remedy: "choose an output that this network has",
  });
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
