/** Wording and figures shared by all reports. */

import {
  faultName,
  type LayerResult,
  type ParityReport,
  type Proof,
  type Tolerance,
} from "../outcome/report.js";
import { type SuiteReport, suiteCounts } from "../suite/report.js";

export { formatCosine } from "../../core/text.js";

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

export function plural(count: number, noun: string, many: string = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : many}`;
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
