import { isModelFormat } from "../convert/formats/registry.js";
import type { Checkpoint } from "../convert/import/checkpoint.js";
import type { NamedBytes } from "../core/bytes.js";
import { InputError } from "../core/errors.js";
import { faultName } from "./faults.js";
import { openVerification } from "./open.js";
import type { ParityReport } from "./report.js";
import type { Verification } from "./verification.js";
import { verify } from "./verify.js";

/** A model whose weights were lifted. */
export interface LiftedSource extends NamedBytes {
  /** What was lifted. */
  readonly checkpoint: Checkpoint;
  /** Whether a runtime loads it. Default true. */
  readonly isRunnable?: boolean;
}

export interface LiftedOptions extends Pick<Verification, "onProgress"> {
  /** Whether outputs beyond the network's own are left out of the conversion, so that they need not agree. */
  readonly dropExtra?: boolean;
}

/**
 * Runs a model whose weights were lifted beside the network that they make, layer by layer. Undefined if there is none to
 * run, none that runs, or if it is quantised, so that it computes something else.
 *
 * @throws InputError (`unsupported`) if the two do not agree: then the model was misread, or is broken
 */
export async function verifyLifted(
  { isRunnable = true, checkpoint, ...model }: LiftedSource,
  { dropExtra = false, onProgress }: LiftedOptions = {},
): Promise<ParityReport | undefined> {
  if (!isModelFormat(checkpoint.decoded.format) || !isRunnable) return undefined;
  const verification = await openVerification(model, { ...model, checkpoint });
  const report = await verify({ ...verification, ...(onProgress ? { onProgress } : {}) });
  if (report.passed) return report;
  // A graph that departs from its network was refused: what is left is behind its outputs, which the user leaves out.
  if (dropExtra && report.faults.every(({ kind }) => kind === "structure")) return undefined;
  // Activations on integers are rounded, which no weights say: a run shows no more than that the structure is right.
  const isQuantised = (report.weights?.quantised ?? 0) > 0;
  if (isQuantised && report.faults.every(({ kind }) => kind === "numeric" || kind === "weights"))
    return undefined;
  throw new InputError({
    code: "unsupported",
    subject: model.name,
    found: `${report.faults.length === 1 ? "1 fault" : `${report.faults.length} faults`} when run beside the network of its own weights`,
    expected: "the network that its graph shows",
    remedy: "verify it against the checkpoint it came from, or write what was read by --no-verify",
    details: report.faults.map((fault) => `${faultName(fault)}: ${fault.explanation}`),
  });
}
