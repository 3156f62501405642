import { clean, type Paint } from "../../terminal-text.js";
import type { OnnxDimension } from "../formats/onnx/index.js";
import type { ResultKind } from "../lower/results.js";
import type { ModelFacts, NetworkFacts, ValueFacts } from "./model-facts.js";
import type { ModelFormat, ModelInspection } from "./model-inspection.js";
import {
  anomalyTable,
  dtypeRows,
  type Fact,
  fingerprintRows,
  networkRows,
  renderFacts,
  SHORT,
  thousands,
} from "./text.js";

/** As many kinds of operators are listed. */
const OPERATORS = 8;

/** Metadata of other tools may be whole programs. */
const METADATA = 8;
const METADATA_LENGTH = 60;

/** How a kind of model is called, and what its digest is of. */
export interface Title {
  readonly kind: string;
  readonly digested?: string;
}

/** A model of either format, below what is said of its files. */
export function renderModel(
  { kind, digested }: Title,
  rows: readonly Fact[],
  inspection: ModelInspection<ModelFormat, ModelFacts>,
  paint: Paint,
): string {
  const { file, model, network, weights, anomalies } = inspection;
  const digest = `SHA-256${digested === undefined ? "" : ` of ${digested}`} ${file.sha256.slice(0, SHORT)}…`;
  const title = `${paint.strong(clean(file.name))}: ${kind}, ${(file.bytes / 1e6).toFixed(1)} MB, ${digest}`;
  const facts = renderFacts(
    [
      ...rows,
      ...interfaceRows(model),
      ...(network ? networkRows(network, paint) : []),
      ...dtypeRows(model.dtypes),
      ...(weights ? [...fingerprintRows(weights, paint), ...foldingRow(weights.reparameterised)] : []),
    ],
    paint,
  );
  return [title, "", facts, ...findings(model.differences ?? [], paint)]
    .concat(weights ? [anomalyTable(anomalies, paint)] : [])
    .concat("")
    .join("\n");
}

export function listOperators(operators: ModelFacts["operators"]): string {
  const kinds = Object.entries(operators);
  const more = kinds.length > OPERATORS ? ` and ${kinds.length - OPERATORS} other kinds` : "";
  const listed = kinds.slice(0, OPERATORS).map(([name, count]) => `${thousands(count)} ${name}`);
  return `${listed.join(", ")}${more}`;
}

/** Files that a model needs and does not have. */
export function missingRows(names: readonly string[], paint: Paint): readonly Fact[] {
  return names.map((name) => ["weights", paint.bad(`needs ${clean(name)} beside it`)] as const);
}

export function metadataRows(entries: readonly (readonly [key: string, value: string])[]): readonly Fact[] {
  return [
    ...entries
      .slice(0, METADATA)
      .map(([key, value]) => ["metadata", clean(`${short(key)} = ${short(value)}`)] as const),
    ...(entries.length > METADATA ? [["metadata", `and ${entries.length - METADATA} more`] as const] : []),
  ];
}

function interfaceRows(model: ModelFacts & Partial<NetworkFacts>): readonly Fact[] {
  const { batch, size, results = [], batchNorms, quantised, preprocess } = model;
  const layers = new Map(results.map((result) => [result.output, result]));
  return [
    ...model.inputs.map((value) => ["input", describeValue(value)] as const),
    ...model.outputs.map(
      (value) => ["output", `${describeValue(value)}${describeResult(layers.get(value.name))}`] as const,
    ),
    ...(batch === undefined ? [] : [["batch", batch === null ? "dynamic" : String(batch)] as const]),
    ...(size === undefined
      ? []
      : [["image size", size === null ? "dynamic" : `${size.height}×${size.width}`] as const]),
    ...(batchNorms ? [["batch norms", describeNorms(batchNorms)] as const] : []),
    ...(quantised ? [["quantised", `the weights of ${thousands(quantised)} layers`] as const] : []),
    ...(preprocess ? [["preprocessing", preprocess] as const] : []),
  ];
}

function describeValue({ name, dtype, shape }: ValueFacts): string {
  const sizes = shape?.map((size: OnnxDimension) => size ?? "?").join(", ");
  return clean(`${name} ${dtype ?? "of unknown type"}${sizes === undefined ? "" : ` [${sizes}]`}`);
}

function describeResult(result: NetworkFacts["results"][number] | undefined): string {
  if (!result) return "";
  const { kind, layer, tail } = result;
  const what = kind === null ? `the layer ${layer}` : `${RESULTS[kind]} (${layer})`;
  return clean(`, ${what}${tail.length > 0 ? ` followed by ${tail.join(", ")}` : ""}`);
}

const RESULTS: Readonly<Record<ResultKind, string>> = {
  features: "the embedding",
  logits: "the logits",
  probabilities: "the probabilities",
};

function describeNorms({ folded, kept, affine }: NetworkFacts["batchNorms"]): string {
  const parts = [
    ...(folded > 0 ? [`${folded} folded into the layers before them`] : []),
    ...(kept > 0 ? [`${kept} kept`] : []),
    ...(affine > 0 ? [`${affine} spelled as a product and a sum`] : []),
  ];
  return parts.length > 0 ? parts.join(", ") : "none";
}

/** What a fingerprint is worth where batch norms were folded. */
function foldingRow(reparameterised: number): readonly Fact[] {
  return reparameterised === 0
    ? []
    : [
        [
          "",
          `of ${thousands(reparameterised)} tensors with batch norms folded in, not of the trained ones: compare the other, which is a checkpoint's if we folded it`,
        ],
      ];
}

function findings(differences: NetworkFacts["differences"], paint: Paint): readonly string[] {
  if (differences.length === 0) return [];
  return [
    "",
    paint.bad(
      `${thousands(differences.length)} ${differences.length === 1 ? "difference" : "differences"} from an OSNet`,
    ),
    ...differences.map(
      ({ layer, found, expected }) => `  ${clean(`${layer}: found ${found}, expected ${expected}`)}`,
    ),
  ];
}

function short(text: string): string {
  return text.length > METADATA_LENGTH ? `${text.slice(0, METADATA_LENGTH)}…` : text;
}
