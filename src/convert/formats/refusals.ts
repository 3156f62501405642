import { InputError } from "../../errors.js";

/** Where bytes come from, for messages: the file, and the part of it that offsets are counted in. */
export interface Region {
  /** The file's name as the user gave it. */
  readonly subject: string;
  /** `the file`, or the name of an entry inside it, such as `archive/data.pkl`. */
  readonly part: string;
}

/** What helps against a file that is broken. */
const FETCH_AGAIN = "download or copy the file again";

/** What helps against a file that is whole but holds something that cannot be used. */
const SAVE_AGAIN = "save the weights alone, with torch.save(model.state_dict(), path)";

/** `byte 12 of archive/data.pkl`. */
export function position(region: Region, offset: number): string {
  return `byte ${offset} of ${printable(region.part)}`;
}

/** Bytes that are not the format they should be: code `format`, remedied by a fresh copy of the file. */
export function corrupt(region: Region, found: string, expected: string): InputError {
  return new InputError({ code: "format", subject: region.subject, found, expected, remedy: FETCH_AGAIN });
}

/** A valid file with something in it that is refused: code `unsupported`, remedied by saving only the weights. */
export function unsupported(region: Region, found: string, expected: string): InputError {
  return new InputError({
    code: "unsupported",
    subject: region.subject,
    found,
    expected,
    remedy: SAVE_AGAIN,
  });
}

/** Characters of a name from a file that a message shows. */
const SHOWN = 60;

/** A name from a file, safe to print as it is: anything but printable ASCII becomes a question mark, long ones are cut. */
export function printable(text: string): string {
  const cut = text.length > SHOWN ? `${text.slice(0, SHOWN - 3)}...` : text;
  return cut.replace(/[^ -~]/g, "?");
}

/** The same in quotation marks, for names that could be anything. */
export function quote(text: string): string {
  return `"${printable(text)}"`;
}
