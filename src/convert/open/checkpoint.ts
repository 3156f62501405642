import {
  expand,
  GATE_ACTIVATIONS,
  type Identified,
  identify,
  isVariantName,
  type LayerGraph,
  type OsnetSpec,
  parametersOf,
  VARIANT_NAMES,
  variant,
  variantOf,
} from "../../arch/index.js";
import { type ByteSource, type Bytes, headOf, toSource } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import { nearestWord, plural } from "../../core/text.js";
import { decodeNpz } from "../formats/npz.js";
import { type DecodedCheckpoint, decodePth } from "../formats/pth/decode.js";
import { prefixGroups, removePrefix, removeWrapperPrefix, withoutWrappers } from "../formats/pth/modules.js";
import { printable, quote } from "../formats/refusals.js";
import {
  type FileFormat,
  FORMATS,
  formatOfName,
  isModelFormat,
  type WeightsFormat,
} from "../formats/registry.js";
import { decodeSafetensors } from "../formats/safetensors.js";
import { HEAD_BYTES, otherKind, sniffFormat } from "../formats/sniff.js";
import { adopted, type CheckedModules, checkModules } from "./pickled-modules.js";
import { rewriting } from "./rewritten.js";
import { tracedGraph } from "./traced.js";

/** A checkpoint of a known network, every key accounted for. */
export interface Checkpoint extends Identified {
  /** In the order of torchreid's `state_dict()`, whatever the file's order. */
  readonly stateDict: StateDict;
  /** The place of the weights in the file: container, prefix, notes. */
  readonly decoded: Omit<DecodedWeights, "stateDict">;
  /**
   * For a model pickled whole: classes whose code is neither PyTorch's nor torchreid's, and not in the file. Absent if
   * there are none.
   */
  readonly unread?: readonly string[];
}

/** Options for opening and identifying a file of weights. */
export interface CheckpointOptions {
  /** Name of the file in messages. */
  readonly subject: string;
  /** Path of the state dict inside the file, such as `model.ema`, where there is a choice. */
  readonly key?: string;
  /** The architecture, if names and shapes leave it open: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
  /** The format that the file must have; found by content otherwise. */
  readonly format?: WeightsFormat;
}

/**
 * Reads a PyTorch checkpoint, or weights in safetensors or .npz, and identifies their network.
 *
 * @throws InputError if the file is not a checkpoint (`format`, `unsupported`), its state dict is not a complete OSNet
 * (`state-dict`), or a weight is NaN, infinite or a negative variance
 */
export function openCheckpoint(bytes: Bytes, options: CheckpointOptions): Checkpoint {
  const checkpoint = identifyCheckpoint(bytes, options);
  refuseBadNumbers(checkpoint, options.subject);
  return checkpoint;
}

/** As `openCheckpoint`, but accepts any numbers: for inspecting a checkpoint without using it. */
export function identifyCheckpoint(bytes: Bytes, { arch, ...options }: CheckpointOptions): Checkpoint {
  const { subject } = options;
  const { stateDict, ...decoded } = decodeWeights(bytes, options);
  const spec = typeof arch === "string" ? namedSpec(arch) : arch;
  const {
    identified,
    notes: shown,
    unread,
  } = withEvidence(identifyOrOffer(stateDict, decoded, { subject, ...(spec ? { spec } : {}) }), decoded, {
    subject,
    stateDict,
    isGiven: spec !== undefined,
  });
  const notes = [...decoded.notes, ...shown, ...extraNotes(identified.extra)];
  return {
    ...identified,
    stateDict: inNetworkOrder(stateDict, identified.graph),
    decoded: { ...decoded, notes },
    ...(unread.length > 0 ? { unread } : {}),
  };
}

/**
 * As `identify`. If only part of the keys is a network, the error names it, and the option that selects it.
 */
function identifyOrOffer(
  stateDict: StateDict,
  decoded: Omit<DecodedWeights, "stateDict">,
  options: { readonly subject: string; readonly spec?: OsnetSpec },
): Identified {
  let identified: Identified;
  try {
    identified = identify(stateDict, options);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    const offers = offersOf(stateDict, decoded, options);
    const [first] = offers;
    const made = first === undefined && rewriting(stateDict.keys(), classesOf(decoded.modules));
    if (made)
      throw new InputError(
        {
          code: "state-dict",
          subject: options.subject,
          ...made,
          expected: "the weights as they were trained",
        },
        { cause: error },
      );
    if (first === undefined) throw error;
    throw new InputError(
      {
        code: "state-dict",
        subject: options.subject,
        found: `${offers.length === 1 ? "a network" : `${offers.length} networks`} under ${offers.map(quote).join(" and ")}`,
        expected: "the state dict of one OSNet",
        remedy: `choose one with ${keysOf(offers)}`,
      },
      { cause: error },
    );
  }
  const own = new Set(parametersOf(identified.graph).map(({ path }) => path));
  const again = identified.extra.filter((path) => own.has(withoutWrappers(path)));
  if (again.length === 0) return identified;
  // torchreid's load_pretrained_weights removes `module.` from all keys, and uses the last tensor of each name.
  const offers = offersOf(stateDict, decoded, options);
  throw new InputError({
    code: "state-dict",
    subject: options.subject,
    found: `a network, and ${again.length} of its tensors a second time, such as ${quote(again[0] ?? "")}`,
    expected: "the state dict of one OSNet",
    remedy:
      offers.length > 0
        ? `choose the other one with ${keysOf(offers)}, or remove one`
        : "remove these tensors",
  });
}

/** The values of `--key` that select a network among the tensors of a state dict. */
function offersOf(
  stateDict: StateDict,
  { wrapperPath, removedPrefix }: Pick<DecodedWeights, "wrapperPath" | "removedPrefix">,
  options: { readonly spec?: OsnetSpec },
): readonly string[] {
  const outer = [wrapperPath, removedPrefix.replace(/\.$/, "")].filter((path) => path !== "");
  return [...prefixGroups(stateDict.keys())].flatMap(([prefix, keys]) => {
    const part = new Map(keys.flatMap((key) => pairOf(key, stateDict.get(prefix + key))));
    return isNetwork(part, options) ? [[...outer, prefix.slice(0, -1)].join(".")] : [];
  });
}

function keysOf(offers: readonly string[]): string {
  return offers.map((offer) => `--key ${printable(offer)}`).join(" or ");
}

function classesOf(modules: DecodedWeights["modules"]): readonly string[] {
  return [...(modules?.values() ?? [])].map(({ className }) => className);
}

function pairOf(key: string, tensor: Tensor | undefined): (readonly [string, Tensor])[] {
  return tensor === undefined ? [] : [[key, tensor]];
}

function isNetwork(stateDict: StateDict, options: { readonly spec?: OsnetSpec }): boolean {
  if (!stateDict.has("conv1.conv.weight")) return false;
  try {
    identify(stateDict, options);
    return true;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}

/** Choices that leave no trace in a state dict. */
const HIDDEN_CHOICES: readonly Partial<Pick<OsnetSpec, "pooling">>[] = [
  { pooling: "avg" },
  { pooling: "max" },
];

/** Adopts what a model pickled whole, or a trace, shows about its network besides the weights. */
function withEvidence(
  identified: Identified,
  { modules, wrappers, trace }: Omit<DecodedWeights, "stateDict">,
  { subject, stateDict, isGiven }: { subject: string; stateDict: StateDict; isGiven: boolean },
): { readonly identified: Identified } & CheckedModules {
  const { spec } = identified;
  if (modules !== undefined) {
    const own = isGiven ? spec : adopted(spec, modules);
    const found = own === spec ? identified : identify(stateDict, { subject, spec: own });
    return { identified: found, ...checkModules(found.graph, modules, subject, wrappers) };
  }
  if (trace === undefined) return { identified, notes: [], unread: [] };
  const choices = HIDDEN_CHOICES.flatMap((choice) =>
    GATE_ACTIVATIONS.map((activation) => ({ ...spec, ...choice, gate: { ...spec.gate, activation } })),
  );
  const graphs = [identified.graph, ...(isGiven ? [] : choices.map(expand))];
  const graph = tracedGraph(trace, graphs, subject);
  return {
    identified: { ...identified, spec: graph.spec, graph, variant: variantOf(graph.spec) },
    notes: ["the traced code computes this network, layer by layer"],
    unread: [],
  };
}

/**
 * safetensors files are sorted by name. Keys that are not part of the network keep their relative order, at the end.
 */
function inNetworkOrder(stateDict: StateDict, graph: LayerGraph): StateDict {
  const ordered = new Map<string, Tensor>();
  for (const path of [...parametersOf(graph).map(({ path }) => path), ...stateDict.keys()]) {
    const tensor = stateDict.get(path);
    if (tensor) ordered.set(path, tensor);
  }
  return ordered;
}

/** A norm between the pooled map and the classifier; FastReID evaluates its output. */
const NECK = /^(heads\.)?bottleneck\./;

/**
 * Names the modules that are not part of the network. It is unknown what the checkpoint's own model does with them.
 */
function extraNotes(extra: readonly string[]): string[] {
  if (extra.length === 0) return [];
  const modules = [...new Set(extra.map((path) => path.split(".", 1)[0] ?? path))];
  const named = modules.slice(0, 8).join(", ");
  const more = modules.length > 8 ? ` and ${modules.length - 8} more` : "";
  return [
    `${plural(extra.length, "tensor")} of extra heads, not part of the network: ${named}${more}`,
    ...(extra.some((path) => NECK.test(path))
      ? [
          "its bottleneck is not converted: features are taken before it, as FastReID does if NECK_FEAT is before",
        ]
      : []),
  ];
}

/** @throws InputError (`argument`) if no variant has the name */
export function namedSpec(name: string): OsnetSpec {
  if (isVariantName(name)) return variant(name);
  const nearest = nearestWord(name, VARIANT_NAMES);
  throw new InputError({
    code: "argument",
    subject: "--arch",
    found: JSON.stringify(name),
    expected: "a variant such as osnet_x1_0 or a spec.json",
    remedy: nearest ? `did you mean ${nearest}?` : `choose one of ${VARIANT_NAMES.join(", ")}`,
  });
}

/** A single NaN makes every embedding NaN, and a negative variance makes its layer NaN. */
export function refuseBadNumbers({ graph, stateDict }: Checkpoint, subject: string): void {
  const problems: string[] = [];
  for (const { path, optional } of parametersOf(graph)) {
    const tensor = stateDict.get(path);
    if (!tensor || optional) continue;
    const { data } = toReal(tensor, path);
    const smallest = leastFinite(data);
    if (Number.isNaN(smallest))
      problems.push(`${path}: ${count(data, (v) => !Number.isFinite(v))} NaN or infinite`);
    else if (smallest < 0 && path.endsWith(".running_var"))
      problems.push(`${path}: ${count(data, (v) => v < 0)} negative`);
  }
  if (problems.length === 0) return;
  throw new InputError({
    code: "state-dict",
    subject,
    found: `invalid numbers in ${plural(problems.length, "tensor")}`,
    expected: "finite weights and non-negative variances",
    remedy: "use a checkpoint from before the training diverged",
    details: problems,
  });
}

/** The smallest value, or NaN if one is not finite. Free of branches, which random signs would mispredict: 4 × faster. */
function leastFinite(values: Float32Array | Float64Array): number {
  let least = Infinity;
  // Infinity − infinity and NaN − NaN are NaN, and so is every sum after it.
  let probe = 0;
  for (let index = 0; index < values.length; index++) {
    const value = values[index] as number;
    probe += value - value;
    least = Math.min(least, value);
  }
  return least + probe;
}

function count(values: Iterable<number>, matches: (value: number) => boolean): number {
  let total = 0;
  for (const value of values) if (matches(value)) total++;
  return total;
}

/** The state dict in a file without nesting, and the changes to its keys. */
interface FlatSelection {
  readonly stateDict: StateDict;
  readonly removedPrefix: string;
  readonly notes: readonly string[];
}

/**
 * The state dict in a file without any structure but its keys: those below `key` where given, without wrappers'
 * prefixes such as `module.`.
 *
 * @throws InputError (`argument`) if no key begins with `key`
 */
function selectFlat(tensors: StateDict, key: string | undefined, subject: string): FlatSelection {
  const outer = key ? `${key}.` : "";
  const group = new Map([...tensors].filter(([name]) => name.startsWith(outer)));
  const stripped = outer === "" ? group : removePrefix(group, outer)?.entries;
  if (key && (group.size === 0 || !stripped))
    throw new InputError({
      code: "argument",
      subject: `--key ${key}`,
      found: `no tensors at that path in ${subject}`,
      expected: "a prefix of the state dict's keys",
      remedy: "omit --key, or choose another",
    });
  const { entries, prefix, others } = removeWrapperPrefix(stripped ?? group);
  const removedPrefix = outer + prefix;
  const left = tensors.size - group.size;
  return {
    stateDict: entries,
    removedPrefix,
    notes: [
      ...(left > 0 ? [`ignored ${left} tensors outside ${quote(outer)}`] : []),
      ...(removedPrefix
        ? [`removed the prefix ${quote(removedPrefix)} from ${entries.size - others.length} keys`]
        : []),
      ...(others.length > 0 ? [`keys without it: ${others.slice(0, 8).map(quote).join(", ")}`] : []),
    ],
  };
}

/** The weights in a file, and their place in it. */
export interface DecodedWeights extends Omit<DecodedCheckpoint, "container"> {
  /** The file's format, by its content. */
  readonly format: FileFormat;
  /** The PyTorch container of a checkpoint, or the format itself. */
  readonly container: DecodedCheckpoint["container"] | Exclude<FileFormat, "pth">;
  /** The metadata of a safetensors file; empty for other formats. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Options for reading a file of weights. */
export interface DecodeWeightsOptions {
  /** Name of the file in messages. */
  readonly subject: string;
  /** Path of the state dict inside the file, or the prefix of its keys. */
  readonly key?: string;
  /** The format that it must have; found by content otherwise. */
  readonly format?: WeightsFormat;
}

/** Reads the state dict; fields that a format does not have are absent. */
type Decoder = (
  bytes: ByteSource,
  subject: string,
  key: string | undefined,
) => FlatSelection & Partial<Omit<DecodedWeights, "format">>;

const DECODERS: Readonly<Record<WeightsFormat, Decoder>> = {
  pth: (bytes, subject, key) => decodePth(bytes, { subject, ...(key === undefined ? {} : { key }) }),
  safetensors(bytes, subject, key) {
    const { stateDict, metadata } = decodeSafetensors(bytes, subject);
    return { ...selectFlat(stateDict, key, subject), metadata };
  },
  npz(bytes, subject, key) {
    const tensors = decodeNpz(bytes, subject);
    expectWeights([...tensors.keys()], subject);
    return selectFlat(tensors, key, subject);
  },
};

/**
 * Reads the weights of a PyTorch checkpoint, a safetensors file or an .npz of arrays, bit for bit.
 *
 * @throws InputError `format` for bytes of another format or broken ones, `unsupported` for refused content, `argument`
 * for a `key` without tensors
 */
export function decodeWeights(
  file: Bytes,
  { subject, key, format: wanted }: DecodeWeightsOptions,
): DecodedWeights {
  const bytes = toSource(file);
  const format = formatOf(bytes, wanted, subject);
  expectOwnName(bytes, format, subject);
  const decoded = DECODERS[format](bytes, subject, key);
  const container = format === "pth" ? "zip" : format;
  return { format, container, metadata: new Map(), wrapperPath: "", modelClass: "", ...decoded };
}

/** Whether an .npz archive contains weights: a recording has its input and output, and no parameters. */
export function isWeightsArchive(names: readonly string[]): boolean {
  return (
    !names.includes("input") && !names.includes("output") && names.some((name) => name.endsWith(".weight"))
  );
}

/**
 * The same bytes can be valid in several formats, with different weights: a program that goes by the file's name would load others.
 *
 * @throws InputError (`format`) if a file has the name of another format
 */
export function expectOwnName(bytes: ByteSource, format: FileFormat, subject: string): void {
  const named = formatOfName(subject) ?? format;
  const [first] = headOf(bytes, 1);
  // Anything that is not known counts as a checkpoint, as does an .npz that is cut short.
  const isKnown = format !== "pth" || (isModelFormat(named) && (first === 0x80 || first === 0x50));
  const isFolder = FORMATS[format].main !== undefined;
  if (named === format || !isKnown || isFolder) return;
  throw new InputError({
    code: "format",
    subject,
    found: FORMATS[format].noun,
    expected: `${FORMATS[named].noun}, according to its name`,
    remedy: `rename the file to end in .${format}`,
  });
}

/** The format to read: for a file of unknown format the wanted one, whose reader reports the problem. */
function formatOf(bytes: ByteSource, wanted: WeightsFormat | undefined, subject: string): WeightsFormat {
  // PyTorch's reader names every other format.
  if (wanted === "pth") return wanted;
  const found = sniffFormat(bytes);
  if (wanted === undefined) return isModelFormat(found) ? "pth" : found;
  const [first] = headOf(bytes, 1);
  const isPickle = found === "pth" && (first === 0x80 || first === 0x50);
  const other = found === wanted ? undefined : otherKind(headOf(bytes, HEAD_BYTES));
  if (other) throw new InputError({ code: "format", subject, expected: FORMATS[wanted].noun, ...other });
  if (found === wanted || (found === "pth" && !isPickle)) return wanted;
  throw new InputError({
    code: "format",
    subject,
    found: FORMATS[found].noun,
    expected: FORMATS[wanted].noun,
    remedy: isModelFormat(found)
      ? "use the weights it was exported from"
      : `use ${found}2… instead of ${wanted}2…`,
  });
}

function expectWeights(names: readonly string[], subject: string): void {
  if (isWeightsArchive(names)) return;
  const recorded = names.includes("input") || names.includes("output");
  throw new InputError({
    code: "unsupported",
    subject,
    found: recorded ? "recorded activations" : "arrays that are not weights",
    expected: "arrays named after parameters, such as conv1.conv.weight",
    remedy: recorded ? "pass it to osnet-verify" : "save the state dict with numpy.savez",
  });
}
