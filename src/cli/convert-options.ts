import type { Command } from "commander";
import { ONNX_DTYPES } from "../convert/export/onnx/options.js";
import { PIXEL_ORDERS } from "../convert/export/preprocess.js";
import { OUTPUT_SELECTIONS } from "../convert/export/results.js";
import { QUANTIZED_DTYPES } from "../convert/formats/tfjs/model.js";
import { FLOAT_DTYPES } from "../core/tensor-cast.js";
import { badArgument, choice, int, size, tolerance } from "./options.js";

/** What is written: each kind of file has options of its own. */
export type OutputKind = "onnx" | "tfjs" | "weights";

const GROUPS = { model: "Model:", numbers: "Numbers:", names: "Names:", checks: "Checks:" } as const;

interface OptionRow {
  readonly flags: string;
  readonly group: keyof typeof GROUPS;
  readonly description: string;
  /** The kinds of output that have the option; all by default. */
  readonly kinds?: readonly OutputKind[];
  readonly parse?: (text: string) => unknown;
}

const MODELS: readonly OutputKind[] = ["onnx", "tfjs"];

/** All options of conversions but those of {@link addOutputOptions}, in the order of the help. */
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
    kinds: MODELS,
    description: "image size, or dynamic (default: 256x128)",
    parse: size("--size", "dynamic"),
  },
  {
    flags: "--batch <n>",
    group: "model",
    kinds: MODELS,
    description: "images per run: a number, or dynamic (default: dynamic)",
    parse: int("--batch", 1, "dynamic"),
  },
  {
    flags: "--output <kind>",
    group: "model",
    kinds: MODELS,
    description: "features, logits, both or probabilities (default: what torchreid returns)",
    parse: choice("--output", OUTPUT_SELECTIONS, "choose one of them, or name the file with -o"),
  },
  {
    flags: "--gates",
    group: "model",
    kinds: MODELS,
    description: "add the gate vector of every stream as an output",
  },
  {
    flags: "--preprocess [order]",
    group: "model",
    kinds: MODELS,
    description:
      "take raw pixels of 0 to 255, rgb or bgr (default: rgb), and normalise them inside the model",
    parse: choice("--preprocess", PIXEL_ORDERS, "give the file first, or say --preprocess=rgb"),
  },
  {
    flags: "--fold",
    group: "model",
    kinds: MODELS,
    description: "fold batch norms into the layers before them (default)",
  },
  { flags: "--no-fold", group: "model", kinds: MODELS, description: "keep batch norms" },
  {
    flags: "--keep-denormals",
    group: "model",
    kinds: MODELS,
    description:
      "keep tiny weights of dead channels, which are zeros otherwise: they cannot be seen, and slow a model down",
  },
  {
    flags: "--no-fuse",
    group: "model",
    kinds: ["tfjs"],
    description: "TensorFlow's own operators only: biases and ReLUs apart from convolutions",
  },
  {
    flags: "--tfjs-format <kind>",
    group: "model",
    kinds: ["tfjs"],
    description: "graph, or layers for a trainable Keras model (default: graph)",
    parse: choice("--tfjs-format", ["graph", "layers"]),
  },
  {
    flags: "--opset <n>",
    group: "model",
    kinds: ["onnx"],
    description: "ONNX operator set, 11 to 26 (default: 17)",
    parse: int("--opset", 1),
  },
  {
    flags: "--drop-extra",
    group: "model",
    description: "leave out what a source model computes besides the network's own results",
  },
  {
    flags: "--dtype <type>",
    group: "numbers",
    kinds: ["onnx"],
    description: "float32, or float16 for weights and all inner values (default: float32)",
    parse: choice("--dtype", ONNX_DTYPES),
  },
  {
    flags: "--dtype <type>",
    group: "numbers",
    kinds: ["weights"],
    description: "float64, float32, float16 or bfloat16, rounded to nearest even (default: unchanged)",
    parse: choice("--dtype", FLOAT_DTYPES),
  },
  {
    flags: "--io-dtype <type>",
    group: "numbers",
    kinds: ["onnx"],
    description: "float32 or float16 for the input and the results (default: float32)",
    parse: choice("--io-dtype", ONNX_DTYPES),
  },
  {
    flags: "--quantize <dtype>",
    group: "numbers",
    kinds: ["tfjs"],
    description: "store weights as float16, uint16 or uint8; the report says what that costs",
    parse: choice("--quantize", QUANTIZED_DTYPES),
  },
  {
    flags: "--input-name <name>",
    group: "names",
    kinds: MODELS,
    description: "name of the input (default: images)",
  },
  {
    flags: "--output-name <name>",
    group: "names",
    kinds: MODELS,
    description: "name of the first output (default: features)",
  },
  {
    flags: "--like <file.onnx>",
    group: "names",
    kinds: ["onnx"],
    description:
      "names, opset, batch, size, outputs, folding, types, preprocessing and external data as that file has them, unless an option says otherwise",
  },
  {
    flags: "--external-data",
    group: "names",
    kinds: ["onnx"],
    description: "weights in a file of their own beside the model, NAME.onnx.data",
  },
  {
    flags: "--no-external-data",
    group: "names",
    kinds: ["onnx"],
    description: "weights inside the model, whatever --like says",
  },
  {
    flags: "--tolerance <auto|number>",
    group: "checks",
    kinds: MODELS,
    description:
      "auto: each layer within its own rounding bound; a number: allowed drift, as a share of its largest value (default: auto)",
    parse: tolerance,
  },
  { flags: "--no-verify", group: "checks", description: "write without verifying" },
];

/** Adds the options that a kind of output has, under their headings. */
export function addConvertOptions(command: Command, kind: OutputKind): Command {
  return addRows(
    command,
    OPTIONS.filter(({ kinds }) => kinds?.includes(kind) ?? true),
  );
}

const KIND_NAMES: Readonly<Record<OutputKind, string>> = {
  onnx: "ONNX",
  tfjs: "TensorFlow.js",
  weights: "weights",
};

/**
 * Adds the options of all kinds of output, as texts: which of them apply is known once the output is, and then the
 * command of those two formats reads them.
 */
export function addAllConvertOptions(command: Command): Command {
  const union = new Map<string, OptionRow>();
  for (const row of OPTIONS) {
    const { flags, kinds, description } = row;
    const earlier = union.get(flags);
    const only = kinds?.length === 1 ? ` [${kinds.map((kind) => KIND_NAMES[kind]).join()}]` : "";
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

/** The options of every conversion that say where the result goes and what is printed. */
export function addOutputOptions(command: Command, out: string): Command {
  return command
    .option("-o, --out <file>", out)
    .option("--force", "replace an existing file or model")
    .option("--json", "print the result as JSON")
    .option("--quiet", "print nothing but errors");
}

/** @throws InputError (`argument`) if an option was given that a kind of output does not have */
export function expectOptionsOf(command: Command, kind: OutputKind): void {
  for (const option of command.options) {
    const name = option.attributeName();
    if (command.getOptionValueSource(name) !== "cli") continue;
    const rows = OPTIONS.filter(({ flags }) => flags === option.flags);
    if (rows.length === 0 || rows.some(({ kinds }) => kinds?.includes(kind) ?? true)) continue;
    // --fold and --no-fold are one value.
    if (option.negate !== (command.getOptionValue(name) === false)) continue;
    const having = new Set(rows.flatMap(({ kinds }) => kinds ?? []).map((have) => KIND_NAMES[have]));
    throw badArgument(
      option.long ?? option.flags,
      `an output of ${KIND_NAMES[kind]}`,
      `one of ${[...having].join(" or ")}, which has it`,
      "leave it out, or give -o another name",
    );
  }
}
