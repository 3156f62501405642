import { type Bytes, toBytes } from "../../core/bytes.js";
import { DTYPES, elementCount, type StateDict, type Tensor } from "../../core/tensor.js";
import {
  dtypeToName,
  type Header,
  MAX_HEADER_BYTES,
  malformed,
  nameToDType,
  parseHeader,
  rankOf,
  serializeHeader,
  type TensorInfo,
  validate,
} from "./safetensors-header.js";

/**
 * The safetensors format (https://github.com/huggingface/safetensors, README, "Format"): the header's length as a
 * little-endian u64, a JSON header padded with spaces, then the tensors' elements, row-major and little-endian.
 *
 * Accepted: all that the official library accepts, with the element types of `dtypes.ts`. Refused: headers over
 * 100 MB, duplicate keys, holes, overlaps, bytes that no tensor has.
 */

/** Bytes of the header's length. */
const LENGTH_BYTES = 8;

/** What a safetensors file has: tensors, and strings about them. */
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

/** The header is padded with spaces so that the data is aligned to its widest elements. */
const ALIGNMENT = 8;

const SPACE = 0x20;

/**
 * The bytes of a safetensors file, the same that the official library writes: tensors by element type, then by name,
 * metadata by key. What order the state dict had cannot be read back.
 *
 * @throws InputError (`format`) if a tensor's data does not fill its shape, or a name cannot be written
 */
export function encodeSafetensors(
  stateDict: StateDict,
  { subject, metadata = new Map() }: { readonly subject: string; readonly metadata?: Header["metadata"] },
): Uint8Array {
  const ordered = [...stateDict].toSorted(
    ([a, { dtype: left }], [b, { dtype: right }]) => rankOf(left) - rankOf(right) || compareText(a, b),
  );
  const { tensors, dataBytes } = layOut(ordered);
  const header = {
    metadata: new Map([...metadata].toSorted(([a], [b]) => compareText(a, b))),
    tensors,
  };
  validate(header, dataBytes, subject);

  const text = new TextEncoder().encode(serializeHeader(header));
  const headerBytes = Math.ceil(text.length / ALIGNMENT) * ALIGNMENT;
  if (headerBytes > MAX_HEADER_BYTES)
    throw malformed(subject, `a header of ${headerBytes} bytes`, `at most ${MAX_HEADER_BYTES}`);
  const bytes = new Uint8Array(LENGTH_BYTES + headerBytes + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.set(text, LENGTH_BYTES);
  bytes.fill(SPACE, LENGTH_BYTES + text.length, LENGTH_BYTES + headerBytes);
  let position = LENGTH_BYTES + headerBytes;
  for (const [, { data }] of ordered) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), position);
    position += data.byteLength;
  }
  return bytes;
}

/** One tensor after the other. */
function layOut(ordered: readonly (readonly [string, Tensor])[]): {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly dataBytes: number;
} {
  let position = 0;
  const tensors = new Map<string, TensorInfo>();
  for (const [name, { dtype, shape, data }] of ordered) {
    const end = position + data.byteLength;
    tensors.set(name, { dtype: dtypeToName(dtype), shape, dataOffsets: [position, end] });
    position = end;
  }
  return { tensors, dataBytes: position };
}

/** By code point, which is the order of UTF-8's bytes and not that of UTF-16's units. */
function compareText(a: string, b: string): number {
  for (let index = 0; index < a.length && index < b.length; index++) {
    const [left, right] = [a.charCodeAt(index), b.charCodeAt(index)];
    if (left !== right) return byCodePoint(left) - byCodePoint(right);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above all that one unit holds, and are themselves below U+E000. */
function byCodePoint(unit: number): number {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}
