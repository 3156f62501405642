import type { DType, Tensor } from "../../tensor.js";
import type { OnnxDimension, OnnxModel, OnnxValue } from "../formats/onnx/index.js";
import { type Difference, describePreprocess, type GraphMatch, imageShape } from "../lift/index.js";
import { RESULT_KINDS, type ResultKind } from "../lower/results.js";
import { countDTypes, type DTypeCount } from "./inspection.js";

/** What a model is as a runtime's file, whatever network is in it. */
export interface ModelFacts {
  /** How often it has each operator, the most frequent first. */
  readonly operators: Readonly<Record<string, number>>;
  readonly inputs: readonly ValueFacts[];
  readonly outputs: readonly ValueFacts[];
  /** Element types of the constants, as arithmetic sees them. */
  readonly dtypes: readonly DTypeCount[];
}

/** An input or output; null for what the file does not say, such as a dynamic dimension without a name. */
export interface ValueFacts {
  readonly name: string;
  readonly dtype: DType | null;
  readonly shape: readonly OnnxDimension[] | null;
}

/** How a model holds the network that was found in it. */
export interface NetworkFacts {
  /** Images per run; null for any. */
  readonly batch: number | null;
  /** Null for any. */
  readonly size: { readonly height: number; readonly width: number } | null;
  /** Batch norms: merged into the layers before them, kept, or spelled as a product and a sum. */
  readonly batchNorms: { readonly folded: number; readonly kept: number; readonly affine: number };
  /** Which layer each output is, and what the file does to it afterwards. */
  readonly results: readonly {
    readonly output: string;
    readonly layer: string;
    /** Null for an inner layer. */
    readonly kind: ResultKind | null;
    readonly tail: readonly string[];
  }[];
  /** What the file does to its input before the network; null for nothing. */
  readonly preprocess: string | null;
  /** Layers whose weights are quantised. */
  readonly quantised: number;
  /** How it departs from an OSNet; empty for a faithful file. */
  readonly differences: readonly Difference[];
}

/** How often there is each name, the most frequent first. */
export function countNames(names: readonly string[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries([...counts].sort(([, a], [, b]) => b - a));
}

/** @param constants the file's own, without those that its translation has added */
export function modelFacts(
  { graph }: Pick<OnnxModel, "graph">,
  operators: readonly string[],
  constants: Iterable<Tensor>,
): ModelFacts {
  return {
    operators: countNames(operators),
    inputs: graph.inputs.filter(({ name }) => !graph.initializers.has(name)).map(valueFacts),
    outputs: graph.outputs.map(valueFacts),
    dtypes: countDTypes(constants),
  };
}

function valueFacts({ name, dtype, shape }: OnnxValue): ValueFacts {
  return { name, dtype: dtype ?? null, shape: shape ?? null };
}

export function networkFacts(model: OnnxModel, match: GraphMatch): NetworkFacts {
  const [batch, , height, width] = imageShape(model);
  return {
    batch: typeof batch === "number" ? batch : null,
    size: typeof height === "number" && typeof width === "number" ? { height, width } : null,
    batchNorms: countBatchNorms(match),
    results: match.outputs.map(({ name, layer, tail }) => ({
      output: name,
      layer,
      kind: RESULT_KINDS.find((kind) => match.graph.outputs[kind] === layer) ?? null,
      tail,
    })),
    preprocess: match.preprocess ? describePreprocess(match.preprocess) : null,
    quantised: match.roundings.size,
    differences: match.differences,
  };
}

function countBatchNorms({ graph, absorbed, affine, constants }: GraphMatch): NetworkFacts["batchNorms"] {
  const norms = graph.nodes.filter(({ name, op }) => op.kind === "batchNorm" && constants.has(name));
  const folded = norms.filter(({ inputs }) => absorbed.has(inputs[0] ?? "")).length;
  const spelled = norms.filter(({ name }) => affine.has(name)).length;
  return { folded, kept: norms.length - folded - spelled, affine: spelled };
}
