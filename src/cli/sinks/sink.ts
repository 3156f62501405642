import type { Checkpoint } from "../../convert/import/checkpoint.js";
import type { ModelCheckpoint } from "../../convert/import/lift.js";
import type { NamedBytes } from "../../core/bytes.js";
import type { Paint } from "../../core/text.js";

/** A file to convert, read and understood. */
export interface Source extends NamedBytes {
  readonly checkpoint: Checkpoint & Partial<Pick<ModelCheckpoint, "outputs">>;
}

/** The name of a weight file beside a model: the usual one, or one of its own. */
export type NameBeside = (usual: string, data: Uint8Array) => string;

/** What a command writes. Made with the command's options, which it refuses before anything is read. */
export interface Sink {
  /** The names of the files beside an output, where there are any. */
  readonly beside?: (output: string) => readonly string[];
  /** @param nameBeside the name that a weight file gets, which its content decides where another one has it */
  encode(source: Source, output: string, nameBeside?: NameBeside): Encoded;
  /**
   * Holds what was written, read back, against what it came from.
   *
   * @param rewritten whether the source is a model that runs, whose own outputs the result's are compared with
   */
  verify(written: Written, source: Source, output: string, rewritten?: boolean): Promise<Verdict>;
}

/** A file as it was written, with those beside it. */
export type Written = Pick<NamedBytes, "beside"> & { readonly bytes: Uint8Array };

/** A file to write, or a folder's main file, with the weight files that get a name beside it. */
export interface Encoded {
  readonly bytes: Uint8Array;
  readonly beside?: ReadonlyMap<string, Uint8Array>;
  /** What was changed on the way, one clause each, for people to read. */
  readonly notes: readonly string[];
}

/** The result of a verification; one that fails is no exception. */
export interface Verdict {
  readonly passed: boolean;
  /** For `--json`. */
  readonly report: unknown;
  /** What was verified, to follow the word "verified". */
  readonly sentence: string;
  /** What the file has lost on purpose, where it has. */
  readonly loss?: string | undefined;
  /** The full report on a failure, for people to read. */
  explain(paint: Paint): Promise<string>;
}
