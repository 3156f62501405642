import { type Bytes, bytesOf, toBytes } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import {
  DTYPES,
  type DType,
  elementCount,
  formatShape,
  type StateDict,
  type Tensor,
} from "../../core/tensor.js";
import { quote } from "./refusals.js";

/**
 * The safetensors format (https://github.com/huggingface/safetensors, README, "Format"): the header's length as a
 * little-endian u64, a JSON header padded with spaces, then the tensors' elements, row-major and little-endian.
 *
 * Accepted: everything that the official library accepts, with the element types of `NAMES`. Refused: headers over 100
 * MB, duplicate keys, gaps, overlaps, unused bytes.
 */

/** Bytes of the header's length. */
const LENGTH_BYTES = 8;

/** The content of a safetensors file: tensors and metadata. */
export interface DecodedSafetensors {
  /** Tensors in the order of their data, which is not the network's; views over the bytes where aligned. */
  readonly stateDict: StateDict;
  /** The file's metadata, such as `format`: `pt`. */
  readonly metadata: ReadonlyMap<string, string>;
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads a safetensors file.
 *
 * @param subject name of the file in messages
 * @throws InputError `format` if a rule of the format is broken, `unsupported` for an unsupported element type
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
    throw malformed(subject, `a header of ${length} bytes`, `at most the ${available} that follow`);
  return Number(length);
}

function decodeText(bytes: Uint8Array, subject: string): string {
  try {
    return UTF8.decode(bytes);
  } catch (cause) {
    throw malformed(subject, "a header that is not UTF-8", "UTF-8", cause);
  }
}

/** Checked before: the type is supported, and the number of bytes matches the shape. */
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
 * The bytes of a safetensors file, identical to the official library's: tensors by element type, then by name, metadata
 * by key. The state dict's order is lost.
 *
 * @throws InputError (`format`) if a tensor's data does not match its shape, or a name cannot be written
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
    bytes.set(bytesOf(data), position);
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

/** By code point, which is the order of UTF-8 bytes but not of UTF-16 units. */
function compareText(a: string, b: string): number {
  for (let index = 0; index < a.length && index < b.length; index++) {
    const [left, right] = [a.charCodeAt(index), b.charCodeAt(index)];
    if (left !== right) return byCodePoint(left) - byCodePoint(right);
  }
  return a.length - b.length;
}

/** Surrogates represent code points above those of single units, although their own values are below U+E000. */
function byCodePoint(unit: number): number {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}

/**
 * The format's names of element types, in its canonical order: a file's tensors are ordered in the same way, so that
 * wide elements come first and every tensor is aligned (safetensors/src/tensor.rs, `enum Dtype`, descending).
 */
const NAMES = {
  int64: "I64",
  float64: "F64",
  float32: "F32",
  int32: "I32",
  bfloat16: "BF16",
  float16: "F16",
  int16: "I16",
  int8: "I8",
  uint8: "U8",
  bool: "BOOL",
} as const satisfies Record<DType, string>;

const BY_NAME: ReadonlyMap<string, DType> = new Map(
  (Object.keys(NAMES) as DType[]).map((dtype) => [NAMES[dtype], dtype]),
);

const RANKS: ReadonlyMap<DType, number> = new Map([...BY_NAME.values()].map((dtype, rank) => [dtype, rank]));

/** An element type's name in a file. */
function dtypeToName(dtype: DType): string {
  return NAMES[dtype];
}

/** The element type of a name, or undefined: 8-bit and 4-bit floats, wide unsigned and complex numbers. */
function nameToDType(name: string): DType | undefined {
  return BY_NAME.get(name);
}

/** An element type's place in the canonical order. */
function rankOf(dtype: DType): number {
  return RANKS.get(dtype) ?? 0;
}

/** Bytes, or tensors to be written, that break the format's rules: code `format`. */
function malformed(subject: string, found: string, expected: string, cause?: unknown): InputError {
  const remedy = "download or copy the file again, or save it with the safetensors library";
  return new InputError({ code: "format", subject, found, expected, remedy }, { cause });
}

/** A valid file with an unsupported element type: code `unsupported`. */
function unsupported(subject: string, found: string): InputError {
  const expected = "elements of a type used for training";
  const remedy = "save the weights again in float32";
  return new InputError({ code: "unsupported", subject, found, expected, remedy });
}

/**
 * A position in JSON text that reads what the caller expects next (RFC 8259), and refuses everything else with its
 * position. It supports only what headers contain: objects without duplicate keys, strings, and arrays of integers.
 */
class JsonCursor {
  readonly #text: string;
  readonly #subject: string;
  #offset = 0;

  constructor(text: string, subject: string) {
    this.#text = text;
    this.#subject = subject;
  }

  /** Reads an object; `readValue` must read the value of each key. `what` names the object in messages. */
  object(what: string, readValue: (key: string) => void): void {
    const keys = new Set<string>();
    this.#expect("{", "an object");
    if (this.#skip("}")) return;
    do {
      const key = this.string();
      if (keys.has(key)) throw malformed(this.#subject, `two keys ${quote(key)} in ${what}`, "one");
      keys.add(key);
      this.#expect(":", '":"');
      readValue(key);
    } while (this.#skip(","));
    this.#expect("}", '"," or "}"');
  }

  string(): string {
    this.#expect('"', "a string");
    const start = this.#offset - 1;
    for (let end = this.#offset; end < this.#text.length; end++) {
      const character = this.#text[end];
      if (character === "\\") end++;
      else if (character === '"') {
        this.#offset = end + 1;
        return this.#unescape(start);
      }
    }
    throw malformed(this.#subject, `an unterminated string at character ${start} of the header`, "JSON");
  }

  /** An array of at most `most` non-negative integers. */
  integers(most: number): readonly number[] {
    const values: number[] = [];
    this.#expect("[", "an array");
    if (this.#skip("]")) return values;
    do {
      if (values.length === most) throw this.#unexpected(`at most ${most} numbers`);
      values.push(this.#integer());
    } while (this.#skip(","));
    this.#expect("]", '"," or "]"');
    return values;
  }

  /** Only white space may follow. */
  end(): void {
    this.#skipSpace();
    if (this.#offset < this.#text.length)
      throw this.#unexpected("nothing but spaces after the header's object");
  }

  #integer(): number {
    this.#skipSpace();
    const start = this.#offset;
    let end = start;
    // No offset or dimension that a file can have is longer than 16 digits.
    while (end - start < 17 && isDigit(this.#text.charCodeAt(end))) end++;
    const digits = this.#text.slice(start, end);
    const value = Number(digits);
    if (digits === "" || (digits.length > 1 && digits.startsWith("0")) || !Number.isSafeInteger(value))
      throw this.#unexpected("a whole number from 0 to 2^53");
    this.#offset = end;
    return value;
  }

  #unescape(start: number): string {
    try {
      return JSON.parse(this.#text.slice(start, this.#offset)) as string;
    } catch (cause) {
      throw malformed(this.#subject, `a malformed string at character ${start} of the header`, "JSON", cause);
    }
  }

  #expect(character: string, what: string): void {
    if (!this.#skip(character)) throw this.#unexpected(what);
  }

  #skip(character: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#offset] !== character) return false;
    this.#offset++;
    return true;
  }

  #skipSpace(): void {
    while (" \t\n\r".includes(this.#text[this.#offset] ?? "end")) this.#offset++;
  }

  #unexpected(expected: string): Error {
    const next = this.#text[this.#offset];
    const found = next === undefined ? "the end" : quote(next);
    return malformed(this.#subject, `${found} at character ${this.#offset} of the header`, expected);
  }
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/**
 * The header's JSON: one object of tensor names, each with `dtype`, `shape` and `data_offsets`, and `__metadata__`, an
 * object of strings. JSON.parse is not used because it silently keeps the last of duplicate keys, and builds whatever a
 * hostile header asks for before it can be checked.
 */

/** The header's description of one tensor; offsets count from the end of the header. */
interface TensorInfo {
  /** The format's name of the element type, known or not. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly dataOffsets: readonly [begin: number, end: number];
}

interface Header {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

/** The only key that is not a tensor's name. */
const METADATA_KEY = "__metadata__";

/** Ten times the tensors of any published file (large models are sharded); bounds what a header can allocate. */
const MAX_TENSORS = 100_000;

/** Published files have a handful; millions would take minutes and gigabytes. */
const MAX_METADATA = 10_000;

/** numpy's limit; PyTorch has the same. */
const MAX_RANK = 64;

const FIELDS = ["dtype", "shape", "data_offsets"] as const;

/** @throws InputError (`format`) naming the byte or the tensor */
function parseHeader(text: string, subject: string): Header {
  const json = new JsonCursor(text, subject);
  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorInfo>();
  json.object("the header", (name) => {
    if (name === METADATA_KEY) {
      json.object(METADATA_KEY, (key) => {
        if (metadata.size === MAX_METADATA)
          throw malformed(subject, `more than ${MAX_METADATA} keys in ${METADATA_KEY}`, "fewer");
        metadata.set(key, json.string());
      });
      return;
    }
    if (tensors.size === MAX_TENSORS) throw malformed(subject, `more than ${MAX_TENSORS} tensors`, "fewer");
    tensors.set(name, parseTensorInfo(json, name, subject));
  });
  json.end();
  return { metadata, tensors };
}

/** The fields may be in any order, each exactly once, without others. */
function parseTensorInfo(json: JsonCursor, name: string, subject: string): TensorInfo {
  const tensor = `tensor ${quote(name)}`;
  let dtype: string | undefined;
  let shape: readonly number[] | undefined;
  let offsets: readonly number[] | undefined;
  json.object(tensor, (field) => {
    if (field === "dtype") dtype = json.string();
    else if (field === "shape") shape = json.integers(MAX_RANK);
    else if (field === "data_offsets") offsets = json.integers(2);
    else throw malformed(subject, `${tensor} with a field ${quote(field)}`, FIELDS.join(", "));
  });
  const [begin, end] = offsets ?? [];
  if (dtype === undefined || shape === undefined || begin === undefined || end === undefined)
    throw malformed(subject, `${tensor} with an incomplete description`, FIELDS.join(", "));
  return { dtype, shape, dataOffsets: [begin, end] };
}

/** The header's text, in the order of the maps, as the official library writes it: no spaces, metadata first. */
function serializeHeader({ metadata, tensors }: Header): string {
  const entries = [...tensors].map(
    ([name, { dtype, shape, dataOffsets }]) =>
      `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: dataOffsets })}`,
  );
  const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  const first = pairs.length > 0 ? [`${JSON.stringify(METADATA_KEY)}:{${pairs.join(",")}}`] : [];
  return `{${[...first, ...entries].join(",")}}`;
}

/** The official library's limit (safetensors/src/tensor.rs): a hostile header must not make the reader parse gigabytes. */
const MAX_HEADER_BYTES = 100_000_000;

/**
 * The rules for a file, on reading and writing: each tensor's bytes match its shape and type, tensors are contiguous
 * without overlaps, and together they are all of the data.
 *
 * @param dataBytes the bytes after the header
 * @throws InputError (`format`) naming the tensor, `unsupported` for an element type that PyTorch's OSNets do not have
 */
function validate({ metadata, tensors }: Header, dataBytes: number, subject: string): void {
  if (tensors.size > MAX_TENSORS)
    throw malformed(subject, `${tensors.size} tensors`, `at most ${MAX_TENSORS}`);
  if (metadata.size > MAX_METADATA)
    throw malformed(subject, `${metadata.size} keys in ${METADATA_KEY}`, `at most ${MAX_METADATA}`);
  let position = 0;
  const ordered = [...tensors].toSorted(
    ([, { dataOffsets: a }], [, { dataOffsets: b }]) => a[0] - b[0] || a[1] - b[1],
  );
  for (const [name, { dtype, shape, dataOffsets }] of ordered) {
    const tensor = `tensor ${quote(name)}`;
    const [begin, end] = dataOffsets;
    const size = elementSize(dtype, tensor, subject);
    if (begin !== position || end < begin)
      throw malformed(
        subject,
        `${tensor} at bytes ${begin} to ${end} of the data`,
        `it to begin at byte ${position}, where the previous tensor ends`,
      );
    const needed = elementCount(shape) * size;
    if (end - begin !== needed)
      throw malformed(
        subject,
        `${tensor} in ${end - begin} bytes`,
        `the ${needed} that ${dtype} ${formatShape(shape)} takes`,
      );
    position = end;
  }
  if (position !== dataBytes)
    throw malformed(subject, `${dataBytes} bytes of data`, `the ${position} that the header describes`);
  const names = [...tensors.keys(), ...metadata.keys(), ...metadata.values()];
  const broken = names.find((name) => LONE_SURROGATE.test(name));
  if (broken !== undefined)
    throw malformed(
      subject,
      `the name ${quote(broken)}, which is not Unicode`,
      "text that can be encoded as UTF-8",
    );
  if (tensors.has(METADATA_KEY)) throw malformed(subject, `a tensor called ${METADATA_KEY}`, "another name");
}

/** Half of a pair that UTF-16 uses for one character. */
const LONE_SURROGATE = /\p{Surrogate}/u;

function elementSize(name: string, tensor: string, subject: string): number {
  const dtype = nameToDType(name);
  if (dtype !== undefined) return DTYPES[dtype].BYTES_PER_ELEMENT;
  throw unsupported(subject, `${tensor} of type ${quote(name)}`);
}
