import { bytesOf } from "../../../core/bytes.js";
import {
  type DType,
  elementCount,
  formatShape,
  type Shape,
  type StateDict,
  type Tensor,
} from "../../../core/tensor.js";
import { corrupt, quote } from "../refusals.js";
import { encodeStoredZip } from "../zip.js";

/** A state dict as a pickle of protocol 2, with the opcodes of torch.save's pickler (Python's Lib/pickle.py). */

/** PyTorch's class of storages of each element type (torch/storage.py). */
const STORAGE_CLASSES = {
  float64: "DoubleStorage",
  float32: "FloatStorage",
  float16: "HalfStorage",
  bfloat16: "BFloat16Storage",
  int64: "LongStorage",
  int32: "IntStorage",
  int16: "ShortStorage",
  int8: "CharStorage",
  uint8: "ByteStorage",
  bool: "BoolStorage",
} as const satisfies Record<DType, string>;

const OPCODES = {
  proto: 0x80,
  stop: 0x2e,
  global: 0x63,
  emptyTuple: 0x29,
  reduce: 0x52,
  mark: 0x28,
  tuple: 0x74,
  setItems: 0x75,
  persistentId: 0x51,
  newFalse: 0x89,
  binUnicode: 0x58,
  binInt: 0x4a,
  long1: 0x8a,
  binPut: 0x71,
  binGet: 0x68,
} as const;

const PROTOCOL = 2;

/**
 * `OrderedDict` of path to `_rebuild_tensor_v2(storage, 0, shape, stride, False, OrderedDict())`, where the storage is
 * a persistent id `("storage", class, key, "cpu", elements)`; storages are numbered in the dict's order.
 */
function pickleStateDict(stateDict: StateDict): Uint8Array {
  const pickle = new Pickle();
  pickle.op("proto").byte(PROTOCOL);
  pickle.emptyOrderedDict().op("mark");
  let storage = 0;
  for (const [path, tensor] of stateDict) {
    pickle.text(path);
    pickleTensor(pickle, tensor, String(storage++));
  }
  return pickle.op("setItems").op("stop").bytes();
}

function pickleTensor(pickle: Pickle, { dtype, shape, data }: Tensor, key: string): void {
  pickle.global("torch._utils", "_rebuild_tensor_v2").op("mark");
  pickle.op("mark").shared("storage").global("torch", STORAGE_CLASSES[dtype]).text(key).shared("cpu");
  pickle.integer(data.length).op("tuple").op("persistentId");
  pickle.integer(0).integers(shape).integers(rowMajorStrides(shape));
  pickle.op("newFalse").emptyOrderedDict().op("tuple").op("reduce");
}

function rowMajorStrides(shape: Shape): readonly number[] {
  // PyTorch's strides of an empty tensor treat its empty dimensions as 1.
  return shape.map((_, axis) =>
    shape.slice(axis + 1).reduce((stride, size) => stride * Math.max(size, 1), 1),
  );
}

/** A sequence of opcodes; globals and repeated strings are memoized and written once. */
class Pickle {
  readonly #bytes: number[] = [];
  readonly #memo = new Map<string, number>();

  op(name: keyof typeof OPCODES): this {
    return this.byte(OPCODES[name]);
  }

  byte(value: number): this {
    this.#bytes.push(value);
    return this;
  }

  global(module: string, name: string): this {
    return this.#remember(`global ${module}.${name}`, () => {
      this.op("global");
      for (const byte of new TextEncoder().encode(`${module}\n${name}\n`)) this.byte(byte);
    });
  }

  emptyOrderedDict(): this {
    return this.global("collections", "OrderedDict").op("emptyTuple").op("reduce");
  }

  text(text: string): this {
    const bytes = new TextEncoder().encode(text);
    this.op("binUnicode").#littleEndian(BigInt(bytes.length), 4);
    for (const byte of bytes) this.byte(byte);
    return this;
  }

  /** A string that occurs again. */
  shared(text: string): this {
    return this.#remember(`text ${text}`, () => this.text(text));
  }

  integer(value: number): this {
    if (value < 2 ** 31) return this.op("binInt").#littleEndian(BigInt(value), 4);
    return this.op("long1").byte(8).#littleEndian(BigInt(value), 8);
  }

  integers(values: readonly number[]): this {
    this.op("mark");
    for (const value of values) this.integer(value);
    return this.op("tuple");
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  /** The memo uses one-byte indices, and there are at most four more entries than storage classes. */
  #remember(what: string, write: () => void): this {
    const place = this.#memo.get(what);
    if (place !== undefined) return this.op("binGet").byte(place);
    write();
    this.#memo.set(what, this.#memo.size);
    return this.op("binPut").byte(this.#memo.size - 1);
  }

  #littleEndian(value: bigint, bytes: number): this {
    for (let index = 0; index < bytes; index++) this.byte(Number((value >> BigInt(8 * index)) & 0xffn));
    return this;
  }
}

/**
 * PyTorch's zip container as torch.save writes it since 1.6 (torch/serialization.py, `_save`): a pickle of the state
 * dict, and each tensor's elements in a separate entry, 64-byte aligned so that `torch.load(mmap=True)` can map them.
 * Read by `torch.load(weights_only=True)` from PyTorch 1.13 on, by `torch.load` from 1.6 on.
 */

/**
 * The archive's folder, which torch.save names after the file, or so if it has no name: bytes must not depend on the
 * name.
 */
const FOLDER = "archive";

const STORAGE_ALIGNMENT = 64;

/**
 * The bytes of a checkpoint: an OrderedDict from paths to tensors, in the order of the state dict. Without `_metadata`,
 * as from PyTorch 0.4: then `load_state_dict` fills in a missing `num_batches_tracked`.
 *
 * @throws InputError (`format`) if a tensor's data does not match its shape
 */
export function encodePth(stateDict: StateDict, { subject }: { readonly subject: string }): Uint8Array {
  const storages = new Map<string, Uint8Array>();
  for (const [path, { shape, data }] of stateDict) {
    if (data.length !== elementCount(shape))
      throw corrupt(
        { subject, part: "the file" },
        `${data.length} elements in ${quote(path)}`,
        `the ${elementCount(shape)} of its shape ${formatShape(shape)}`,
      );
    storages.set(`data/${storages.size}`, bytesOf(data));
  }
  const ascii = new TextEncoder();
  const entries = [
    ["data.pkl", pickleStateDict(stateDict)],
    [".format_version", ascii.encode("1")],
    [".storage_alignment", ascii.encode(String(STORAGE_ALIGNMENT))],
    ["byteorder", ascii.encode("little")],
    ...storages,
    ["version", ascii.encode("3\n")],
  ] as const;
  return encodeStoredZip(new Map(entries.map(([name, data]) => [`${FOLDER}/${name}`, data])), {
    subject,
    alignment: STORAGE_ALIGNMENT,
  });
}
