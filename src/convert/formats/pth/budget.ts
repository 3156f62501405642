import { InputError } from "../../../errors.js";

/**
 * How much memory one file may ask for beyond its own bytes. Honest files need at most about their own size, to
 * unpack compressed entries and to make strided tensors contiguous; a zip bomb or a tensor with stride 0 asks for any
 * amount with a few bytes.
 */
export interface Budget {
  /** Must be called before each allocation of `bytes` for `purpose`; throws `InputError` when it would be too much. */
  spend(bytes: number, purpose: string): void;
}

/** Four times the file: a float64 copy of a compressed float32 file still fits. */
const FILE_MULTIPLE = 4;

/** Small enough to be harmless, large enough that tiny files never meet the limit. */
const FLOOR = 1 << 20;

/** The allowance of a file of `fileBytes` bytes. */
export function createBudget(subject: string, fileBytes: number): Budget {
  const limit = Math.max(FLOOR, FILE_MULTIPLE * fileBytes);
  let spent = 0;
  return {
    spend(bytes, purpose) {
      spent += bytes;
      if (!(spent <= limit)) {
        throw new InputError({
          code: "unsupported",
          subject,
          found: `${purpose}, which takes the memory needed to ${spent} bytes`,
          expected: `at most ${limit} bytes for a file of ${fileBytes}`,
          remedy: "save the weights again, uncompressed and contiguous",
        });
      }
    },
  };
}
