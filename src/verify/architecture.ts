import { type Dialect, expand, type LayerGraph, type OsnetSpec } from "../arch/index.js";
import { InputError } from "../core/errors.js";
import type { OpenFile } from "./open-file.js";

/**
 * The network that both sides are held to: the checkpoint's, where there is one, since what a candidate says of itself is
 * not believed; else the one that the candidate states or shows, which the recording then judges.
 *
 * @param subject the candidate's name
 * @throws InputError (`spec`) if a candidate states another network than the checkpoint; (`argument`) if neither side tells
 */
export function architectureOf(
  subject: string,
  candidateFile: OpenFile,
  referenceFile: OpenFile,
): LayerGraph {
  const stated = candidateFile.kind === "model" ? candidateFile.model.statedSpec() : undefined;
  const checkpoint = [referenceFile, candidateFile].find((file) => file.kind === "checkpoint")?.checkpoint;
  if (checkpoint) {
    if (stated) expectSameSpec(stated, checkpoint.spec, subject);
    return checkpoint.graph;
  }
  if (stated) return expand(stated);
  if (candidateFile.kind === "model") return candidateFile.model.shownGraph(recordedDialect(referenceFile));
  throw new InputError({
    code: "argument",
    subject,
    found: "two recordings",
    expected: "a model on at least one side",
    remedy: "give an ONNX file or a checkpoint",
  });
}

/** How a recording names modules: `conv2.0.conv2.1.layers` and `pool2`, or `conv2.0.conv2b` and `conv2.2`. */
function recordedDialect(file: OpenFile): Dialect | undefined {
  if (file.kind !== "recording") return undefined;
  const isAin = file.archive.names.some((name) => /^(conv\d+\.\d+\.conv2\.\d+|pool\d+)(\.|$)/.test(name));
  return isAin ? "osnet_ain" : "osnet";
}

/** Names the first choices in which a candidate's own description departs from the checkpoint's. */
function expectSameSpec(stated: OsnetSpec, identified: OsnetSpec, subject: string): void {
  // Weights lifted from a model of embeddings have lost their classifier, which no embedding depends on.
  const heads = [stated.head, identified.head];
  const withoutHead = heads.includes(null) && heads.every((head) => head?.loss !== "sigmoid");
  const keys = (Object.keys(identified) as (keyof OsnetSpec)[]).filter(
    (key) =>
      JSON.stringify(stated[key]) !== JSON.stringify(identified[key]) && !(key === "head" && withoutHead),
  );
  if (keys.length === 0) return;
  const show = (spec: OsnetSpec): string =>
    keys.map((key) => `${key} ${key === "stages" ? "of its own" : JSON.stringify(spec[key])}`).join(", ");
  throw new InputError({
    code: "spec",
    subject,
    found: `a network that states ${show(stated)}`,
    expected: `the reference's ${show(identified)}`,
    remedy: "if the reference was trained so, which a state dict cannot show, say so with --arch",
  });
}
