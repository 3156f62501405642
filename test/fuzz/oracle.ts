/** What a reader may do with bytes: return, or throw an `InputError` that fits on a line. All else is a finding. */

import { InputError } from "../../src/core/errors.js";
import type { Meter } from "./meter.js";
import type { Target } from "./targets.js";

/** What happened to one input. `finding` says what is wrong, alike for inputs that fail alike. */
export interface Verdict {
  readonly outcome: "read" | "refused" | "finding";
  readonly finding: string;
  readonly milliseconds: number;
}

/** The parts of an error, on one line, nothing in it that a terminal would act on. */
const ONE_SENTENCE =
  /^[^\p{Cc}\p{Zl}\p{Zp}]+: (?:found [^\p{Cc}\p{Zl}\p{Zp}]+, expected )?[^\p{Cc}\p{Zl}\p{Zp}]+; [^\p{Cc}\p{Zl}\p{Zp}]+[.?]$/u;
const ONE_LINE = /^[^\p{Cc}\p{Zl}\p{Zp}]*$/u;
const MAX_MESSAGE = 4000;

/** Memory that a reader may take: four times the file, and a constant for small ones (see docs/security.md). */
const FILE_MULTIPLE = 4;
const CONSTANT_BYTES = 8 << 20;
/** The process's peak also holds what earlier inputs left for the garbage collector. */
const CONSTANT_PEAK_BYTES = 128 << 20;

/** Reads one input and judges what came of it; hangs are for the caller to notice. */
export function judge(target: Target, bytes: Uint8Array, meter?: Meter): Verdict {
  meter?.reset();
  const start = performance.now();
  let outcome: Verdict["outcome"] = "read";
  let finding = "";
  try {
    target.read(bytes);
  } catch (error) {
    outcome = "refused";
    finding = error instanceof InputError ? faultOf(error) : describe(error);
  }
  const milliseconds = performance.now() - start;
  if (finding === "" && meter !== undefined) {
    const { allocated, peakGrowth } = meter.read();
    if (allocated > FILE_MULTIPLE * bytes.length + CONSTANT_BYTES) finding = "allocates too much";
    else if (peakGrowth > FILE_MULTIPLE * bytes.length + CONSTANT_PEAK_BYTES)
      finding = "takes too much memory";
  }
  return { outcome: finding === "" ? outcome : "finding", finding, milliseconds };
}

function faultOf({ message, details }: InputError): string {
  if (message.length > MAX_MESSAGE) return "a message too long to read";
  if (!ONE_SENTENCE.test(message)) return `a message that is no sentence: ${JSON.stringify(message)}`;
  if (!details.every((detail) => detail.length <= MAX_MESSAGE && ONE_LINE.test(detail)))
    return "details that are no lines";
  return "";
}

/** The error without the numbers and names that differ between inputs, and where it came from. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return `threw ${typeof error}`;
  const place = /\(?([^\s()]*?[\w.-]+\.[jt]s):\d+:\d+\)?/.exec(error.stack ?? "")?.[1] ?? "";
  const message = error.message.replace(/\d+/g, "N").slice(0, 200);
  return `${error.name}: ${message} at ${place.replace(/^.*\/(?=[\w.-]+\/[\w.-]+$)/, "")}`;
}
