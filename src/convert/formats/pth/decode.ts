import { type ByteSource, type Bytes, headOf, toSource } from "../../../core/bytes.js";
import { InputError } from "../../../core/errors.js";
import { once } from "../../../core/functions.js";
import type { StateDict, Tensor } from "../../../core/tensor.js";
import { Cursor, decodeLatin1 } from "../cursor.js";
import {
  type Budget,
  corrupt,
  createBudget,
  printable,
  quote,
  type Region,
  unsupported,
} from "../refusals.js";
import { isZip } from "../registry.js";
import { HEAD_BYTES, headText, otherKind, type Signature } from "../sniff.js";
import { openZipEntry, readZipDirectory, readZipEntry, STORED, type ZipEntry } from "../zip.js";
import { isTar, pickleEnvironment, readPickles, readTar } from "./legacy.js";
import {
  createModuleAllowance,
  type PickledModule,
  type PickledWrapper,
  pickledModules,
  TORCHSCRIPT_MODULE,
  wrappersOf,
} from "./modules.js";
import { runPickle } from "./pickle/machine.js";
import { isDict, isObject, type PickleValue, typeName } from "./pickle/values.js";
import { type Choice, chooseStateDict, keyedStateDicts } from "./select.js";
import { createStorageTable, materialize, scalarOf, type Unpickled } from "./storages.js";
import { isTensor, type TensorProblem, type TensorRef, tensorRef } from "./tensor-ref.js";
import { type ScriptReader, type Trace, traceModel, withoutPrefix } from "./trace.js";

/**
 * PyTorch checkpoints: the zip container, TorchScript, the two older containers and bare pickles, in any pickle
 * protocol. Nothing in a file ever runs: its pickle is read by an interpreter that can only build data (`pickle/`), and
 * every size is checked before memory is allocated. Source of the layouts: torch/serialization.py.
 */

/** How a checkpoint is read. */
export interface DecodePthOptions {
  /** Name of the file in messages. */
  readonly subject: string;
  /**
   * The path of the state dict in the file, such as `state_dict` or `model.backbone`; by default found by structure.
   */
  readonly key?: string;
}

/** The container a checkpoint came in; `pickle` is a bare one, with numpy arrays. */
type Container = Unpickled["container"];

/** The weights of a checkpoint, and how they were stored. */
export interface DecodedCheckpoint {
  /** Parameters and buffers in the file's order, prefix removed. Tensors may be views over the decoded bytes. */
  readonly stateDict: StateDict;
  /** PyTorch's container: the current zip, or one of the earlier formats. */
  readonly container: Container;
  /** Keys that lead to the state dict, joined by dots; empty when it is the whole file. */
  readonly wrapperPath: string;
  /** The prefix removed from the keys, such as `module.`; empty if none. */
  readonly removedPrefix: string;
  /** The class of a model pickled whole, such as `torchreid.models.osnet.OSNet`; empty for a state dict. */
  readonly modelClass: string;
  /** The modules of a model pickled whole, by path without the prefix; undefined for a state dict. */
  readonly modules?: ReadonlyMap<string, PickledModule>;
  /**
   * The modules around that model, outermost first, whose prefix was removed; undefined if a key selected what is
   * inside them.
   */
  readonly wrappers?: readonly PickledWrapper[];
  /** The computation of a TorchScript archive, its tensors by path without the prefix; undefined for others. */
  readonly trace?: Trace;
  /** Choices made while reading, one clause each, for people to read. */
  readonly notes: readonly string[];
}

/**
 * Reads the weights of a PyTorch checkpoint, bit for bit.
 *
 * Tensors are made only for the chosen state dict. If they are most of the bytes in memory, they share these. From a
 * file, only these tensors and their descriptions are read.
 *
 * @throws InputError `format` for bytes that are not a checkpoint or a broken one, `unsupported` for a checkpoint that
 * would run code or has no usable weights, `argument` for a `key` without tensors
 */
export function decodePth(bytes: Bytes, options: DecodePthOptions): DecodedCheckpoint {
  const region: Region = { subject: options.subject, part: "the file" };
  const source = toSource(bytes);
  const budget = createBudget(options.subject, source.length);
  const { container, root, script, isDeflated } = unpickle(source, region, budget);
  const choice = choose(root, options);
  return {
    stateDict: materializeAll(choice, source, options.subject, budget),
    container,
    wrapperPath: choice.wrapperPath,
    removedPrefix: choice.prefix,
    modelClass: isObject(choice.holder) ? choice.holder.path : "",
    ...evidenceOf(choice, script && scriptReader(script, budget), region, options.key !== undefined),
    notes: isDeflated ? [...choice.notes, DEFLATED] : choice.notes,
  };
}

const DEFLATED =
  "its tensors are compressed: torch.load reads them, but with mmap=True misreads the compressed bytes";

function unpickle(source: ByteSource, region: Region, budget: Budget): Unpickled {
  switch (sniff(source, region.subject)) {
    case "zip":
      return readArchive(source, region, budget);
    case "tar":
      return readTar(source, region, budget);
    case "pickle":
      return readPickles(source, region, budget);
  }
}

function choose(root: PickleValue, { subject, key }: DecodePthOptions): Choice {
  const choices = key ? keyedStateDicts(root, key) : [chooseStateDict(root)];
  const [choice, another] = choices;
  if (another !== undefined)
    throw new InputError({
      code: "argument",
      subject: `--key ${printable(key ?? "")}`,
      found: `${choices.length} places of that path in ${subject}`,
      expected: "one",
      remedy: "choose a longer path, or save the weights alone",
    });
  if (choice !== undefined) return choice;
  if (key) {
    throw new InputError({
      code: "argument",
      subject: `--key ${printable(key)}`,
      found: `no tensors at that path in ${subject}`,
      expected: "the path of a state dict",
      remedy: `omit --key, or choose a path below ${names(root) || "the top level, which has no names"}`,
    });
  }
  throw new InputError({
    code: "unsupported",
    subject,
    found: describe(root),
    expected: "a state dict",
    remedy: "save the weights with torch.save(model.state_dict(), path)",
  });
}

/** What a model states about its computation, besides its weights. */
function evidenceOf(
  { holder, prefix }: Choice,
  script: ScriptReader | undefined,
  region: Region,
  isKeyed: boolean,
): Pick<DecodedCheckpoint, "modules" | "wrappers" | "trace"> {
  const isScript = isObject(holder) && holder.path.startsWith(TORCHSCRIPT_MODULE);
  if (isScript !== (script !== undefined))
    throw unsupported(
      region,
      isScript ? "a TorchScript model without its code" : "TorchScript's code without its model",
      "what torch.jit.save writes",
    );
  if (!isObject(holder)) return {};
  if (script) return { trace: withoutPrefix(traceModel(holder, script, region), prefix) };
  const modules = pickledModules(holder, createModuleAllowance()) ?? new Map<string, PickledModule>();
  const outer = prefix.slice(0, -1);
  const wrappers = wrappersOf(modules, outer);
  return {
    ...(wrappers.length > 0 && !isKeyed ? { wrappers } : {}),
    modules: new Map(
      [...modules].flatMap(([path, module]) => {
        if (path === outer) return [["", module] as const];
        return path.startsWith(prefix) ? [[path.slice(prefix.length), module] as const] : [];
      }),
    ),
  };
}

function scriptReader({ code, constants }: NonNullable<Unpickled["script"]>, budget: Budget): ScriptReader {
  return {
    code,
    scalar(index) {
      const tuple = constants();
      const value = Array.isArray(tuple) ? scalarOf(tuple[index] ?? null, budget) : undefined;
      return value === undefined ? undefined : Number(value);
    },
  };
}

/** If the weights are at least this share of a file, it is read at once; otherwise tensor by tensor. */
const LOADED_SHARE = 0.9;

/** Makes the chosen tensors; one error lists all failures. */
function materializeAll(choice: Choice, source: ByteSource, subject: string, budget: Budget): StateDict {
  const refs = new Map<string, TensorRef | TensorProblem>();
  for (const [key, value] of choice.entries) refs.set(key, tensorRef(value, budget));

  const chosen = totalBytes(refs.values());
  if (chosen >= LOADED_SHARE * source.length) source.load();
  // Views keep the whole file in memory; tensors that are read one by one have their own memory.
  const share = !source.loaded || 2 * chosen >= source.length;
  const stateDict = new Map<string, Tensor>();
  const problems: { readonly key: string; readonly problem: TensorProblem }[] = [];
  for (const [key, ref] of refs) {
    const made = "text" in ref ? ref : materialize(ref, { budget, share, copied: !source.loaded });
    if ("text" in made) problems.push({ key, problem: made });
    else stateDict.set(key, made);
  }
  const [first] = problems;
  if (first === undefined) return stateDict;
  const more = problems.length > 1 ? ` and ${problems.length - 1} more like it` : "";
  throw new InputError({
    code: problems.some(({ problem }) => problem.code === "format") ? "format" : "unsupported",
    subject,
    found: `${first.problem.text} under ${quote(first.key)}${more}`,
    expected: "dense tensors of a type used for training",
    remedy: /quantized|torch\.qu?int/.test(first.problem.text)
      ? "use the float model that it was quantised from"
      : "save the weights again with torch.save(model.state_dict(), path)",
    details: problems.map(({ key, problem }) => `${printable(key)}: ${problem.text}`),
  });
}

function totalBytes(refs: Iterable<TensorRef | TensorProblem>): number {
  let total = 0;
  for (const ref of refs) {
    if ("text" in ref) continue;
    total += ref.shape.reduce((count, dimension) => count * dimension, ref.elementBytes);
  }
  return total;
}

function describe(root: PickleValue): string {
  if (isTensor(root)) return "one tensor without a name";
  if (typeName(root).startsWith("__torch__."))
    return "a TorchScript module without parameters, as torch.jit.freeze and optimize_for_inference leave it";
  return names(root) === ""
    ? `a value of type ${typeName(root)} without tensors`
    : `a dict of ${names(root)} without tensors`;
}

/** The first keys of a dict, for messages; empty if there are none. */
function names(root: PickleValue): string {
  const keys = isDict(root) ? [...root.keys()].filter((key) => typeof key === "string") : [];
  return keys.slice(0, 8).map(quote).join(", ");
}

/** The containers of PyTorch checkpoints, distinguished by their first bytes. */
type Encoding = "zip" | "tar" | "pickle";

/** Files for other readers of the project. */
const OTHER_READERS: readonly Signature[] = [
  {
    // The length of a JSON header, far below 2^32, then the header.
    found: "a safetensors file",
    remedy: "convert it as safetensors",
    matches: (head) => head.slice(4, 9) === "\0\0\0\0{",
  },
  {
    // ModelProto: ir_version, then opset_import, producer_name or the graph.
    found: "an ONNX model",
    remedy: "use the checkpoint it was exported from",
    matches: (head) =>
      head.startsWith("\x08") && head.charCodeAt(1) <= 32 && "\x12\x3aB".includes(head.charAt(2)),
  },
  {
    found: "a JSON document",
    remedy: "download the checkpoint itself",
    matches: (head) => /^\s*[{[]\s*["{[\d\]}]/.test(head),
  },
];

/**
 * Detects the container of a file from its content. Throws `InputError` of code `format` for an empty file and for
 * other formats.
 */
function sniff(source: ByteSource, subject: string): Encoding {
  const refuse = (found: string, remedy: string) =>
    new InputError({ code: "format", subject, found, expected: "a PyTorch checkpoint", remedy });
  if (source.length === 0) throw refuse("an empty file", "download or copy the file again");
  const bytes = headOf(source, HEAD_BYTES);
  if (isZip(bytes)) return "zip";
  if (isTar(bytes)) return "tar";
  const head = headText(bytes);
  const other = otherKind(bytes) ?? OTHER_READERS.find(({ matches }) => matches(head));
  if (other !== undefined) throw refuse(other.found, other.remedy);
  // Protocols 0 and 1 are mostly text themselves, but no other text ends in STOP without a line break.
  if (isText(head) && !(FIRST_OPCODES.includes(head.charAt(0)) && lastOf(source) === STOP)) {
    throw refuse("a text file", "download the checkpoint itself");
  }
  if (!FIRST_OPCODES.includes(head.charAt(0)))
    throw refuse("an unknown file format", "use a file written by torch.save");
  return "pickle";
}

/** PROTO, which starts pickles since protocol 2, and the possible first opcodes of older ones. */
const FIRST_OPCODES = "\x80(c]})lditSUVXNIJKMLFG";
const STOP = 0x2e;

function lastOf(source: ByteSource): number | undefined {
  return source.read(source.length - 1, source.length)[0];
}

/** Printable ASCII and line breaks throughout. */
function isText(head: string): boolean {
  return /^[\t\n\r -~]*$/.test(head);
}

/**
 * PyTorch's zip container, since 1.4 (TorchScript) and 1.6 (torch.save): one folder with `data.pkl`, storages as
 * `data/KEY`, and `byteorder` since 2.1. Source: torch/serialization.py (`_save`, `_load`) and
 * caffe2/serialize/inline_container.h. A storage's declared size must be its entry's size (CVE-2026-24747).
 */

/** Reads a zip container. Storages are located, and inflated if necessary, only when their bytes are needed. */
function readArchive(source: ByteSource, region: Region, budget: Budget): Unpickled {
  const directory = readZipDirectory(source, region);
  const folder = findFolder(directory, region);
  // PyTorch looks them up whatever their case.
  const names = new Map([...directory.keys()].map((name) => [name.toLowerCase(), name]));
  const entry = (name: string) => {
    const found = names.get((folder + name).toLowerCase());
    if (found === undefined || found === folder + name) return directory.get(folder + name);
    throw unsupported(region, `a zip entry named ${quote(found)}`, quote(folder + name));
  };
  const read = (found: ZipEntry) => readZipEntry(source, found, budget, region);

  const bigEndian = isBigEndian(entry("byteorder"), read, region);
  const constants = entry("constants.pkl");
  /** Runs a pickle whose storages are in a folder of the archive. */
  const load = (pickle: ZipEntry, folder: string) => {
    const pickleRegion: Region = { ...region, part: pickle.name };
    const storageTable = createStorageTable(pickleRegion, "zip", ({ key, length, elementBytes }) => {
      const open = once(() => {
        const name = `${folder}/${key}`;
        const data = entry(name);
        if (data === undefined) throw corrupt(region, `no entry ${quote(name)}`, "one for each storage");
        if (data.size !== length * elementBytes) {
          throw corrupt(
            region,
            `${data.size} bytes in ${quote(data.name)}`,
            `the ${length * elementBytes} that ${pickle.name.split("/").at(-1)} declares`,
          );
        }
        return openZipEntry(source, data, budget, region);
      });
      return { read: (start, end) => open()(start, end), bigEndian };
    });
    return runPickle(new Cursor(read(pickle), pickleRegion), {
      ...pickleEnvironment(budget),
      isScript: constants !== undefined,
      persistentLoad: storageTable,
    });
  };
  const pickle = entry("data.pkl");
  if (pickle === undefined) throw corrupt(region, "no data.pkl", "one");
  // Where it exists, torch.jit.load reads this older description of a model, and nothing else.
  if (entry("model.json") !== undefined)
    throw unsupported(
      region,
      "a TorchScript model in an older format",
      "the format that torch.jit.save writes now",
    );
  const root = load(pickle, "data");
  const isDeflated = [...directory.values()].some(
    ({ name, method }) => name.startsWith(`${folder}data/`) && method !== STORED,
  );
  if (constants === undefined) return { container: "zip", root, isDeflated };
  // torch.jit.load ignores the byte-order record, and reads the bytes unchanged.
  if (bigEndian) throw unsupported(region, "a TorchScript archive with the byte order big", "little");
  const code = (path: string): string | undefined => {
    const found = entry(`code/${path.replaceAll(".", "/")}.py`);
    return found && decodeLatin1(read(found));
  };
  return {
    container: "torchscript",
    root,
    script: { code, constants: once(() => load(constants, "constants")) },
  };
}

/** The folder with data.pkl, with its slash; empty at the top level. */
function findFolder(directory: ReadonlyMap<string, ZipEntry>, region: Region): string {
  const names = [...directory.keys()];
  const pickles = names.filter((name) => name === "data.pkl" || /^[^/]+\/data\.pkl$/.test(name));
  const [first, second] = pickles;
  if (second !== undefined) {
    throw unsupported(region, `${pickles.length} checkpoints in one zip archive`, "one");
  }
  if (first !== undefined) {
    const folder = first.slice(0, -"data.pkl".length);
    // PyTorch uses the folder of the first entry.
    if (!names[0]?.startsWith(folder))
      throw unsupported(region, "a zip archive of several folders", "one checkpoint");
    return folder;
  }
  const listed = names.slice(0, 3).map(quote).join(", ");
  const refuse = (found: string, remedy: string) =>
    new InputError({
      code: "unsupported",
      subject: region.subject,
      found,
      expected: "a PyTorch archive, which has data.pkl",
      remedy,
    });
  if (names.length > 0 && names.every((name) => name.endsWith(".npy")))
    throw refuse("a NumPy .npz archive", "convert it as npz");
  if (names.includes("model.weights.h5"))
    throw refuse(
      "a Keras model",
      "export it to ONNX with tf2onnx, or to TensorFlow.js with tensorflowjs_converter",
    );
  if (names.some((name) => /^[^/]+\/data\/(?:weights|constants)\//.test(name)))
    throw refuse(
      "a program of torch.export",
      "load it with torch.export.load, and save its weights with torch.save(program.state_dict, path)",
    );
  throw refuse(
    `a zip archive of other files (${listed === "" ? "empty" : listed})`,
    names.length > 0
      ? "unpack it, and use the checkpoint or the model inside"
      : "download or copy the file again",
  );
}

function isBigEndian(
  entry: ZipEntry | undefined,
  read: (entry: ZipEntry) => Uint8Array,
  region: Region,
): boolean {
  // Before 2.1 the byte order was not recorded, and existing files come from little-endian machines.
  if (entry === undefined) return false;
  const order = String.fromCharCode(...read(entry).subarray(0, 16));
  if (order !== "little" && order !== "big") {
    throw corrupt(region, `the byte order ${quote(order)}`, "little or big");
  }
  return order === "big";
}
