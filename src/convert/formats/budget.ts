import { InputError } from "../../core/errors.js";

/**
 * How much memory one file may ask for beyond its own bytes. Honest files need at most about their own size, to
 * unpack compressed entries and to make strided tensors contiguous; a zip bomb or a tensor with stride 0 asks for any
 * amount with a few bytes.
 */
export interface Budget {
  /** Must be called before each allocation of `bytes` for `purpose`; throws `InputError` when it would be too much. */
  spend(bytes: number, purpose: string): void;
  /**
   * The same for what a pickle builds: an empty dict is one byte of pickle and 200 of memory. What was dropped again
   * counts too, so this bounds the time that building takes as well.
   */
  build(bytes: number): void;
}

/** Four times the file: a float64 copy of a compressed float32 file still fits. */
const FILE_MULTIPLE = 4;

/** Small enough to be harmless, large enough that tiny files never meet the limit. */
const FLOOR = 1 << 20;

/**
 * Objects of small files: an osnet_x0_25 pickled whole, with its modules, is 1.1 MB and counts 4 MB of objects, a state
 * dict of it 1 MB. Beyond, the densest seen is a data set's list of (path, identity, camera): 3.5 times its bytes.
 */
const OBJECTS_FLOOR = 16 << 20;

/** The allowance of a file of `fileBytes` bytes. */
export function createBudget(subject: string, fileBytes: number): Budget {
  const limit = Math.max(FLOOR, FILE_MULTIPLE * fileBytes);
  const objectsLimit = Math.max(OBJECTS_FLOOR, FILE_MULTIPLE * fileBytes);
  let spent = 0;
  let built = 0;
  const exceeded = (what: string, bytes: number, most: number, remedy: string) =>
    new InputError({
      code: "unsupported",
      subject,
      found: `${what} the memory needed to ${bytes} bytes`,
      expected: `at most ${most} bytes for a file of ${fileBytes}`,
      remedy,
    });
  return {
    spend(bytes, purpose) {
      spent += bytes;
      if (spent <= limit) return;
      const remedy = "save the weights again, uncompressed and contiguous";
      throw exceeded(`${purpose}, which takes`, spent, limit, remedy);
    },
    build(bytes) {
      built += bytes;
      if (built <= objectsLimit) return;
      const remedy = "save the weights alone, with torch.save(model.state_dict(), path)";
      throw exceeded("a pickle whose objects take", built, objectsLimit, remedy);
    },
  };
}
