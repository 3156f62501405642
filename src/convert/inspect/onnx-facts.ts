import type { DType } from "../../tensor.js";
import type { OnnxDimension, OnnxModel, OnnxValue } from "../formats/onnx/index.js";
import { type Difference, describePreprocess, type GraphMatch, imageShape } from "../lift/index.js";
import { RESULT_KINDS, type ResultKind } from "../lower/results.js";
import { countDTypes, type DTypeCount } from "./inspection.js";

/** What an ONNX file is as a file of a runtime's, whatever network is in it. */
export interface OnnxFacts {
  /** The program that wrote it; either may be empty. */
  readonly producer: { readonly name: string; readonly version: string };
  readonly irVersion: number;
  readonly opset: number;
  /** Versions of other operator domains. */
  readonly customOpsets: Readonly<Record<string, number>>;
  /** How often it has each operator, the most frequent first; of another domain, with that before it. */
  readonly operators: Readonly<Record<string, number>>;
  /** Calls of the file's own functions. */
  readonly functionCalls: number;
  readonly inputs: readonly ValueFacts[];
  readonly outputs: readonly ValueFacts[];
  /** Element types of the constants. */
  readonly dtypes: readonly DTypeCount[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Files beside it that hold its weights. */
  readonly sidecars: readonly { readonly name: string; readonly missing: boolean }[];
}

/** An input or output; null for what the file does not say, such as a dynamic dimension without a name. */
export interface ValueFacts {
  readonly name: string;
  readonly dtype: DType | null;
  readonly shape: readonly OnnxDimension[] | null;
}

/** How an ONNX file holds a network that was found in it. */
export interface OnnxNetworkFacts {
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

export function onnxFacts(model: OnnxModel): OnnxFacts {
  const { graph, sidecars = [], missing = [] } = model;
  const operators = graph.nodes.map(({ domain, opType }) => (domain === "" ? opType : `${domain}.${opType}`));
  return {
    producer: model.producer,
    irVersion: model.irVersion,
    opset: model.opset,
    customOpsets: Object.fromEntries(model.customOpsets),
    operators: countNames(operators),
    functionCalls: model.inlined ?? 0,
    ...interfaceFacts(model),
    dtypes: countDTypes(graph.initializers.values()),
    metadata: Object.fromEntries(model.metadata),
    sidecars: [
      ...sidecars.map((name) => ({ name, missing: false })),
      ...missing.map((name) => ({ name, missing: true })),
    ],
  };
}

/** How often there is each name, the most frequent first. */
export function countNames(names: readonly string[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries([...counts].sort(([, a], [, b]) => b - a));
}

export function interfaceFacts({ graph }: OnnxModel): Pick<OnnxFacts, "inputs" | "outputs"> {
  return {
    inputs: graph.inputs.filter(({ name }) => !graph.initializers.has(name)).map(valueFacts),
    outputs: graph.outputs.map(valueFacts),
  };
}

function valueFacts({ name, dtype, shape }: OnnxValue): ValueFacts {
  return { name, dtype: dtype ?? null, shape: shape ?? null };
}

export function onnxNetworkFacts(model: OnnxModel, match: GraphMatch): OnnxNetworkFacts {
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

function countBatchNorms({ graph, absorbed, affine, constants }: GraphMatch): OnnxNetworkFacts["batchNorms"] {
  const norms = graph.nodes.filter(({ name, op }) => op.kind === "batchNorm" && constants.has(name));
  const folded = norms.filter(({ inputs }) => absorbed.has(inputs[0] ?? "")).length;
  const spelled = norms.filter(({ name }) => affine.has(name)).length;
  return { folded, kept: norms.length - folded - spelled, affine: spelled };
}
