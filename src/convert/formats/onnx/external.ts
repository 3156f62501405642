import { type Bytes, toSource } from "../../../core/bytes.js";
import type { AbsentBytes } from "../refusals.js";
import { refusal } from "./limits.js";
import type { ITensorProto } from "./proto.js";

/**
 * External data: tensors whose elements are in a file beside the model's
 * (https://github.com/onnx/onnx/blob/main/docs/ExternalData.md). The entries are `location`, a path relative to the
 * model's folder, and `offset` and `length` in bytes, which default to all of the file.
 *
 * Refused: paths that leave the folder, whatever the system (absolute ones, drive letters, `..`, back slashes), ranges
 * beyond the file.
 */

/** What a model file is called in messages, and how to get at the files beside it. */
export interface OnnxSource {
  /** What messages call the file. */
  readonly subject: string;
  /** The bytes of a file by its path relative to the model's folder; undefined if there is none. */
  readonly sidecar?: SidecarReader;
  /** What stands for the bytes of a tensor whose file is missing, where that is not refused. */
  readonly absent?: AbsentBytes;
  /** Bytes of the model and of the files beside it that are in memory, those copied out of them, and those read of others. */
  readonly copies?: { held: number; copied: number; read: number };
}

/** Copies may take as much of the files' length as a checkpoint's (budget.ts). */
const FILE_MULTIPLE = 4;

/**
 * Counts a copy of elements that lie where typed arrays cannot: any number of tensors may share one range of a file.
 *
 * @throws InputError (`unsupported`) for more than four times the files
 */
export function countCopy({ subject, copies }: OnnxSource, bytes: number): void {
  if (!copies) return;
  copies.copied += bytes;
  const limit = FILE_MULTIPLE * copies.held;
  if (copies.copied > limit)
    throw refusal(
      subject,
      `copies of tensors, which take ${copies.copied} bytes`,
      `at most ${limit} for files of ${copies.held}`,
      "save the model again, each tensor by itself",
      "unsupported",
    );
}

/** Reads a file beside a model by its relative path; undefined if there is no such file. Of a source, only tensors are read. */
export type SidecarReader = (name: string) => Bytes | undefined;

/** Of all tensors read out of files that are not in memory as a whole; the largest OSNet has 20 MB. */
const MAX_READ_BYTES = 2 ** 30;

function countRead({ subject, copies }: OnnxSource, bytes: number): void {
  if (!copies) return;
  copies.read += bytes;
  if (copies.read > MAX_READ_BYTES)
    throw refusal(
      subject,
      `tensors of ${copies.read} bytes in the files beside it`,
      `at most ${MAX_READ_BYTES}`,
      "give a model of an OSNet",
      "unsupported",
    );
}

/** TensorProto.DataLocation: the elements are in another file. */
const EXTERNAL = 1;

export function isExternal(proto: ITensorProto): boolean {
  return proto.dataLocation === EXTERNAL;
}

/** The part of another file that holds a tensor's elements, as a view. */
export function externalElements(
  proto: ITensorProto,
  expectedBytes: number,
  subject: string,
  source: OnnxSource,
): Uint8Array {
  const { subject: file, sidecar, absent } = source;
  const entries = new Map(proto.externalData?.map(({ key, value }) => [key ?? "", value ?? ""]));
  // `./m.data` is the file itself, for onnx and onnxruntime too.
  const location = (entries.get("location") ?? "").replace(/^(\.\/+)+/, "");
  if (!isInside(location))
    throw refusal(
      subject,
      `its elements kept in ${JSON.stringify(location)}`,
      "a file in the model's own folder",
      "do not use a model that reads files elsewhere",
      "unsupported",
    );
  if (!sidecar && !absent)
    throw refusal(
      subject,
      `its elements kept in ${JSON.stringify(location)}`,
      "all weights inside the ONNX file, or files beside it to read",
      "give the path of the model, or save it as one file",
      "unsupported",
    );
  const found = sidecar?.(location);
  if (!found && absent) return absent(expectedBytes, subject);
  if (!found)
    throw refusal(
      file,
      `no ${JSON.stringify(location)} beside it`,
      "the file that holds its weights",
      `put ${location} into the same folder`,
      "file",
    );
  const bytes = toSource(found);
  const offset = wholeNumber(entries, "offset", subject) ?? 0;
  const length = wholeNumber(entries, "length", subject) ?? bytes.length - offset;
  if (!(offset + length <= bytes.length) || length !== expectedBytes)
    throw refusal(
      subject,
      `${entries.get("length") ?? length} bytes from byte ${entries.get("offset") ?? 0} of ${location}, which has ${bytes.length}`,
      `${expectedBytes} bytes inside it`,
      "obtain intact copies of both files",
    );
  if (!bytes.loaded) countRead(source, length);
  return bytes.read(offset, offset + length);
}

/** A relative path with forward slashes whose parts all lead down. */
function isInside(location: string): boolean {
  if (location.length > 1024 || /[\\:\0]/.test(location)) return false;
  return location.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

/** A number of bytes. C++ reads `0x10` as 0 or as 16, and Python not at all, so that only decimal digits are one. */
function wholeNumber(
  entries: ReadonlyMap<string, string>,
  key: "offset" | "length",
  subject: string,
): number | undefined {
  const text = entries.get(key);
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw refusal(
    subject,
    `the ${key} ${JSON.stringify(text.slice(0, 40))}${/^0x/i.test(text) ? ", a hexadecimal number" : ""}`,
    "a number of bytes in at most 15 decimal digits",
    "save the model again with the onnx package",
  );
}
