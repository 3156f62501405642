/**
 * Errors about unusable input.
 *
 * Every error is one sentence made of the same parts: `SUBJECT: found FOUND, expected EXPECTED; REMEDY.`, or `SUBJECT:
 * FOUND; REMEDY.` if nothing else could be expected.
 */

/** The closed list of reasons. */
export type InputErrorCode =
  /** A command-line argument or option value that cannot be used. */
  | "argument"
  /** A file or folder that cannot be opened, read, created or renamed. */
  | "file"
  /** Bytes that do not have the expected format. */
  | "format"
  /** A valid file with refused content, such as a pickle that would run code. */
  | "unsupported"
  /** A state dict that is not a complete OSNet. */
  | "state-dict"
  /** An architecture description of no valid network. */
  | "spec"
  /** Tensors that do not fit the network, such as an image of the wrong size. */
  | "tensor";

/** The parts of an error. */
export interface InputProblem {
  /** Which kind of error it is. */
  readonly code: InputErrorCode;
  /** The file, key or option concerned. */
  readonly subject: string;
  /** What was found, as a noun phrase with its numbers. Without `expected`: what went wrong, as a clause. */
  readonly found: string;
  /** What was expected instead, as a noun phrase. Absent if `found` is sufficient, such as `no such file or folder`. */
  readonly expected?: string;
  /** What the user can do about it, as an imperative clause. */
  readonly remedy: string;
  /** All findings, one per line; empty if the sentence is sufficient. */
  readonly details?: readonly string[];
}

/** Longer parts, such as a name of a megabyte, are truncated. */
const MAX_LENGTH = 500;

/**
 * Text on one line that a terminal displays and does not interpret, since names in messages come from files. Control
 * and format characters (escapes, direction marks), line and paragraph separators and lone surrogates become `?`.
 */
function plain(text: string): string {
  const cut = text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH - 3)}...` : text;
  return cut.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, "?");
}

/**
 * Unusable input or arguments, which make a command exit with status 2. A failed comparison is a result, never an
 * `InputError`.
 */
export class InputError extends Error {
  /** Always `InputError`, even if the class comes from another copy of the package. */
  override readonly name = "InputError";
  /** The parts of the message, with control characters replaced and long names cut. */
  readonly problem: InputProblem;

  constructor(problem: InputProblem, options?: { readonly cause?: unknown }) {
    const { code, subject, found, expected, remedy, details } = problem;
    const shown = {
      code,
      subject: plain(subject),
      found: plain(found),
      ...(expected === undefined ? {} : { expected: plain(expected) }),
      remedy: plain(remedy),
      ...(details === undefined ? {} : { details: details.map(plain) }),
    };
    const clause = expected === undefined ? shown.found : `found ${shown.found}, expected ${shown.expected}`;
    const end = shown.remedy.endsWith("?") ? "" : ".";
    super(`${shown.subject}: ${clause}; ${shown.remedy}${end}`, options);
    this.problem = shown;
  }

  /** `problem.code`: the reason, for programs. */
  get code(): InputErrorCode {
    return this.problem.code;
  }

  /** `problem.details`; empty if the sentence is sufficient. */
  get details(): readonly string[] {
    return this.problem.details ?? [];
  }
}

/** The first line of an error's message, since those of libraries may be whole reports. */
export function firstLine(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0] ?? "";
}
