import { isModelFormat } from "../../convert/formats/registry.js";
import { formatCosine, plural } from "../../core/text.js";
import {
  type Fault,
  faultName,
  type GateResult,
  type LayerResult,
  type OutputResult,
  type ParityReport,
  type Proof,
  type Rerun,
  type Tolerance,
} from "../outcome/report.js";
import type { Change } from "../ranking/compare.js";
import type { RankingFigures } from "../ranking/evaluate.js";
import type { RankedCandidate, RankedSide, RankingCheck, RankingReport } from "../ranking/report.js";
import { type EntryRanking, type SuiteReport, suiteCounts } from "../suite/report.js";

/** Wording and figures shared by all reports, of comparisons and of rankings. */

/** The inputs that a proof applies to. */
export function provenFor({ within }: Pick<Proof, "within">): string {
  return within === undefined ? "every input" : `all images within ±${within}`;
}

/**
 * The verdict without its PASS or FAIL, in one clause.
 *
 * @param quote how a layer's name is written
 */
export function verdictClause(report: ParityReport, quote: (name: string) => string = String): string {
  const { passed, faults, gates, layers, tolerance, baseline, proof, notJudged = [] } = report;
  if (passed) {
    const untested = layers.filter(({ status }) => status === "untested").length;
    const count = `${plural(layers.length - untested, "layer")} and ${plural(gates.length, "gate")}`;
    const rest = untested > 0 ? `; ${plural(untested, "layer")} could not be judged` : "";
    const left = notJudged.length > 0 ? `; not judged: ${notJudged.map(quote).join(", ")}` : "";
    const result = resultOf(report);
    const proven = proof?.status === "proven" ? `, proven for ${provenFor(proof)}` : "";
    return `${result ? `${result}: ` : ""}${count} agree within ${allowance(tolerance)}${proven}${rest}${left}`;
  }
  const [first] = faults;
  if (!first && baseline && baseline.regressions.length > 0)
    return `within ${allowance(tolerance)}, but ${plural(baseline.regressions.length, "figure")} worse than the baseline`;
  if (!first) return layers.length > 0 ? "no layer could be judged" : "nothing was compared";
  return `${plural(faults.length, "fault")}, first at ${quote(faultName(first))}`;
}

/** What the judged output is: `features, L2-normalised`. Undefined if nothing was run. */
export function resultOf({ output }: Pick<ParityReport, "output">): string | undefined {
  if (output?.name === undefined || output.result === undefined) return undefined;
  return [output.result, ...(output.operation === undefined ? [] : [output.operation])].join(", ");
}

/** The number of a suite's entries by status, in one clause. */
export function suiteClause(suite: SuiteReport): string {
  const { pass, fail, error } = suiteCounts(suite);
  return [
    `${pass} of ${plural(suite.entries.length, "entry", "entries")} ${pass === 1 ? "passes" : "pass"}`,
    ...(fail > 0 ? [`${fail} ${fail === 1 ? "fails" : "fail"}`] : []),
    ...(error > 0 ? [`${error} could not be run`] : []),
    ...(suite.skipped.length > 0 ? [`${suite.skipped.length} not run`] : []),
  ].join(", ");
}

/** The meaning of a margin. */
export function marginMeaning(tolerance: Tolerance): string {
  return tolerance.rule === "derived-bounds"
    ? "error of the layer on the candidate's own inputs, divided by its rounding bound"
    : `error divided by what tolerance ${tolerance.value} allows`;
}

/** What `informativeLayers` omits, and why. */
export const OMITTED_NOTE: string =
  "Sums and products of two values are omitted if they pass: they round once, and often use all of their bound.";

/**
 * The layers whose margins show how close a model is to failing. With rounding bounds, those of passing sums and
 * products of two values do not: a single rounding may be as large as its bound, and among thousands of elements one
 * is.
 */
export function informativeLayers({
  layers,
  tolerance,
}: Pick<ParityReport, "layers" | "tolerance">): readonly LayerResult[] {
  if (tolerance.rule !== "derived-bounds") return layers;
  return layers.filter(({ op, status }) => status === "fail" || (op !== "add" && op !== "scale"));
}

/** The tolerance, as a noun phrase. */
export function allowance(tolerance: Tolerance): string {
  return tolerance.rule === "derived-bounds" ? "their rounding bounds" : `${tolerance.value} of max`;
}

/** The layers of `informativeLayers`, larger margins first, infinite ones at the top; equal margins in network order. */
export function worstFirst(report: Pick<ParityReport, "layers" | "tolerance">): readonly LayerResult[] {
  return informativeLayers(report).toSorted((a, b) =>
    marginOf(b) === marginOf(a) ? 0 : marginOf(b) - marginOf(a),
  );
}

/** A margin as a number to order by. */
export function marginOf({ margin }: Pick<LayerResult, "margin">): number {
  return margin ?? Infinity;
}

/** The informative layer with the largest margin, if anything was compared. */
export function worstLayer(report: ParityReport): LayerResult | undefined {
  return worstFirst(report)[0];
}

/** The largest margin as text. */
export function worstMargin(report: ParityReport): string {
  const worst = worstLayer(report);
  return worst ? formatMargin(worst.margin) : "–";
}

/** Two digits, three from 1 on; a margin below 1 passes, and never reads 1. */
export function formatMargin(margin: number | null): string {
  if (margin === null || !Number.isFinite(margin)) return "∞";
  if (margin === 0) return "0";
  if (margin > 0.99 && margin < 1) return "0.99";
  return margin >= 1e-3 && margin < 1e4
    ? Number(margin.toPrecision(margin >= 1 ? 3 : 2)).toString()
    : margin.toExponential(1);
}

export function formatError(error: number | null | undefined): string {
  if (error === undefined) return "–";
  if (error === null || !Number.isFinite(error)) return "∞";
  return error === 0 ? "0" : error.toExponential(1);
}

/** `Chrome/156.0.8078.108; ANGLE (…)`; empty for a runtime of this machine's own. */
export function runtimeClause({ runtime }: ParityReport): string {
  const { browser, gpu, storage } = runtime ?? {};
  return [browser, gpu, ...(storage ? [`values stored in ${storage}`] : [])]
    .filter((part) => part !== undefined)
    .join("; ");
}

/** `osnet_x1_0.onnx in onnxruntime`. */
export function title({ candidate, backend }: ParityReport): string {
  return `${candidate.name} in ${backend}`;
}

/** A part of the network as torchreid's module paths show it: a residual block, the stem, a transition, the embedding. */
export interface LayerGroup {
  readonly name: string;
  readonly layers: readonly LayerResult[];
  readonly gates: readonly GateResult[];
  readonly faults: readonly Fault[];
}

/** The report's layers, gates and faults by part of the network, in network order. */
export function groupLayers(report: ParityReport): readonly LayerGroup[] {
  const names = new Set([...report.layers.map(({ name }) => groupOf(name)), ...faultGroups(report)]);
  return [...names].map((name) => ({
    name,
    layers: report.layers.filter((layer) => groupOf(layer.name) === name),
    gates: report.gates.filter(({ block }) => block === name),
    faults: report.faults.filter(({ layer }) => groupOf(layer) === name),
  }));
}

/** Parts of the network with faults at layers that were not compared, such as missing ones. */
function faultGroups({ faults }: ParityReport): readonly string[] {
  return faults.map(({ layer }) => groupOf(layer));
}

/** `conv2.0.gate[1].fc1` is of `conv2.0`; `conv1.bn` of `conv1`; `fc.1` of `fc`; `pool2.0` of `pool2`. */
export function groupOf(layer: string): string {
  return /^conv\d+\.\d+(?=[.[]|$)/.exec(layer)?.[0] ?? /^[^.[]*/.exec(layer)?.[0] ?? layer;
}

/** The parts of several networks in one order that preserves each network's own as far as they agree. */
export function joinOrders(orders: readonly (readonly string[])[]): readonly string[] {
  const joined: string[] = [];
  for (const order of orders) {
    let at = 0;
    for (const name of order) {
      const found = joined.indexOf(name);
      if (found < 0) joined.splice(at, 0, name);
      at = (found < 0 ? at : found) + 1;
    }
  }
  return joined;
}

/** A finding other than a layer: a term and its description. */
type Finding = readonly [term: string, finding: string];

/**
 * The findings other than layers: embedding, weights, coverage, what the verdict rests on.
 *
 * @param quote how to write names and prose from files
 */
export function findings(
  {
    reference,
    layers,
    output,
    furtherOutputs,
    notJudged,
    weights,
    quantization,
    coverage,
    proof,
    vacuity,
    warnings = [],
    baseline,
  }: ParityReport,
  quote: (text: string) => string = String,
): readonly Finding[] {
  const list: Finding[] = [];
  if (output) list.push(embeddingFinding({ layers }, output, quote));
  if (output && output.tappingMaxAbs !== null)
    list.push([
      "Tap effect",
      `with intermediate values as outputs the embedding changes by ${formatError(output.tappingMaxAbs)}`,
    ]);
  for (const further of furtherOutputs ?? [])
    list.push([
      "Output",
      `${quote(further.name ?? further.layer)} is ${quote(further.result ?? further.layer)}${further.operation === undefined ? "" : `, ${further.operation}`}, max abs ${formatError(further.maxAbs)}`,
    ]);
  if (notJudged && notJudged.length > 0)
    list.push(["Not judged", `outputs ${notJudged.map(quote).join(", ")}`]);
  for (const run of output?.reruns ?? []) list.push(rerunFinding(run, quote));
  if (weights) list.push(["Weights", weightsFinding(weights, reference)]);
  if (quantization)
    list.push([
      "Stored weights",
      `${plural(quantization.tensors, "tensor")} as ${quote(quantization.dtypes.join(", "))}; that changes the embedding by ${formatError(quantization.relMax)} of max, cosine ${formatCosine(quantization.cosine)}`,
    ]);
  const folded =
    coverage.folded.length > 0 ? `, ${coverage.folded.length} more are folded into the next layer` : "";
  list.push([
    "Coverage",
    `${coverage.compared} of ${coverage.expected - coverage.folded.length} layers compared${folded}`,
  ]);
  const untested = vacuity?.untested ?? [];
  const [first] = untested;
  if (first)
    list.push([
      "Untested by these images",
      `${plural(untested.length, "layer")}, first ${quote(first.layer)}: ${quote(first.reason)}`,
    ]);
  if (vacuity && vacuity.collapsed.length > 0)
    list.push([
      "Collapsed",
      `different images have the same embedding: ${vacuity.collapsed.map((pair) => pair.join(" and ")).join(", ")}`,
    ]);
  for (const warning of warnings) list.push(["Warning", quote(warning)]);
  if (baseline) {
    const { name, added, notes } = baseline;
    const details = notes.map((note) => `; ${quote(note)}`).join("");
    list.push([
      "Baseline",
      `${layers.length - added.length} of ${plural(layers.length, "layer")} compared with ${quote(name)}${details}`,
    ]);
  }
  if (proof)
    list.push([
      proof.status === "proven"
        ? `Proven for ${provenFor(proof)}`
        : `Sampled on ${plural(proof.images, "image")}`,
      quote(proof.grounds.join("; ")),
    ]);
  return list;
}

/** The finding of the embedding. */
export function embeddingFinding(
  { layers }: Pick<ParityReport, "layers">,
  output: OutputResult,
  quote: (text: string) => string = String,
): Finding {
  const nonFinite = layers.find(({ name }) => name === output.layer)?.nonFinite ?? 0;
  return [
    "Embedding",
    nonFinite > 0
      ? `${quote(output.layer)}, ${plural(nonFinite, "value")} NaN or infinite`
      : `${quote(output.layer)}, max abs ${formatError(output.maxAbs)} (${formatError(output.relMax)} of max), L2-normalised ${formatError(output.normalizedMaxAbs)}, cosine ${formatCosine(output.cosine)}`,
  ];
}

/** The finding of a rerun. */
export function rerunFinding(
  { how, images, maxAbs, relMax, problem }: Rerun,
  quote: (text: string) => string = String,
): Finding {
  const moves = `changes the embedding by ${formatError(maxAbs)} (${formatError(relMax)} of max)`;
  const term = how === "alone" ? `${plural(images, "image")} alone` : "Without optimisations";
  return [term, problem === undefined ? moves : quote(problem)];
}

/**
 * How correct constants agree: a reference without batch norms has products only, which a candidate's factors can
 * match.
 */
function agreement({ format }: ParityReport["reference"]): string {
  return isModelFormat(format) ? "agree with the reference's" : "are the checkpoint's";
}

export function weightsFinding(
  { identical, compared, folded, rounded, quantised, zeroed }: NonNullable<ParityReport["weights"]>,
  reference: ParityReport["reference"],
): string {
  return [
    `${identical} of ${compared} constants ${agreement(reference)}`,
    ...(folded > 0 ? [`${plural(folded, "layer")} with a folded batch norm`] : []),
    ...(rounded ? [`${rounded} are the checkpoint's in fewer bits, rounded once`] : []),
    ...(zeroed ? [`${zeroed.count} weights of dead channels are zeros, which changes no output`] : []),
    ...(quantised ? [`${quantised} quantised: within half a step of the checkpoint's`] : []),
  ].join(", ");
}

/** The ranks of a CMC curve that tables show. */
const RANKS = [1, 5, 10, 20] as const;

export const FIGURE_NAMES: readonly string[] = ["mAP", ...RANKS.map((rank) => `rank-${rank}`), "mINP"];

/** A model's shares, in the order of `FIGURE_NAMES`. */
export function sharesOf({ mAP, cmc, mINP }: RankingFigures): readonly number[] {
  return [mAP, ...RANKS.map((rank) => cmc[rank - 1] ?? cmc.at(-1) ?? 0), mINP];
}

/** The reference, then the candidates. */
export function sidesOf({ reference, candidates }: RankingReport): readonly RankedSide[] {
  return [reference, ...candidates];
}

/** A share as percentage points, such as `0.12 points`. */
function points(share: number): string {
  return `${(100 * share).toFixed(2)} points`;
}

/** A share as a percentage, such as `94.2 %`. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** A change of a share, and its interval. */
export function changeText({ value, low, high }: Change): string {
  return `${value > 0 ? "+" : ""}${points(value)} (95 % interval ${(100 * low).toFixed(2)} to ${(100 * high).toFixed(2)})`;
}

export function datasetText({ dataset, distance, reranked }: RankingReport): string {
  const { layout, queries, gallery, identities, cameras, distractors, queriesWithoutMatch } = dataset;
  return [
    `${layout} layout`,
    plural(queries, "query", "queries"),
    plural(gallery, "gallery image"),
    ...(identities > 0
      ? [plural(identities, "identity", "identities")]
      : ["no labels: the order of neighbours is compared"]),
    ...(cameras > 0 ? [plural(cameras, "camera")] : []),
    ...(distractors > 0 ? [plural(distractors, "distractor")] : []),
    ...(queriesWithoutMatch > 0
      ? [`${plural(queriesWithoutMatch, "query", "queries")} without a match, skipped`]
      : []),
    `${distance} distance${reranked ? ", re-ranked" : ""}`,
  ].join(", ");
}

/** How the reference itself was verified; empty if it is not a checkpoint. */
export function referenceText({ reference: { party, proof } }: RankingReport): string {
  if (!proof) return "";
  return proof.status === "proven"
    ? `${party.name} is run as an ONNX file that is proven to compute the network for ${provenFor(proof)}, and was verified on ${plural(proof.images, "image")}`
    : `${party.name} is run as an ONNX file that was verified on ${plural(proof.images, "image")}`;
}

/** An entry's ranking in a suite: the figures, and the limits that are exceeded. */
export function entryRankingText({ dataset, mAP, rank1, checks }: EntryRanking): string {
  const figure = (name: string, [before, after]: readonly [number, number]): string =>
    `${name} ${percent(before)} to ${percent(after)}`;
  return [
    `ranking on ${dataset.name}`,
    ...(mAP ? [figure("mAP", mAP)] : []),
    ...(rank1 ? [figure("rank-1", rank1)] : []),
    ...checks.filter(({ passed }) => !passed).map(checkText),
  ].join(", ");
}

/** The result of a check, in one clause. */
export function checkText({ figure, value, limit, passed }: RankingCheck): string {
  switch (figure) {
    case "finite":
      return passed
        ? "all features are finite"
        : `the features of ${plural(value, "picture")} have NaN or infinite values`;
    case "flips":
      return `the nearest image changes for ${percent(value)} of queries (limit: ${percent(limit)})`;
    default: {
      const name = figure === "map-drop" ? "mAP" : "rank-1";
      const moved = value > 0 ? `drops by ${points(value)}` : "does not drop";
      return `${name} ${moved} (limit: ${points(limit)})`;
    }
  }
}

/** The limits that were exceeded, in one clause; empty if there are none. */
export function failureText({ checks }: RankedCandidate): string {
  return checks
    .filter(({ passed }) => !passed)
    .map(checkText)
    .join("; ");
}

export function verdictText({ passed, candidates }: RankingReport): string {
  const failing = candidates.filter((candidate) => !candidate.passed).length;
  const all = candidates.length === 1 ? "the candidate ranks" : `${candidates.length} candidates rank`;
  return passed
    ? `${all} as the reference does, within the limits`
    : candidates.length === 1
      ? "the candidate does not rank as the reference does"
      : `${failing} of ${candidates.length} candidates do not rank as the reference does`;
}

/** How the nearest images and their order changed, one clause each. */
export function orderTexts({ parity, figures }: RankedCandidate): readonly string[] {
  const { flips, overlap, kendallTau, drift } = parity;
  const directions =
    flips.toWrong === undefined ? "" : ` (${flips.toWrong} to a wrong one, ${flips.toRight} to a right one)`;
  return [
    `nearest image: changed for ${plural(flips.count, "query", "queries")}, ${percent(flips.share)}${directions}`,
    `overlap: ${overlap.map(({ k, value }) => `${percent(value)} of the nearest ${k}`).join(", ")}`,
    `Kendall's τ of the nearest 100: ${kendallTau.toFixed(4)}; distances differ by up to ${drift.max.toExponential(1)} of the largest`,
    ...(figures && figures.ties.queries > 0
      ? [
          `ties: at ${plural(figures.ties.queries, "query", "queries")}; by their order, mAP is between ${percent(figures.ties.mAPWorst)} and ${percent(figures.ties.mAPBest)}`,
        ]
      : []),
  ];
}
