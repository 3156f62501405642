import { isDeepStrictEqual } from "node:util";
import { crc32 } from "node:zlib";
import { decodePth } from "../../../../src/convert/formats/pth/decode.js";
import { InputError } from "../../../../src/core/errors.js";
import type { StateDict } from "../../../../src/core/tensor.js";
import { inPieces } from "../../../support/pieces.js";

/** Checkpoints built byte by byte: pickles as their opcodes, zip archives header by header, lies included. */

/** Strings are Latin-1: one character for each byte. */
export function bytesOf(...parts: readonly (string | Uint8Array)[]): Uint8Array {
  return joined(parts);
}

function joined(parts: readonly (string | Uint8Array)[]): Uint8Array {
  const pieces = parts.map((part) => (typeof part === "string" ? Buffer.from(part, "latin1") : part));
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** `value` in `size` bytes, little-endian, as Latin-1. */
export function le(value: number, size: number): string {
  let text = "";
  for (let index = 0; index < size; index++)
    text += String.fromCharCode(Math.floor(value / 256 ** index) % 256);
  return text;
}

// Pickle values in protocol 2.

export const str = (text: string): string =>
  `X${le(Buffer.byteLength(text), 4)}${Buffer.from(text).toString("latin1")}`;
export const int = (value: number): string => `J${le(value, 4)}`;
export const tuple = (...items: readonly string[]): string => `(${items.join("")}t`;
export const dict = (entries: Readonly<Record<string, string>>): string =>
  `}(${Object.entries(entries)
    .map(([key, value]) => str(key) + value)
    .join("")}u`;
export const call = (path: string, ...args: readonly string[]): string => `${global(path)}${tuple(...args)}R`;
export const pickle = (value: string): string => `\x80\x02${value}.`;

export function global(path: string): string {
  const dot = path.lastIndexOf(".");
  return `c${path.slice(0, dot)}\n${path.slice(dot + 1)}\n`;
}

export interface TensorShape {
  readonly type?: string;
  readonly key?: string;
  readonly numel?: number;
  readonly offset?: number;
  readonly shape?: readonly number[];
  readonly stride?: readonly number[];
}

/** What torch.save writes for a tensor; by default two floats, the whole of storage 0. */
export function tensor({ type = "Float", key = "0", numel = 2, ...layout }: TensorShape = {}): string {
  const { offset = 0, shape = [2], stride = [1] } = layout;
  const storage = `${tuple(str("storage"), global(`torch.${type}Storage`), str(key), str("cpu"), int(numel))}Q`;
  const sizes = [tuple(...shape.map(int)), tuple(...stride.map(int))];
  return call("torch._utils._rebuild_tensor_v2", storage, int(offset), ...sizes, "\x89", "N");
}

// Containers.

/** An entry, and what its two headers say if not the truth. */
export interface Entry {
  readonly name: string;
  readonly data: string | Uint8Array;
  readonly method?: number;
  readonly size?: number;
  /** Of the data unpacked; what is stored has its own. */
  readonly crc?: number;
  readonly local?: { readonly name?: string; readonly method?: number; readonly size?: number };
  /** Where the directory says it is. */
  readonly offset?: number;
}

/** A zip archive of the entries, stored as they are. */
export function zip(entries: readonly Entry[], comment = ""): Uint8Array {
  const body: (string | Uint8Array)[] = [];
  const directory: string[] = [];
  let length = 0;
  for (const { name, data, method = 0, crc, local = {}, ...entry } of entries) {
    const stored = bytesOf(data);
    const size = entry.size ?? stored.length;
    const offset = entry.offset ?? length;
    const fields = (of: { name?: string; method?: number; size?: number }) =>
      `${le(of.method ?? method, 2)}${le(0, 4)}${le(crc ?? crc32(stored), 4)}${le(stored.length, 4)}${le(of.size ?? size, 4)}${le((of.name ?? name).length, 2)}${le(0, 2)}`;
    const header = `PK\x03\x04${le(20, 2)}${le(0, 2)}${fields(local)}${local.name ?? name}`;
    body.push(header, stored);
    length += header.length + stored.length;
    directory.push(
      `PK\x01\x02${le(20, 2)}${le(20, 2)}${le(0, 2)}${fields({})}${le(0, 10)}${le(offset, 4)}${name}`,
    );
  }
  const count = le(entries.length, 2);
  const end = `PK\x05\x06${le(0, 4)}${count}${count}${le(directory.join("").length, 4)}${le(length, 4)}${le(comment.length, 2)}${comment}`;
  return joined([...body, ...directory, end]);
}

/** A zip container with one pickle and its storages. */
export function checkpoint(
  value: string,
  storages: Readonly<Record<string, string | Uint8Array>> = {},
  extra: Readonly<Record<string, string>> = {},
): Uint8Array {
  const data = Object.entries(storages).map(([key, bytes]) => ({ name: `archive/data/${key}`, data: bytes }));
  const others = Object.entries(extra).map(([name, bytes]) => ({ name: `archive/${name}`, data: bytes }));
  return zip([{ name: "archive/data.pkl", data: pickle(value) }, ...data, ...others]);
}

/** A legacy container: magic number, version, system information, object, keys, storages of floats. */
export function legacy(value: string, storages: Readonly<Record<string, Uint8Array>>): Uint8Array {
  const keys = Object.keys(storages);
  return bytesOf(
    pickle("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"),
    pickle(int(1001)),
    pickle(dict({})),
    pickle(value),
    pickle(`](${keys.map(str).join("")}e`),
    ...Object.values(storages).flatMap((data) => [le(data.length / 4, 8), data]),
  );
}

/** The bytes of float32 numbers. */
export function floats(...values: readonly number[]): Uint8Array {
  return new Uint8Array(new Float32Array(values).buffer);
}

type Plain = Record<string, { dtype: string; shape: readonly number[]; values: (number | bigint)[] }>;

/** The state dict as plain data, the same whether the file is in memory or read in pieces. */
export function decoded(bytes: Uint8Array, key?: string): Plain {
  const options = { subject: "weights.pth", ...(key === undefined ? {} : { key }) };
  const whole = plain(decodePth(bytes, options).stateDict);
  expectSame(plain(decodePth(inPieces(bytes), options).stateDict), whole);
  return whole;
}

function plain(stateDict: StateDict): Plain {
  return Object.fromEntries(
    [...stateDict].map(([name, { dtype, shape, data }]) => [name, { dtype, shape, values: [...data] }]),
  );
}

/** Fuzzing uses this file too, where there is no vitest. */
function expectSame(pieces: unknown, whole: unknown): void {
  if (!isDeepStrictEqual(pieces, whole))
    throw new Error(`read in pieces ${JSON.stringify(pieces)}, in memory ${JSON.stringify(whole)}`);
}

/**
 * The message with which `weights.pth` is refused, the same whether it is in memory or read in pieces. Any other error
 * than an `InputError` fails the test.
 */
export function refusal(bytes: Uint8Array, key?: string): string {
  const options = { subject: "weights.pth", ...(key === undefined ? {} : { key }) };
  const [whole = "", pieces] = [bytes, inPieces(bytes)].map((source) => {
    try {
      decodePth(source, options);
    } catch (error) {
      if (error instanceof InputError) return error.message;
      throw error;
    }
    throw new Error("not refused");
  });
  expectSame(pieces, whole);
  return whole;
}

/** The files of an archive of PyTorch 0.1: two views of one storage. */
export function tarParts(): Readonly<Record<"storages" | "tensors" | "pickle", Uint8Array>> {
  const storages = bytesOf(
    pickle(int(1)),
    pickle(tuple(int(10), str("cpu"), global("torch.FloatStorage"))),
    le(4, 8),
    floats(0, 1, 2, 3),
    pickle(`](${tuple(int(11), int(10), int(1), int(2))}e`),
  );
  const tensors = bytesOf(
    pickle(int(2)),
    ...[10, 11].flatMap((storage) => [
      pickle(tuple(int(storage + 10), int(storage), global("torch.FloatTensor"))),
      le(1, 8) + le(2, 8) + le(1, 8) + le(0, 8),
    ]),
  );
  return { storages, tensors, pickle: bytesOf(pickle(dict({ first: `${str("20")}Q`, view: "P21\n" }))) };
}

/** A file in a tar archive, with its header. */
export function tarFile(
  name: string,
  data: Uint8Array,
  { type = "0", magic = "ustar" }: { readonly type?: string; readonly magic?: string } = {},
): Uint8Array {
  const header = new Uint8Array(512);
  const write = (text: string, at: number) => header.set(bytesOf(text), at);
  write(name, 0);
  write(`${data.length.toString(8).padStart(11, "0")} `, 124);
  write(`        ${type}`, 148);
  write(magic, 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return bytesOf(header, data, new Uint8Array((512 - (data.length % 512)) % 512));
}
