import type { ParityReport, Rerun } from "../report.js";
import { formatCosine, formatError, plural } from "./facts.js";

/** Something that a report found beside its layers: a term, and what there is to say. */
export type Finding = readonly [term: string, finding: string];

/**
 * What stands beside the layers: embedding, weights, coverage, what the verdict rests on.
 *
 * @param quote how names and prose that come from files are written
 */
export function findings(
  { output, weights, quantization, coverage, proof, vacuity }: ParityReport,
  quote: (text: string) => string = String,
): readonly Finding[] {
  const list: Finding[] = [];
  if (output)
    list.push([
      "Embedding",
      `${quote(output.layer)}, max abs ${formatError(output.maxAbs)} (${formatError(output.relMax)} of max), L2-normalised ${formatError(output.normalizedMaxAbs)}, cosine ${formatCosine(output.cosine)}`,
    ]);
  if (output && output.tappingMaxAbs !== null)
    list.push(["Inner values", `reading them moves the embedding by ${formatError(output.tappingMaxAbs)}`]);
  for (const run of output?.reruns ?? []) list.push(rerunFinding(run, quote));
  if (weights) list.push(["Weights", weightsFinding(weights)]);
  if (quantization)
    list.push([
      "Stored weights",
      `${plural(quantization.tensors, "tensor")} as ${quote(quantization.dtypes.join(", "))}; that moves the embedding by ${formatError(quantization.relMax)} of max, cosine ${formatCosine(quantization.cosine)}`,
    ]);
  const folded =
    coverage.folded.length > 0 ? `, ${coverage.folded.length} more exist only folded into the next` : "";
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
  if (proof)
    list.push([
      proof.status === "proven" ? "Proven for every input" : `Sampled on ${plural(proof.images, "image")}`,
      quote(proof.grounds.join("; ")),
    ]);
  return list;
}

/** What running a model again in a way that must not matter has shown. */
export function rerunFinding(
  { how, images, maxAbs, relMax, problem }: Rerun,
  quote: (text: string) => string = String,
): Finding {
  const moves = `moves the embedding by ${formatError(maxAbs)} (${formatError(relMax)} of max)`;
  const term = how === "alone" ? `${plural(images, "image")} alone` : "Without optimisations";
  return [term, problem === undefined ? moves : quote(problem)];
}

function weightsFinding({
  identical,
  compared,
  folded,
  rounded,
  quantised,
}: NonNullable<ParityReport["weights"]>): string {
  return [
    `${identical} of ${compared} constants are the checkpoint's`,
    ...(folded > 0 ? [`${plural(folded, "layer")} with a folded batch norm`] : []),
    ...(rounded ? [`${rounded} are theirs in fewer bits, rounded once`] : []),
    ...(quantised ? [`${quantised} quantised: within half a step of them`] : []),
  ].join(", ");
}
