import { bytesOf, concatenate } from "../../../core/bytes.js";
import { filled } from "../../../core/functions.js";
import { DTYPES, elementCount, formatShape, type Tensor } from "../../../core/tensor.js";
import { castFloat, isDType, toFloat32 } from "../../../core/tensor-cast.js";
import type { AbsentBytes } from "../refusals.js";
import {
  asInteger,
  asNumber,
  asString,
  elements,
  type JsonObject,
  type Located,
  member,
  members,
  refusal,
} from "./json.js";
import type { QuantizedDType, TfjsDType, TfjsModel, TfjsQuantization, TfjsWeight } from "./model.js";

/**
 * Quantised weights, as defined by tensorflowjs's `write_weights.py` and `quantization.py`: binary16, or per tensor
 * `value = stored · scale + min` in 8 or 16 bits. Zero is stored exactly if the range contains it.
 */

const QUANTIZED_BYTES: Readonly<Record<QuantizedDType, number>> = { float16: 2, uint16: 2, uint8: 1 };

/** The affine map from a tensor's range to all stored values of a type. */
export function chooseQuantization(tensor: Tensor<"float32">, dtype: QuantizedDType): TfjsQuantization {
  if (dtype === "float16") return { dtype };
  let [min, max] = [Infinity, -Infinity];
  for (const value of tensor.data) {
    min = Math.min(min, value);
    max = Math.max(max, value);
  }
  if (tensor.data.length === 0 || min === max) return { dtype, min: tensor.data[0] ?? 0, scale: 1 };
  const scale = (max - min) / (2 ** (8 * QUANTIZED_BYTES[dtype]) - 1);
  // Moves the range by less than half a step, so that one of the steps is zero.
  return { dtype, scale, min: min <= 0 && max >= 0 ? -Math.round(-min / scale) * scale : min };
}

/** The stored bytes of a tensor. */
export function quantize(tensor: Tensor<"float32">, stored: TfjsQuantization): Uint8Array {
  if (stored.dtype === "float16") return bytesOf(castFloat(tensor, "float16", "weight").data);
  const { min, scale, dtype } = stored;
  const largest = 2 ** (8 * QUANTIZED_BYTES[dtype]) - 1;
  const target = new (dtype === "uint8" ? Uint8Array : Uint16Array)(tensor.data.length);
  for (let index = 0; index < target.length; index++)
    target[index] = Math.min(largest, Math.max(0, Math.round(((tensor.data[index] ?? 0) - min) / scale)));
  return bytesOf(target);
}

/** The dequantised tensor: computed in float64, rounded once, as in tfjs. */
export function dequantize(
  bytes: Uint8Array,
  shape: readonly number[],
  dtype: TfjsDType,
  stored: TfjsQuantization,
): Tensor<TfjsDType> {
  const length = elementCount(shape);
  if (stored.dtype === "float16") {
    const data = halfWords(bytes, length);
    return toFloat32({ dtype: "float16", shape, data }, "weight");
  }
  const { min, scale } = stored;
  const values = stored.dtype === "uint8" ? bytes : halfWords(bytes, length);
  const numberAt = (index: number): number => (values[index] as number) * scale + min;
  if (dtype === "int32")
    return { dtype, shape, data: filled(new Int32Array(length), (index) => Math.round(numberAt(index))) };
  return { dtype: "float32", shape, data: filled(new Float32Array(length), numberAt) };
}

/** Copied, because a tensor may begin at any byte; not by slice(), which shares memory in a Node Buffer. */
function halfWords(bytes: Uint8Array, length: number): Uint16Array {
  return new Uint16Array(new Uint8Array(bytes).buffer, 0, length);
}

/** The tensor as stored in a file: the numbers after dequantisation. */
export function roundToStored(tensor: Tensor<"float32">, stored: TfjsQuantization): Tensor<"float32"> {
  return dequantize(quantize(tensor, stored), tensor.shape, "float32", stored) as Tensor<"float32">;
}

/** Whether a tensor can be quantised: only float32, as in tfjs. */
function isQuantizable(tensor: Tensor): tensor is Tensor<"float32"> {
  return isDType(tensor, "float32");
}

/** The bytes of a typed array, little-endian wherever JavaScript runs. */
/**
 * The weights manifest of `model.json`: groups of weights, stored consecutively in the concatenation of the group's
 * files. A file is called a shard; a tensor may begin in one and end in the next.
 */

const ELEMENT_BYTES = { float32: 4, int32: 4, bool: 1 } as const satisfies Record<TfjsDType, number>;

/** More elements than any tensor of a network that a browser could load: 8 GB of float32. */
const MAX_ELEMENTS = 2 ** 31;

/** Writes one group of all weights, in files of 4 MiB that browsers cache. */
export function encodeManifest(
  weights: ReadonlyMap<string, TfjsWeight>,
  nameShard: (usual: string, data: Uint8Array) => string,
): {
  readonly manifest: readonly JsonObject[];
  readonly shards: ReadonlyMap<string, Uint8Array>;
} {
  const usual = splitShards([...weights.values()].map(storedBytes), SHARD_BYTES);
  const shards = new Map([...usual].map(([name, data]) => [nameShard(name, data), data]));
  const specs = Array.from(weights, ([name, { tensor, stored }]): JsonObject => {
    const { shape, dtype } = tensor;
    return { name, shape, dtype, ...(stored ? { quantization: { ...stored, original_dtype: dtype } } : {}) };
  });
  return { manifest: [{ paths: [...shards.keys()], weights: specs }], shards };
}

function storedBytes({ tensor, stored }: TfjsWeight): Uint8Array {
  return stored && isQuantizable(tensor) ? quantize(tensor, stored) : bytesOf(tensor.data);
}

/**
 * The weight files in a manifest, in order.
 *
 * @throws InputError (`format`) if one is outside the model's folder, or listed twice
 */
export function manifestPaths(manifest: Located): readonly string[] {
  const paths = elements(manifest).flatMap((group) => elements(member(group, "paths")));
  const seen = new Set<string>();
  for (const located of paths) {
    const path = shardPath(located);
    if (seen.has(path)) throw refusal(located.at, `${JSON.stringify(path)} a second time`, "each file once");
    seen.add(path);
  }
  return [...seen];
}

/**
 * Reads all weights.
 *
 * @param shards the files listed by `manifestPaths`
 * @param absent supplies the weights of missing files
 * @throws InputError (`format`, `unsupported`) if a file is missing, or the sizes do not match the weights
 */
export function decodeManifest(
  manifest: Located,
  shards: ReadonlyMap<string, Uint8Array>,
  absent?: AbsentBytes,
): Pick<TfjsModel, "weights" | "missing"> {
  const files = manifestPaths(manifest);
  const missing = files.filter((path) => !shards.has(path));
  const weights = new Map<string, TfjsWeight>();
  for (const group of elements(manifest)) {
    const specs = elements(member(group, "weights")).map(decodeSpec);
    const paths = elements(member(group, "paths")).map(shardPath);
    const expected = specs.reduce((sum, { size }) => sum + size, 0);
    const slice = joinShards(paths, shards, { expected, mayMiss: absent !== undefined }, group.at);
    let offset = 0;
    for (const { name, size, at, read, zeros } of specs) {
      if (weights.has(name)) throw refusal(at, `a second weight ${JSON.stringify(name)}`, "each name once");
      const bytes = slice(offset, offset + size);
      const parts = files.length > 1 ? { files: filesOf(paths, shards, offset, offset + size) } : {};
      if (bytes) weights.set(name, { ...read(bytes), ...parts });
      else if (absent) weights.set(name, zeros(absent));
      offset += size;
    }
  }
  return { weights, ...(missing.length > 0 ? { missing } : {}) };
}

interface WeightSpec {
  readonly name: string;
  readonly at: string;
  /** Bytes in the file. */
  readonly size: number;
  readonly read: (bytes: Uint8Array) => TfjsWeight;
  readonly zeros: (absent: AbsentBytes) => TfjsWeight;
}

function decodeSpec(located: Located): WeightSpec {
  const name = asString(member(located, "name"));
  const at = `${located.at} (${name.slice(0, 80)})`;
  const dtype = decodeDType(member(located, "dtype"));
  const shape = elements(member(located, "shape")).map(asInteger);
  const count = elementCount(shape);
  if (shape.some((dimension) => dimension < 0) || count > MAX_ELEMENTS)
    throw refusal(at, `shape ${formatShape(shape)}`, "valid dimensions");
  expectKnown(located, at);
  const stored = decodeQuantization(member(located, "quantization"), dtype);
  const zeros = (absent: AbsentBytes): TfjsWeight => ({
    tensor: plainTensor(absent(count * ELEMENT_BYTES[dtype], at), shape, dtype),
    ...(stored ? { stored } : {}),
  });
  if (stored)
    return {
      name,
      at,
      zeros,
      size: count * QUANTIZED_BYTES[stored.dtype],
      read: (bytes) => ({ tensor: dequantize(bytes, shape, dtype, stored), stored }),
    };
  return {
    name,
    at,
    zeros,
    size: count * ELEMENT_BYTES[dtype],
    // Copied, because a tensor may begin at any byte of the file; not by slice(), which shares memory in a Node Buffer.
    read: (bytes) => ({ tensor: plainTensor(new Uint8Array(bytes), shape, dtype) }),
  };
}

/**
 * tfjs's layers models leave out the group `optimizer`, which its graph models treat as constants.
 *
 * @throws InputError (`unsupported`) if a weight is of that group, or has members that may mean something to tfjs
 */
function expectKnown(located: Located, at: string): void {
  const unknown = members(located).find(([key, { value }]) =>
    key === "group" ? value !== "model" : !SPEC_KEYS.has(key),
  );
  if (!unknown) return;
  const [key, { value }] = unknown;
  throw refusal(
    at,
    `${key} ${JSON.stringify(value).slice(0, 60)}`,
    "a weight of the model, with a name, shape, dtype and quantization",
    "save the model without its optimizer",
    "unsupported",
  );
}

const SPEC_KEYS: ReadonlySet<string> = new Set(["name", "shape", "dtype", "quantization"]);

function plainTensor(bytes: Uint8Array, shape: readonly number[], dtype: TfjsDType): Tensor<TfjsDType> {
  const { buffer, byteOffset } = bytes;
  const data = new DTYPES[dtype](buffer as ArrayBuffer, byteOffset, elementCount(shape));
  return { dtype, shape, data } as Tensor<TfjsDType>;
}

function decodeDType(located: Located): TfjsDType {
  const dtype = asString(located);
  if (Object.hasOwn(ELEMENT_BYTES, dtype)) return dtype as TfjsDType;
  throw refusal(
    located.at,
    JSON.stringify(dtype.slice(0, 60)),
    "float32, int32 or bool",
    "use a model with plain weights",
    "unsupported",
  );
}

function decodeQuantization(located: Located, dtype: TfjsDType): TfjsQuantization | undefined {
  if (located.value === undefined) return undefined;
  const stored = asString(member(located, "dtype"));
  if (stored === "float16" && dtype === "float32") return { dtype: stored };
  if ((stored === "uint8" || stored === "uint16") && dtype !== "bool")
    return {
      dtype: stored,
      min: asNumber(member(located, "min")),
      scale: asNumber(member(located, "scale")),
    };
  throw refusal(
    located.at,
    `${JSON.stringify(stored.slice(0, 60))} for ${dtype}`,
    "float16, uint16 or uint8 for float32, uint16 or uint8 for int32",
    "convert the model again",
    "unsupported",
  );
}

/** tensorflowjs's shard size, which browsers still cache. */
const SHARD_BYTES: number = 4 * 2 ** 20;

/** Splits a sequence of byte strings into files of `size` bytes, `group1-shard1of2.bin` and so on; at least one. */
export function splitShards(parts: readonly Uint8Array[], size: number): ReadonlyMap<string, Uint8Array> {
  const all = concatenate(parts);
  const count = Math.max(1, Math.ceil(all.length / size));
  return new Map(
    Array.from({ length: count }, (_, index) => [
      `group1-shard${index + 1}of${count}.bin`,
      all.subarray(index * size, (index + 1) * size),
    ]),
  );
}

/** Those of a group's files that have bytes of a range; all of them are there. */
function filesOf(
  paths: readonly string[],
  shards: ReadonlyMap<string, Uint8Array>,
  start: number,
  end: number,
): readonly string[] {
  let from = 0;
  return paths.filter((path) => {
    const before = from;
    from += shards.get(path)?.length ?? 0;
    return before < end && from > start;
  });
}

/** The expected size of a group's files. */
interface GroupSize {
  /** Bytes in all. */
  readonly expected: number;
  /** Whether files may be missing. */
  readonly mayMiss: boolean;
}

/**
 * Gives ranges of the concatenation of a group's files; undefined for a range in a missing file. The length of missing
 * files is unknown, so only ranges before the first and after the last of them are available.
 *
 * @throws InputError (`format`) if a required file is missing, or the files do not have the expected total size
 */
function joinShards(
  paths: readonly string[],
  shards: ReadonlyMap<string, Uint8Array>,
  { expected, mayMiss }: GroupSize,
  at: string,
): (start: number, end: number) => Uint8Array | undefined {
  const parts = paths.map((path) => shards.get(path));
  const [first, last] = [parts.indexOf(undefined), parts.lastIndexOf(undefined)];
  if (first >= 0 && !mayMiss)
    throw refusal(
      at,
      `no file ${JSON.stringify(paths[first])}`,
      `all of ${paths.length} weight files`,
      "copy the model's whole folder",
    );
  const total = parts.reduce((sum, part) => sum + (part?.length ?? 0), 0);
  if (first >= 0 ? total > expected : total !== expected)
    throw refusal(
      at,
      `${total} bytes in ${paths.length === 1 ? "its file" : `its ${paths.length} files`}`,
      `${expected} bytes, the size of its weights`,
      "copy the model's whole folder, in binary",
    );
  const present = parts.map((part) => part ?? new Uint8Array());
  if (first < 0) {
    const all = concatenate(present);
    return (start, end) => all.subarray(start, end);
  }
  const [head, tail] = [concatenate(present.slice(0, first)), concatenate(present.slice(last + 1))];
  const tailStart = expected - tail.length;
  return (start, end) => {
    if (end <= head.length) return head.subarray(start, end);
    return start >= tailStart ? tail.subarray(start - tailStart, end - tailStart) : undefined;
  };
}

/**
 * A shard's path, which is relative to `model.json` and stays beside or below it, on every system: no `..`, no absolute path,
 * no drive, no URL, no backslash. As a URL it means the same file: no `#`, no `%`, and no blanks at its ends.
 *
 * @throws InputError (`format`) if it does not
 */
function shardPath(located: Located): string {
  // tfjs writes `./model.weights.bin` when a browser saves a model.
  const path = asString(located).replace(/^\.\//, "");
  // Control characters do not belong in a name, and a NUL ends one early in some systems.
  const plain = [...path].every((character) => character >= " " && !'\\:<>"|?*#%'.includes(character));
  const segments = path.split("/");
  const leadDown = segments.every((segment) => segment !== "" && segment !== "." && segment !== "..");
  if (plain && leadDown && path.length <= MAX_PATH && path === path.trim()) return path;
  throw refusal(
    located.at,
    JSON.stringify(path.slice(0, 100)),
    "the path of a file in the model's folder",
    "do not use a model that reads files outside its folder",
  );
}

/** The longest name of file systems. */
const MAX_PATH = 1024;
