import { InputError } from "../../core/errors.js";

/** Where bytes come from, for messages: the file, and the part of it that offsets are counted in. */
export interface Region {
  /** The file's name as the user gave it. */
  readonly subject: string;
  /** `the file`, or the name of an entry inside it, such as `archive/data.pkl`. */
  readonly part: string;
}

/** The remedy for a broken file. */
const FETCH_AGAIN = "download or copy the file again";

/** The remedy for a file that is complete but contains something unsupported. */
const SAVE_AGAIN = "save the weights alone, with torch.save(model.state_dict(), path)";

/** `byte 12 of archive/data.pkl`. */
export function position(region: Region, offset: number): string {
  return `byte ${offset} of ${printable(region.part)}`;
}

/** Bytes that do not have the expected format: code `format`, remedied by a fresh copy of the file. */
export function corrupt(region: Region, found: string, expected: string): InputError {
  return new InputError({ code: "format", subject: region.subject, found, expected, remedy: FETCH_AGAIN });
}

/** A valid file with refused content: code `unsupported`, remedied by saving only the weights. */
export function unsupported(region: Region, found: string, expected: string): InputError {
  return new InputError({
    code: "unsupported",
    subject: region.subject,
    found,
    expected,
    remedy: SAVE_AGAIN,
  });
}

/** Maximum characters of a file's name in a message. */
const SHOWN = 60;

/** A name from a file, safe to print: anything but printable ASCII becomes a question mark, long ones are cut. */
export function printable(text: string): string {
  const cut = text.length > SHOWN ? `${text.slice(0, SHOWN - 3)}...` : text;
  return cut.replace(/[^ -~]/g, "?");
}

/** The same in quotation marks, for names that could be anything. */
export function quote(text: string): string {
  return `"${printable(text)}"`;
}

/** The bytes of a tensor whose file is missing, if that is not an error. */
export type AbsentBytes = (length: number, subject: string) => Uint8Array;

/** The largest tensor of osnet_x1_0 has 1 MB, that of a network four times as wide 16. */
const MAX_ABSENT_BYTES = 64 << 20;

/**
 * Zeros for the tensors of missing files, for inspecting a model without using it. All share one memory.
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
        remedy: "put the missing file beside the model",
      });
    if (zeros.length < length) zeros = new Uint8Array(length);
    return zeros.subarray(0, length);
  };
}

/**
 * The memory that one file may use beyond its own bytes. Ordinary files need at most about their own size, to unpack
 * compressed entries and to make strided tensors contiguous; a zip bomb or a tensor with stride 0 asks for any amount
 * with a few bytes.
 */
export interface Budget {
  /** Must be called before each allocation of `bytes` for `purpose`; throws `InputError` if it would be too much. */
  spend(bytes: number, purpose: string): void;
  /**
   * The same for objects of a pickle: an empty dict is one byte of pickle and 200 of memory. Dropped objects count too,
   * so this also bounds the time of building.
   */
  build(bytes: number): void;
}

/** Four times the file: a float64 copy of a compressed float32 file still fits. */
const FILE_MULTIPLE = 4;

/** Small enough to be harmless, and large enough that small files never reach the limit. */
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
      found: `${what} ${bytes} bytes`,
      expected: `at most ${most} bytes for a file of ${fileBytes}`,
      remedy,
    });
  return {
    spend(bytes, purpose) {
      spent += bytes;
      if (spent <= limit) return;
      const remedy = "save the weights again, uncompressed and contiguous";
      throw exceeded(`${purpose}, for a total of`, spent, limit, remedy);
    },
    build(bytes) {
      built += bytes;
      if (built <= objectsLimit) return;
      const remedy = "save the weights alone, with torch.save(model.state_dict(), path)";
      throw exceeded("a pickle whose objects take", built, objectsLimit, remedy);
    },
  };
}
