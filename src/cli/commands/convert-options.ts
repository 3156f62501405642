import type { Command } from "commander";
import { ONNX_DTYPES, OUTPUT_SELECTIONS, PIXEL_ORDERS } from "../../convert/export/options.js";
import {
  FILE_FORMATS,
  type FileFormat,
  FORMATS,
  isModelFormat,
  MODEL_FORMATS,
  WEIGHTS_FORMATS,
} from "../../convert/formats/registry.js";
import { QUANTIZED_DTYPES } from "../../convert/formats/tfjs/model.js";
import { FLOAT_DTYPES } from "../../core/tensor-cast.js";
import { alternatives, badArgument, choice, int, size, tolerance } from "../options.js";

const GROUPS = { model: "Model:", numbers: "Numbers:", names: "Names:", checks: "Checks:" } as const;

interface OptionRow {
  readonly flags: string;
  readonly group: keyof typeof GROUPS;
  readonly description: string;
  /** The output formats that have the option; all by default. */
  readonly formats?: readonly FileFormat[];
  readonly parse?: (text: string) => unknown;
}

/** All options of conversions except those of {@link addOutputOptions}, in the order of the help. */
const OPTIONS: readonly OptionRow[] = [
  {
    flags: "--arch <variant>",
    group: "model",
    description: "architecture, if it cannot be inferred: a variant such as osnet_x1_0, or a spec.json",
  },
  {
    flags: "--key <path>",
    group: "model",
    description: "path of the state dict inside the checkpoint, such as model.ema",
  },
  {
    flags: "--size <HxW>",
    group: "model",
    formats: MODEL_FORMATS,
    description: "image size, or dynamic (default: that of a model, or 256x128)",
    parse: size("--size", "dynamic"),
  },
  {
    flags: "--batch <n>",
    group: "model",
    formats: MODEL_FORMATS,
    description: "images per run: a number, or dynamic (default: dynamic)",
    parse: int("--batch", 1, "dynamic"),
  },
  {
    flags: "--output <kind>",
    group: "model",
    formats: MODEL_FORMATS,
    description: "features, logits, both or probabilities (default: what torchreid returns)",
    parse: choice("--output", OUTPUT_SELECTIONS, "choose one, or use -o to name the output file"),
  },
  {
    flags: "--gates",
    group: "model",
    formats: MODEL_FORMATS,
    description: "add the gate vector of every stream as an output",
  },
  {
    flags: "--preprocess [order]",
    group: "model",
    formats: MODEL_FORMATS,
    description:
      "accept raw pixels (0 to 255) in rgb or bgr order (default: rgb), and normalise them inside the model",
    parse: choice("--preprocess", PIXEL_ORDERS, "put the file before this option, or write --preprocess=rgb"),
  },
  {
    flags: "--fold",
    group: "model",
    formats: MODEL_FORMATS,
    description: "fold batch norms into the layers before them (default)",
  },
  { flags: "--no-fold", group: "model", formats: MODEL_FORMATS, description: "keep batch norms" },
  {
    flags: "--keep-denormals",
    group: "model",
    formats: MODEL_FORMATS,
    description:
      "keep denormal weights of dead channels (default: write zeros, which changes no output and runs faster)",
  },
  {
    flags: "--no-fuse",
    group: "model",
    formats: ["tfjs"],
    description: "use only TensorFlow's standard operators, with biases and ReLUs as separate nodes",
  },
  {
    flags: "--tfjs-format <kind>",
    group: "model",
    formats: ["tfjs"],
    description: "graph, or layers for a trainable Keras model (default: graph)",
    parse: choice("--tfjs-format", ["graph", "layers"]),
  },
  {
    flags: "--opset <n>",
    group: "model",
    formats: ["onnx"],
    description: "ONNX operator set, 11 to 26 (default: 17)",
    parse: int("--opset", 1),
  },
  {
    flags: "--drop-extra",
    group: "model",
    description: "drop operators and outputs of the source model that are not part of the network",
  },
  {
    flags: "--dtype <type>",
    group: "numbers",
    formats: ["onnx"],
    description: "float32, or float16 for weights and all intermediate values (default: float32)",
    parse: choice("--dtype", ONNX_DTYPES),
  },
  {
    flags: "--dtype <type>",
    group: "numbers",
    formats: WEIGHTS_FORMATS,
    description: "float64, float32, float16 or bfloat16, rounded to nearest even (default: unchanged)",
    parse: choice("--dtype", FLOAT_DTYPES),
  },
  {
    flags: "--io-dtype <type>",
    group: "numbers",
    formats: ["onnx"],
    description: "float32 or float16 for the input and the outputs (default: float32)",
    parse: choice("--io-dtype", ONNX_DTYPES),
  },
  {
    flags: "--quantize <dtype>",
    group: "numbers",
    formats: ["tfjs"],
    description: "store weights as float16, uint16 or uint8; the report states the loss",
    parse: choice("--quantize", QUANTIZED_DTYPES),
  },
  {
    flags: "--input-name <name>",
    group: "names",
    formats: MODEL_FORMATS,
    description: "name of the input (default: images)",
  },
  {
    flags: "--output-name <name>",
    group: "names",
    formats: MODEL_FORMATS,
    description: "name of the first output (default: features)",
  },
  {
    flags: "--like <file.onnx>",
    group: "names",
    formats: ["onnx"],
    description:
      "copy names, opset, batch, size, outputs, folding, types, preprocessing and external data from this file; other options override it",
  },
  {
    flags: "--external-data",
    group: "names",
    formats: ["onnx"],
    description: "store the weights in a separate file, NAME.onnx.data",
  },
  {
    flags: "--no-external-data",
    group: "names",
    formats: ["onnx"],
    description: "store the weights inside the model, even if --like says otherwise",
  },
  {
    flags: "--tolerance <auto|number>",
    group: "checks",
    formats: MODEL_FORMATS,
    description:
      "auto: each layer within its own rounding bound; a number: allowed error relative to the layer's largest value (default: auto)",
    parse: tolerance,
  },
  { flags: "--no-verify", group: "checks", description: "write without verifying" },
];

/** The suffixes that `-o` recognises, as a list in words. */
export const OUTPUT_NAMES: string = alternatives(FILE_FORMATS.map((format) => FORMATS[format].outputHint));

function applies({ formats }: OptionRow, format: FileFormat): boolean {
  return formats?.includes(format) ?? true;
}

/** Adds the options of an output format, under their headings. */
export function addConvertOptions(command: Command, format: FileFormat): Command {
  return addRows(
    command,
    OPTIONS.filter((row) => applies(row, format)),
  );
}

/** `ONNX`, or `weights` for all formats of weights. */
function namesOf(formats: readonly FileFormat[]): readonly string[] {
  const models = formats.filter(isModelFormat).map((format) => FORMATS[format].title);
  return formats.some((format) => !isModelFormat(format)) ? [...models, "weights"] : models;
}

/**
 * Adds the options of all output formats, as text: the output's name determines which of them apply, and then the
 * command for the two formats parses them.
 */
export function addAllConvertOptions(command: Command): Command {
  const union = new Map<string, OptionRow>();
  for (const row of OPTIONS) {
    const { flags, formats = FILE_FORMATS, description } = row;
    const earlier = union.get(flags);
    const names = namesOf(formats);
    const only = names.length === 1 ? ` [${names.join()}]` : "";
    if (!earlier) union.set(flags, { ...row, description: `${description}${only}` });
    else {
      const { parse: _, ...texts } = earlier;
      union.set(flags, { ...texts, description: `${earlier.description}; ${description}${only}` });
    }
  }
  return addRows(command, [...union.values()]);
}

function addRows(command: Command, rows: readonly OptionRow[]): Command {
  for (const { flags, description, group, parse } of rows) {
    const option = command.createOption(flags, description).helpGroup(GROUPS[group]);
    command.addOption(parse ? option.argParser(parse) : option);
  }
  return command;
}

/** Options of every conversion for the output and for printing. */
export function addOutputOptions(command: Command, out: string): Command {
  return command
    .option("-o, --out <file>", out)
    .option("--force", "replace an existing file or model")
    .option("--json", "print the result as JSON")
    .option("--quiet", "print nothing but errors");
}

/** @throws InputError (`argument`) if an option was given that the output format does not support */
export function expectOptionsOf(command: Command, format: FileFormat): void {
  for (const option of command.options) {
    const name = option.attributeName();
    if (command.getOptionValueSource(name) !== "cli") continue;
    const rows = OPTIONS.filter(({ flags }) => flags === option.flags);
    if (rows.length === 0 || rows.some((row) => applies(row, format))) continue;
    // --fold and --no-fold are one value.
    if (option.negate !== (command.getOptionValue(name) === false)) continue;
    throw badArgument(
      option.long ?? option.flags,
      `${FORMATS[format].title} output`,
      `${alternatives(namesOf(rows.flatMap(({ formats }) => formats ?? [])))} output, which this option is for`,
      "omit the option, or change the output's name",
    );
  }
}
