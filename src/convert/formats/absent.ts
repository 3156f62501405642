import { InputError } from "../../errors.js";

/** What stands for the bytes of a tensor whose file is missing, where that is not refused. */
export type AbsentBytes = (length: number, subject: string) => Uint8Array;

/** The largest tensor of osnet_x1_0 has 1 MB, that of a network four times as wide 16. */
const MAX_ABSENT_BYTES = 64 << 20;

/**
 * Zeros for the tensors of missing files, for those who look at a model and do not use it. All share one memory.
 *
 * @param most bytes of a tensor, and of that memory
 * @throws InputError (`unsupported`), from the result, for a larger tensor
 */
export function zerosForAbsent(most: number = MAX_ABSENT_BYTES): AbsentBytes {
  let zeros = new Uint8Array();
  return (length, subject) => {
    if (!(length <= most))
      throw new InputError({
        code: "unsupported",
        subject,
        found: `${length} bytes in a file that is missing`,
        expected: `at most ${most}`,
        remedy: "put that file beside the model",
      });
    if (zeros.length < length) zeros = new Uint8Array(length);
    return zeros.subarray(0, length);
  };
}
