import type { Command } from "commander";
import { ONNX_DTYPES } from "../convert/export/onnx/options.js";
import { PIXEL_ORDERS } from "../convert/export/preprocess.js";
import { OUTPUT_SELECTIONS } from "../convert/export/results.js";
import { QUANTIZED_DTYPES } from "../convert/formats/tfjs/model.js";
import { FLOAT_DTYPES } from "../core/tensor-cast.js";
import { choice, int, size, tolerance } from "./options.js";
import { createProgram, type ExitStatus, runProgram } from "./program.js";
import type { Io } from "./terminal.js";

const FORMATS = {
  pth: "a PyTorch checkpoint",
  safetensors: "a safetensors file",
  npz: "an .npz of arrays",
  onnx: "an ONNX file",
  tfjs: "a TensorFlow.js model",
} as const;

const SOURCES: { readonly [F in keyof typeof FORMATS]: string } = {
  pth: "a PyTorch checkpoint of torchreid weights, or - for standard input",
  safetensors: "a safetensors file of torchreid weights, or - for standard input",
  npz: "an .npz of arrays of torchreid weights, or - for standard input",
  onnx: "an ONNX file of an OSNet, or - for standard input",
  tfjs: "the folder of a TensorFlow.js model of an OSNet, or its model.json",
};

const SINK_OPTIONS: { readonly [F in keyof typeof FORMATS]: (command: Command) => Command } = {
  onnx: addOnnxOptions,
  tfjs: addTfjsOptions,
  pth: addWeightsOptions,
  safetensors: addWeightsOptions,
  npz: addWeightsOptions,
};

/** `osnet-convert`, with its arguments after the program's name. */
export function main(argv: readonly string[], io: Io): Promise<ExitStatus> {
  return runProgram(define, argv, io);
}

function define(io: Io, end: (status: ExitStatus) => void): Command {
  const program = createProgram(
    "osnet-convert",
    "Convert OSNet (torchreid) models. What is written is verified, layer by layer and gate by gate, before it appears.",
    io,
  );
  for (const from of ["pth", "safetensors", "npz", "onnx", "tfjs"] as const) {
    program.commandsGroup(`From ${FORMATS[from]}:`);
    for (const to of ["onnx", "tfjs", "pth", "safetensors", "npz"] as const) {
      const command = program
        .command(`${from}2${to}`)
        .usage("[options] <file>")
        .summary(`to ${FORMATS[to]}`)
        .description(`Convert ${FORMATS[from]} to ${FORMATS[to]}, and verify it before it appears.`)
        .argument("<file>", SOURCES[from])
        .option(
          "-o, --out <file>",
          to === "tfjs"
            ? "folder to write (default: the input's name with .tfjs)"
            : `where to write; - for standard output (default: the input's name with .${to})`,
        );
      SINK_OPTIONS[to](command)
        .option(
          "--arch <variant>",
          "architecture, where the checkpoint does not tell: a variant or a spec.json",
        )
        .option("--key <path>", "path of the state dict inside the checkpoint, such as model.ema")
        .option("--drop-extra", "leave out what a model computes besides the network's own results")
        .option("--no-verify", "write without verifying")
        .option("--force", "replace an existing file or model")
        .option("--json", "print the result as JSON")
        .option("--quiet", "print nothing but errors")
        .action(async (file, options) => {
          const { convert } = await import("./convert.js");
          const preprocess = options.preprocess === true ? { preprocess: "rgb" } : {};
          end(await convert(file, { from, to }, { ...options, ...preprocess }, io));
        });
    }
  }

  program
    .commandsGroup("Besides:")
    .command("inspect")
    .description(
      "say what a checkpoint or a model is: container or exporter, network, classes, weights' fingerprint, and what is odd",
    )
    .argument(
      "<file>",
      "torchreid weights (PyTorch, safetensors or .npz), an ONNX file, a TensorFlow.js folder, or - for standard input",
    )
    .option("--arch <variant>", "architecture, where the checkpoint does not tell: a variant or a spec.json")
    .option("--key <path>", "path of the state dict inside the checkpoint, such as model.ema")
    .option("--json", "print the inspection as JSON")
    .action(async (file, options) => {
      const { inspectFile } = await import("./inspect.js");
      end(await inspectFile(file, options, io));
    });

  return program.helpCommand(true).addHelpText(
    "after",
    `
Examples:
  $ osnet-convert pth2onnx osnet_x1_0_market.pth -o osnet.onnx
  $ osnet-convert pth2tfjs osnet_x1_0_market.pth --quantize uint8
  $ osnet-convert onnx2pth theirs.onnx -o osnet.pth
  $ osnet-convert inspect osnet_x1_0_market.pth

osnet-convert <command> --help lists a command's options; osnet-verify holds a model against its checkpoint.`,
  );
}

function addOnnxOptions(command: Command): Command {
  return addModelOptions(
    command
      .option(
        "--like <file.onnx>",
        "names, opset, batch, size, outputs, folding, types, preprocessing and external data as that file has them, where no option says otherwise",
      )
      .option("--opset <n>", "ONNX operator set (default: 17)", int("--opset", 1))
      .option(
        "--dtype <type>",
        "float32, or float16 for weights and all values between (default: float32)",
        choice("--dtype", ONNX_DTYPES),
      )
      .option(
        "--io-dtype <type>",
        "float32 or float16 for the input and the results (default: float32)",
        choice("--io-dtype", ONNX_DTYPES),
      )
      .option("--external-data", "weights in a file of their own beside the model, NAME.onnx.data")
      .option("--no-external-data", "weights inside the model, whatever --like has"),
  );
}

function addTfjsOptions(command: Command): Command {
  return addModelOptions(
    command
      .option(
        "--tfjs-format <kind>",
        "graph, or layers for a trainable Keras model (default: graph)",
        choice("--tfjs-format", ["graph", "layers"]),
      )
      .option(
        "--quantize <dtype>",
        "store weights as float16, uint16 or uint8; the report says what that costs (default: float32)",
        choice("--quantize", QUANTIZED_DTYPES),
      )
      .option("--no-fuse", "TensorFlow's own operators only: biases and ReLUs apart from convolutions"),
  );
}

function addModelOptions(command: Command): Command {
  return command
    .option(
      "--batch <n>",
      "images per run: a number, or dynamic (default: dynamic)",
      int("--batch", 1, "dynamic"),
    )
    .option(
      "--preprocess [order]",
      "take raw pixels of 0 to 255, rgb or bgr (default: rgb), and normalise them in the model",
      choice("--preprocess", PIXEL_ORDERS, "give the file first, or say --preprocess=rgb"),
    )
    .option("--size <HxW>", "image size, or dynamic (default: 256x128)", size("--size", "dynamic"))
    .option(
      "--output <kind>",
      "features, logits, both or probabilities (default: what torchreid returns)",
      choice("--output", OUTPUT_SELECTIONS),
    )
    .option("--gates", "add the gate vector of every stream as an output")
    .option("--fold", "fold batch norms into the layers before (default)")
    .option("--no-fold", "keep batch norms instead of folding them into the layers before")
    .option("--input-name <name>", "name of the input (default: images)")
    .option("--output-name <name>", "name of the first output (default: features)")
    .option(
      "--tolerance <auto|number>",
      "auto: each layer within its own rounding bound; a number: allowed drift, as a share of its largest value (default: auto)",
      tolerance,
    );
}

function addWeightsOptions(command: Command): Command {
  return command.option(
    "--dtype <type>",
    "float64, float32, float16 or bfloat16, rounded to nearest even (default: as they are)",
    choice("--dtype", FLOAT_DTYPES),
  );
}
