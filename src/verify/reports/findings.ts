import { isModelFormat } from "../../convert/formats/registry.js";
import type { Fault, GateResult, LayerResult, ParityReport, Rerun } from "../outcome/report.js";
import { formatCosine, formatError, plural, provenFor } from "./facts.js";

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
export type Finding = readonly [term: string, finding: string];

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
  const nonFinite = layers.find(({ name }) => name === output?.layer)?.nonFinite ?? 0;
  if (output)
    list.push([
      "Embedding",
      nonFinite > 0
        ? `${quote(output.layer)}, ${plural(nonFinite, "value")} NaN or infinite`
        : `${quote(output.layer)}, max abs ${formatError(output.maxAbs)} (${formatError(output.relMax)} of max), L2-normalised ${formatError(output.normalizedMaxAbs)}, cosine ${formatCosine(output.cosine)}`,
    ]);
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
export function agreement({ format }: ParityReport["reference"]): string {
  return isModelFormat(format) ? "agree with the reference's" : "are the checkpoint's";
}

function weightsFinding(
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
