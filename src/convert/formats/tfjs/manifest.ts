/**
 * The weights manifest of `model.json`: groups of weights, each stored one after the other in the concatenation of the
 * group's files. A file is called a shard; a tensor may begin in one and end in the next.
 */
import { DTYPES, elementCount, formatShape, type Tensor } from "../../../tensor.js";
import type { AbsentBytes } from "../absent.js";
import { asInteger, asNumber, asString, elements, type JsonObject, type Located, member } from "./json.js";
import type { TfjsDType, TfjsModel, TfjsQuantization, TfjsWeight } from "./model.js";
import { bytesOf, dequantize, isQuantizable, QUANTIZED_BYTES, quantize } from "./quantization.js";
import { refusal } from "./refusal.js";
import { expectSafePath, joinShards, SHARD_BYTES, splitShards } from "./shards.js";

const ELEMENT_BYTES = { float32: 4, int32: 4, bool: 1 } as const satisfies Record<TfjsDType, number>;

/** More elements than any tensor of a network that a browser could load: 8 GB of float32. */
const MAX_ELEMENTS = 2 ** 31;

/** Writes one group of all weights, in files of 4 MiB that browsers cache. */
export function encodeManifest(weights: ReadonlyMap<string, TfjsWeight>): {
  readonly manifest: readonly JsonObject[];
  readonly shards: ReadonlyMap<string, Uint8Array>;
} {
  const shards = splitShards([...weights.values()].map(storedBytes), SHARD_BYTES);
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
 * The weight files that a manifest names, in order.
 *
 * @throws InputError (`format`) if one lies outside the model's folder, or is named twice
 */
export function manifestPaths(manifest: Located): readonly string[] {
  const paths = elements(manifest).flatMap((group) => elements(member(group, "paths")));
  const seen = new Set<string>();
  for (const located of paths) {
    const path = asString(located);
    expectSafePath(path, located.at);
    if (seen.has(path)) throw refusal(located.at, `${JSON.stringify(path)} a second time`, "each file once");
    seen.add(path);
  }
  return [...seen];
}

/**
 * Reads all weights.
 *
 * @param shards the files that `manifestPaths` names
 * @param absent what stands for the weights in files that are missing
 * @throws InputError (`format`, `unsupported`) if a file is missing, or their sizes are not those of the weights
 */
export function decodeManifest(
  manifest: Located,
  shards: ReadonlyMap<string, Uint8Array>,
  absent?: AbsentBytes,
): Pick<TfjsModel, "weights" | "missing"> {
  const missing = manifestPaths(manifest).filter((path) => !shards.has(path));
  const weights = new Map<string, TfjsWeight>();
  for (const group of elements(manifest)) {
    const specs = elements(member(group, "weights")).map(decodeSpec);
    const paths = elements(member(group, "paths")).map(asString);
    const expected = specs.reduce((sum, { size }) => sum + size, 0);
    const slice = joinShards(paths, shards, { expected, mayMiss: absent !== undefined }, group.at);
    let offset = 0;
    for (const { name, size, at, read, zeros } of specs) {
      if (weights.has(name)) throw refusal(at, `a second weight ${JSON.stringify(name)}`, "each name once");
      const bytes = slice(offset, offset + size);
      if (bytes) weights.set(name, read(bytes));
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
    throw refusal(at, `shape ${formatShape(shape)}`, "dimensions that a weight can have");
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
    // Copied, because a tensor may begin at any byte of the file; not by slice(), which of a Node Buffer shares memory.
    read: (bytes) => ({ tensor: plainTensor(new Uint8Array(bytes), shape, dtype) }),
  };
}

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
    "use a model of plain numbers",
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
