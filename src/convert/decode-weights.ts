import { type ByteSource, type Bytes, headOf, toSource } from "../byte-source.js";
import { InputError } from "../errors.js";
import { decodeNpz } from "./formats/npz/archive.js";
import { type DecodedCheckpoint, decodePth } from "./formats/pth/decode.js";
import { decodeSafetensors } from "./formats/safetensors/decode.js";
import { selectFlat } from "./select-flat.js";
import { type FileFormat, sniffFormat, type WeightsFormat } from "./sniff.js";

/** The weights in a file, and how they lay in it. */
export interface DecodedWeights extends Omit<DecodedCheckpoint, "container"> {
  readonly format: FileFormat;
  /** Which of PyTorch's containers a checkpoint came in; the format again for the others. */
  readonly container: DecodedCheckpoint["container"] | Exclude<FileFormat, "pth">;
  /** What a safetensors file says of itself; nothing in the others. */
  readonly metadata: ReadonlyMap<string, string>;
}

export interface DecodeWeightsOptions {
  /** What messages call the file. */
  readonly subject: string;
  /** Path of the state dict inside the file, or what its keys begin with. */
  readonly key?: string;
  /** The format that it must have; found by content otherwise. */
  readonly format?: WeightsFormat;
}

const NAMES: Readonly<Record<FileFormat, string>> = {
  pth: "a PyTorch checkpoint",
  safetensors: "a safetensors file",
  npz: "an .npz archive of numpy arrays",
  onnx: "an ONNX model",
  tfjs: "a TensorFlow.js model",
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
  const empty = { metadata: new Map<string, string>(), wrapperPath: "", modelClass: "" };
  if (format === "pth")
    return { ...empty, format, ...decodePth(bytes, { subject, ...(key === undefined ? {} : { key }) }) };
  if (format === "npz") {
    const tensors = decodeNpz(bytes, subject);
    expectWeights([...tensors.keys()], subject);
    return { ...empty, format, container: format, ...selectFlat(tensors, key, subject) };
  }
  const { stateDict, metadata } = decodeSafetensors(bytes, subject);
  return { ...empty, format, container: format, ...selectFlat(stateDict, key, subject), metadata };
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
  if (wanted === undefined) return found === "onnx" || found === "tfjs" ? "pth" : found;
  const [first] = headOf(bytes, 1);
  const isPickle = found === "pth" && (first === 0x80 || first === 0x50);
  if (found === wanted || (found === "pth" && !isPickle)) return wanted;
  throw new InputError({
    code: "format",
    subject,
    found: NAMES[found],
    expected: NAMES[wanted],
    remedy:
      found === "onnx" || found === "tfjs"
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
    found: recorded ? "recorded activations" : "arrays that are no weights",
    expected: "arrays named after parameters, such as conv1.conv.weight",
    remedy: recorded ? "give it to osnet-verify" : "save the state dict with numpy.savez",
  });
}
