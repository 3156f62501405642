/** Mutations of a pickle as a sequence of opcodes. Source of the argument forms: CPython's Lib/pickletools.py. */

import { bytesOf, call, global, int, le, str, tensor } from "../../convert/formats/pth/build.js";
import { pickFrom, type Random } from "../random.js";
import { integer, type Mutator, replaced } from "./bytes.js";

/** How long an opcode's argument is: bytes, lines, or a length of so many bytes and as much data. */
type Argument = { readonly bytes: number } | { readonly lines: number } | { readonly prefix: number };

const ARGUMENTS: ReadonlyMap<string, Argument> = new Map<string, Argument>([
  ...[..."\x80Khq\x82"].map((code): [string, Argument] => [code, { bytes: 1 }]),
  ...[..."M\x83"].map((code): [string, Argument] => [code, { bytes: 2 }]),
  ...[..."Jjr\x84"].map((code): [string, Argument] => [code, { bytes: 4 }]),
  ...[..."G\x95"].map((code): [string, Argument] => [code, { bytes: 8 }]),
  ...[..."ILFSVPgp"].map((code): [string, Argument] => [code, { lines: 1 }]),
  ...[..."ci"].map((code): [string, Argument] => [code, { lines: 2 }]),
  ...[..."UC\x8a\x8c"].map((code): [string, Argument] => [code, { prefix: 1 }]),
  ...[..."TBX\x8b"].map((code): [string, Argument] => [code, { prefix: 4 }]),
  ...[..."\x8d\x8e\x96"].map((code): [string, Argument] => [code, { prefix: 8 }]),
]);

/** Opcodes without an argument. */
const PLAIN = "().]}]}0123RbosatedlueNQ\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98";

/** Names that readers treat specially, and some that none should. */
const GLOBALS = [
  "os.system",
  "posix.system",
  "builtins.eval",
  "builtins.getattr",
  "builtins.dict",
  "builtins.set",
  "builtins.list",
  "builtins.bytes",
  "builtins.bytearray",
  "collections.OrderedDict",
  "collections.defaultdict",
  "_codecs.encode",
  "copyreg._reconstructor",
  "copyreg.__newobj__",
  "copy_reg.__newobj_ex__",
  "torch.Size",
  "torch.FloatStorage",
  "torch.BoolStorage",
  "torch.storage.UntypedStorage",
  "torch.storage._load_from_bytes",
  "torch._utils._rebuild_tensor_v2",
  "torch._utils._rebuild_tensor_v3",
  "torch._utils._rebuild_parameter",
  "torch._utils._rebuild_qtensor",
  "torch._tensor._rebuild_from_type_v2",
  "torch.float32",
  "numpy.dtype",
  "numpy.core.multiarray._reconstruct",
  "numpy.core.multiarray.scalar",
  "numpy.core.numeric._frombuffer",
  "evil.Module",
  "evil.function",
  "__proto__.constructor",
] as const;

interface Opcode {
  readonly start: number;
  readonly end: number;
}

/** The opcodes from `start` to the first STOP, as far as they can be told apart. */
function opcodesOf(bytes: Uint8Array): readonly Opcode[] {
  const opcodes: Opcode[] = [];
  for (let start = 0; start < bytes.length; ) {
    const end = start + 1 + argumentBytes(bytes, start);
    if (end > bytes.length) break;
    opcodes.push({ start, end });
    start = end;
  }
  return opcodes;
}

function argumentBytes(bytes: Uint8Array, start: number): number {
  const argument = ARGUMENTS.get(String.fromCharCode(bytes[start] ?? 0));
  if (argument === undefined) return 0;
  if ("bytes" in argument) return argument.bytes;
  if ("prefix" in argument) {
    let length = 0;
    for (let index = 0; index < argument.prefix; index++)
      length += (bytes[start + 1 + index] ?? 0) * 256 ** index;
    return argument.prefix + length;
  }
  let end = start + 1;
  for (let line = 0; line < argument.lines; line++) {
    const next = bytes.indexOf(0x0a, end);
    if (next < 0) return bytes.length;
    end = next + 1;
  }
  return end - start - 1;
}

/** Opcodes that make or use one value, arguments included. */
function randomOpcodes(random: Random): Uint8Array {
  const name = random.pick(GLOBALS);
  const index = random.below(8);
  const made = random.pick<() => string | Uint8Array>([
    () => PLAIN.charAt(random.below(PLAIN.length)),
    () => PLAIN.charAt(random.below(PLAIN.length)),
    () => `K${le(index, 1)}`,
    () => `h${le(index, 1)}`,
    () => `q${le(index, 1)}`,
    () => bytesOf("j", integer(random, 4)),
    () => bytesOf("r", integer(random, 4)),
    () => bytesOf("J", integer(random, 4)),
    () => bytesOf("\x8a\x08", integer(random, 8)),
    () => bytesOf("G", integer(random, 8)),
    () => bytesOf("X", integer(random, 4)),
    () => bytesOf("\x8e", integer(random, 8)),
    () => `g${index}\n`,
    () => `P${index}\n`,
    () =>
      str(
        random.pick(["", "w", "__proto__", "constructor", "state_dict", "storage", "cpu", "\n\x1b[2J", "0"]),
      ),
    () => global(name),
    () => call(name),
    () => call(name, int(index)),
    () => call(name, str("a"), str("latin1")),
    () => call(name, `h${le(index, 1)}`),
    () => `${global(name)})\x81}b`,
    () => tensor({ key: String(index), numel: random.pick([0, 1, 2, 3, 0x7fffffff]) }),
    () =>
      tensor({
        shape: [random.pick([0, 1, 2, 3, 1 << 12, 1 << 24]), random.pick([1, 2, 1 << 12])],
        stride: [random.pick([0, 0, 1, 2]), random.pick([0, 1])],
      }),
    // What was made last goes into what was made first, which may be what it is in.
    () => `h${le(index, 1)}h${le(random.below(8), 1)}a0`,
    () => `h${le(index, 1)}${str("again")}h${le(random.below(8), 1)}s0`,
    () => "(".repeat(1 + random.below(64)),
    () => "\x85".repeat(1 + random.below(512)),
    () => "2".repeat(1 + random.below(512)),
  ])();
  return bytesOf(made);
}

const MUTATORS: readonly [Mutator, ...Mutator[]] = [
  // Insert, delete, duplicate, swap, move.
  withOpcode((bytes, opcode, random) => replaced(bytes, opcode.start, 0, randomOpcodes(random))),
  withOpcode((bytes, { start, end }, random) => replaced(bytes, start, end - start, randomOpcodes(random))),
  withOpcode((bytes, { start, end }) => replaced(bytes, start, end - start, new Uint8Array(0))),
  withOpcode((bytes, { start, end }) => replaced(bytes, start, 0, bytes.subarray(start, end))),
  withOpcode((bytes, { start, end }, random) => {
    const other = pickFrom(opcodesOf(bytes), random) ?? { start, end };
    return replaced(bytes, other.start, 0, bytes.subarray(start, end));
  }),
  withOpcode((bytes, { start }, random) => {
    const other = pickFrom(opcodesOf(bytes), random)?.start ?? start;
    const [from, to] = [Math.min(start, other), Math.max(start, other)];
    return replaced(bytes, random.below(bytes.length), 0, bytes.subarray(from, Math.min(to, from + 256)));
  }),
  // The opcode stays and its argument lies: lengths, memo indices, numbers.
  withOpcode((bytes, { start, end }, random) => {
    const copy = bytes.slice();
    copy.set(integer(random, Math.min(8, end - start - 1)), start + 1);
    return copy;
  }),
  withOpcode((bytes, { start, end }, random) => {
    const copy = bytes.slice();
    if (end > start + 1) copy[start + 1] = random.below(16);
    return copy;
  }),
  // The argument stays and the opcode lies.
  withOpcode((bytes, { start }, random) => {
    const copy = bytes.slice();
    copy[start] = PLAIN.charCodeAt(random.below(PLAIN.length));
    return copy;
  }),
];

/** One mutation of a pickle. */
export const mutatePickle: Mutator = (bytes, random) => random.pick(MUTATORS)(bytes, random);

function withOpcode(change: (bytes: Uint8Array, opcode: Opcode, random: Random) => Uint8Array): Mutator {
  return (bytes, random) => {
    const opcode = pickFrom(opcodesOf(bytes), random);
    return opcode === undefined ? bytes : change(bytes, opcode, random);
  };
}
