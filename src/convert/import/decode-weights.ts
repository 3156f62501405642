import { type ByteSource, type Bytes, headOf, toSource } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import type { StateDict } from "../../core/tensor.js";
import { decodeNpz } from "../formats/npz.js";
import { HEAD_BYTES, otherKind } from "../formats/other-kinds.js";
import { type DecodedCheckpoint, decodePth } from "../formats/pth/decode.js";
import { removePrefix, removeWrapperPrefix } from "../formats/pth/modules.js";
import { quote } from "../formats/refusals.js";
import { type FileFormat, FORMATS, isModelFormat, type WeightsFormat } from "../formats/registry.js";
import { decodeSafetensors } from "../formats/safetensors.js";
import { sniffFormat } from "../formats/sniff.js";

/** A state dict out of a file that is one list of tensors, and how its keys were changed. */
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
      remedy: "leave out --key, or give another",
    });
  const { entries, prefix, others } = removeWrapperPrefix(stripped ?? group);
  const removedPrefix = outer + prefix;
  const left = tensors.size - group.size;
  return {
    stateDict: entries,
    removedPrefix,
    notes: [
      ...(left > 0 ? [`left out ${left} tensors outside ${quote(outer)}`] : []),
      ...(removedPrefix
        ? [`removed the prefix ${quote(removedPrefix)} from ${entries.size - others.length} keys`]
        : []),
      ...(others.length > 0 ? [`keys without it: ${others.slice(0, 8).map(quote).join(", ")}`] : []),
    ],
  };
}

/** The weights in a file, and how they lay in it. */
export interface DecodedWeights extends Omit<DecodedCheckpoint, "container"> {
  /** What the file is, by its content. */
  readonly format: FileFormat;
  /** Which of PyTorch's containers a checkpoint came in; the format again for the others. */
  readonly container: DecodedCheckpoint["container"] | Exclude<FileFormat, "pth">;
  /** What a safetensors file says of itself; nothing in the others. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** How a file of weights is read. */
export interface DecodeWeightsOptions {
  /** What messages call the file. */
  readonly subject: string;
  /** Path of the state dict inside the file, or what its keys begin with. */
  readonly key?: string;
  /** The format that it must have; found by content otherwise. */
  readonly format?: WeightsFormat;
}

/** Reads the state dict; what a format cannot say about it is left out. */
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
 * Reads the weights out of a PyTorch checkpoint, a safetensors file or an .npz of arrays, bit for bit.
 *
 * @throws InputError `format` for bytes that are none of them or broken, `unsupported` for what is refused, `argument`
 * for a `key` that leads nowhere
 */
export function decodeWeights(
  file: Bytes,
  { subject, key, format: wanted }: DecodeWeightsOptions,
): DecodedWeights {
  const bytes = toSource(file);
  const format = formatOf(bytes, wanted, subject);
  const decoded = DECODERS[format](bytes, subject, key);
  const container = format === "pth" ? "zip" : format;
  return { format, container, metadata: new Map(), wrapperPath: "", modelClass: "", ...decoded };
}

/** Whether an .npz archive holds weights: a recording has its input and output, and no parameters. */
export function isWeightsArchive(names: readonly string[]): boolean {
  return (
    !names.includes("input") && !names.includes("output") && names.some((name) => name.endsWith(".weight"))
  );
}

/** The format to read, which for a file of no known kind is its wanted one: that reader says what is wrong with it. */
function formatOf(bytes: ByteSource, wanted: WeightsFormat | undefined, subject: string): WeightsFormat {
  // PyTorch's reader knows every other format by name.
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
      ? "give the weights it was exported from"
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
    remedy: recorded ? "give it to osnet-verify" : "save the state dict with numpy.savez",
  });
}
