import { type ByteSource, type Bytes, headOf, toSource } from "../../../core/bytes.js";
import { InputError } from "../../../core/errors.js";
import type { StateDict, Tensor } from "../../../core/tensor.js";
import { type Budget, createBudget, printable, quote, type Region, unsupported } from "../refusals.js";
import { isZip } from "../registry.js";
import { HEAD_BYTES, headText, otherKind, type Signature } from "../sniff.js";
import { readArchive } from "./archive.js";
import { isTar, readPickles, readTar } from "./legacy.js";
import {
  createModuleAllowance,
  type PickledModule,
  type PickledWrapper,
  pickledModules,
  TORCHSCRIPT_MODULE,
  wrappersOf,
} from "./modules.js";
import { isDict, isObject, type PickleValue, typeName } from "./pickle/values.js";
import { type Choice, chooseStateDict, keyedStateDicts } from "./select.js";
import { materialize, scalarOf, type Unpickled } from "./storages.js";
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
  "its tensors are compressed: torch.load reads them, but with mmap=True takes compressed bytes for numbers";

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
