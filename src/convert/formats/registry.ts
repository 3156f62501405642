import type { DType } from "../../core/tensor.js";

/** Formats of a state dict without a graph. */
export type WeightsFormat = "pth" | "safetensors" | "npz";

/** Formats of a graph that a runtime executes, with its weights. */
export type ModelFormat = "onnx" | "tfjs";

/** All formats that are read and written. */
export type FileFormat = WeightsFormat | ModelFormat;

/**
 * The formats, one row each. Commands, their help, output names, detection, the suite's defaults and the contract tests
 * (test/convert/formats/contract.test.ts) follow from these rows; CONTRIBUTING.md lists what else a new format needs.
 * Data only: the commands' help reads this file, so it imports no reader or writer.
 */
interface Format {
  /** What people call the format. */
  readonly title: string;
  /** A file of the format, with its article, for messages. */
  readonly noun: string;
  /** The same for the argument of `FROM2TO`. */
  readonly operand: string;
  /** The main file of a folder; absent for single-file formats. */
  readonly main?: string;
  /**
   * The suffixes of such files, without the dot; the name that `FROM2TO` gives an output ends in the format's own name.
   */
  readonly suffixes: readonly string[];
  /** Output names of this format, for commands that do not name one. */
  readonly output: RegExp;
  /** The suffixes for users, as a list. */
  readonly outputHint: string;
  /** Whether the first bytes can be this format's; absent for the fallback format. */
  readonly starts?: (head: Uint8Array) => boolean;
  /** For zip archives, the suffix of a member's name: it decides between formats that start alike. */
  readonly member?: string;
  /** Element types of weights that the format cannot store. */
  readonly lacks: readonly DType[];
}

/** JSON's white space: tab, line feed, carriage return, space. */
const WHITE_SPACE: ReadonlySet<number> = new Set([0x09, 0x0a, 0x0d, 0x20]);

const BRACE = 0x7b;

/** Whether bytes start as a zip archive does, with a local header (APPNOTE 4.3.7). */
export function isZip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x50 && bytes[1] === 0x4b && bytes[2] === 0x03 && bytes[3] === 0x04;
}

const WEIGHTS: Readonly<Record<WeightsFormat, Format>> = {
  pth: {
    title: "PyTorch",
    noun: "a PyTorch checkpoint",
    operand: "a PyTorch checkpoint with torchreid weights, or - for standard input",
    suffixes: ["pth", "pt", "pyth", "bin", "pkl", "ckpt", "tar"],
    output: /\.(pth|pt|pyth)(\.tar)?(-\d+)?$/i,
    outputHint: ".pth",
    lacks: [],
  },
  safetensors: {
    title: "safetensors",
    noun: "a safetensors file",
    operand: "a safetensors file with torchreid weights, or - for standard input",
    suffixes: ["safetensors"],
    output: /\.safetensors$/i,
    outputHint: ".safetensors",
    // The length of a JSON header, as a u64 whose upper two bytes are 0, then the header's brace.
    starts: (head) => head[6] === 0 && head[7] === 0 && head[8] === BRACE,
    lacks: [],
  },
  npz: {
    title: ".npz",
    noun: "an .npz archive of numpy arrays",
    operand: "an .npz file with torchreid weights, or - for standard input",
    suffixes: ["npz"],
    output: /\.npz$/i,
    outputHint: ".npz",
    // PyTorch's checkpoints are zip archives too.
    starts: isZip,
    member: ".npy",
    lacks: ["bfloat16"],
  },
};

const MODELS: Readonly<Record<ModelFormat, Format>> = {
  onnx: {
    title: "ONNX",
    noun: "an ONNX model",
    operand: "an ONNX file of an OSNet, or - for standard input",
    suffixes: ["onnx"],
    output: /\.onnx$/i,
    outputHint: ".onnx",
    // The IR version, which every exporter writes as the first field of ModelProto: field 1, varint.
    starts: (head) => head[0] === 0x08,
    lacks: [],
  },
  tfjs: {
    title: "TensorFlow.js",
    noun: "a TensorFlow.js model",
    operand: "the folder of a TensorFlow.js OSNet model, or its model.json",
    main: "model.json",
    suffixes: ["tfjs", "json"],
    output: /(\.tfjs|[\\/]|^(.*[\\/])?model\.json)$/i,
    outputHint: ".tfjs (a folder)",
    // A JSON object. A pickle cannot start with a brace.
    starts: (head) => head[head.findIndex((byte) => !WHITE_SPACE.has(byte))] === BRACE,
    lacks: [],
  },
};

/**
 * In the order of the help, and of detection: safetensors comes first because the length at the start of its files may
 * look like any other signature.
 */
export const FORMATS: Readonly<Record<FileFormat, Format>> = { ...WEIGHTS, ...MODELS };

/** Every format of weights only, in the order of the table. */
export const WEIGHTS_FORMATS: readonly WeightsFormat[] = Object.keys(WEIGHTS) as WeightsFormat[];

/** Every format of a graph with its weights, in the order of the table. */
export const MODEL_FORMATS: readonly ModelFormat[] = Object.keys(MODELS) as ModelFormat[];

export const FILE_FORMATS: readonly FileFormat[] = [...WEIGHTS_FORMATS, ...MODEL_FORMATS];

export function isWeightsFormat(format: FileFormat): format is WeightsFormat {
  return format in WEIGHTS;
}

/** Whether files of a format have a graph that a runtime executes, and not only weights. */
export function isModelFormat(format: FileFormat): format is ModelFormat {
  return format in MODELS;
}

/** Every suffix of a readable file, with numbers after it as in torchreid's checkpoints: `w.pth.tar-60`. */
const SUFFIXES: RegExp = new RegExp(
  `(\\.(${FILE_FORMATS.flatMap((format) => FORMATS[format].suffixes).join("|")})(-\\d+)?)+$`,
  "i",
);

/** A file's name without format suffixes: `w.pth.tar-60` is `w`. */
export function withoutSuffix(name: string): string {
  return name.replace(SUFFIXES, "");
}

/** The format of a file name's suffix; undefined if it is not one. */
export function formatOfName(name: string): FileFormat | undefined {
  const suffix = name.replace(/-\d+$/, "").split(".").at(-1)?.toLowerCase() ?? "";
  return FILE_FORMATS.find((format) => FORMATS[format].suffixes.includes(suffix));
}

/** The format of an output name; undefined if it has none. */
export function outputFormat(name: string): FileFormat | undefined {
  return FILE_FORMATS.find((format) => FORMATS[format].output.test(name));
}
