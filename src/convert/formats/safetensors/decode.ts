/**
 * The safetensors format (https://github.com/huggingface/safetensors, README, "Format"): the header's length as a
 * little-endian u64, a JSON header padded with spaces, then the tensors' elements, row-major and little-endian.
 *
 * Accepted: all that the official library accepts, with the element types of `dtypes.ts`. Refused: headers over
 * 100 MB, duplicate keys, holes, overlaps, bytes that no tensor has.
 */
import { type Bytes, toBytes } from "../../../byte-source.js";
import type { StateDict } from "../../../state-dict.js";
import { DTYPES, elementCount, type Tensor } from "../../../tensor.js";
import { nameToDType } from "./dtypes.js";
import { parseHeader, type TensorInfo } from "./header.js";
import { malformed } from "./refusals.js";
import { MAX_HEADER_BYTES, validate } from "./validate.js";

/** Bytes of the header's length. */
export const LENGTH_BYTES = 8;

export interface DecodedSafetensors {
  /** Tensors in the order of their data, which is not the network's; views over the bytes where aligned. */
  readonly stateDict: StateDict;
  /** What the file says of itself, such as `format`: `pt`. */
  readonly metadata: ReadonlyMap<string, string>;
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads a safetensors file.
 *
 * @param subject what messages call it, usually the file's name
 * @throws InputError `format` if a rule of the format is broken, `unsupported` for an element type not read here
 */
export function decodeSafetensors(file: Bytes, subject: string): DecodedSafetensors {
  const bytes = toBytes(file);
  const start = LENGTH_BYTES + headerLength(bytes, subject);
  const header = parseHeader(decodeText(bytes.subarray(LENGTH_BYTES, start), subject), subject);
  const data = bytes.subarray(start);
  validate(header, data.length, subject);
  const ordered = [...header.tensors].toSorted(([, a], [, b]) => a.dataOffsets[0] - b.dataOffsets[0]);
  return {
    stateDict: new Map(ordered.map(([name, info]) => [name, readTensor(data, info)])),
    metadata: header.metadata,
  };
}

function headerLength(bytes: Uint8Array, subject: string): number {
  if (bytes.length < LENGTH_BYTES)
    throw malformed(subject, `${bytes.length} bytes`, `at least the ${LENGTH_BYTES} of the header's length`);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES)
    throw malformed(subject, `a header of ${length} bytes`, `at most ${MAX_HEADER_BYTES}`);
  const available = bytes.length - LENGTH_BYTES;
  if (length > available)
    throw malformed(subject, `a header of ${length} bytes`, `one within the ${available} that follow`);
  return Number(length);
}

function decodeText(bytes: Uint8Array, subject: string): string {
  try {
    return UTF8.decode(bytes);
  } catch (cause) {
    throw malformed(subject, "a header that is not UTF-8", "UTF-8", cause);
  }
}

/** Validated before: the type is known, and the bytes are there and as many as the shape takes. */
function readTensor(data: Uint8Array, { dtype: name, shape, dataOffsets: [begin, end] }: TensorInfo): Tensor {
  const dtype = nameToDType(name) ?? "uint8";
  const array = DTYPES[dtype];
  const raw = data.subarray(begin, end);
  // A Node Buffer's slice() shares memory where a Uint8Array's copies.
  const aligned = raw.byteOffset % array.BYTES_PER_ELEMENT === 0 ? raw : new Uint8Array(raw);
  return { dtype, shape, data: new array(aligned.buffer, aligned.byteOffset, elementCount(shape)) };
}
