#!/usr/bin/env node
import type { Command } from "commander";
import { createProgram, int, run, size } from "./commands/options.js";

const program = createProgram(
  "osnet-convert",
  "Convert OSNet (torchreid) checkpoints, and verify every layer and gate of what was written.",
);

/** Files of weights, each read and written by every command but the last kind, which is written only. */
const FORMATS = {
  pth: "a PyTorch checkpoint",
  safetensors: "a safetensors file",
  npz: "an .npz of arrays",
  onnx: "an ONNX file",
} as const;

for (const from of ["pth", "safetensors", "npz"] as const)
  for (const to of ["onnx", "pth", "safetensors", "npz"] as const) {
    const command = program
      .command(`${from}2${to}`)
      .description(`convert ${FORMATS[from]} to ${FORMATS[to]}, and verify it before it appears`)
      .argument("<checkpoint>", `${FORMATS[from]} of torchreid weights, or - for standard input`)
      .option(
        "-o, --out <file>",
        `where to write; - for standard output (default: the input's name with .${to})`,
      );
    (to === "onnx" ? addOnnxOptions(command) : addWeightsOptions(command))
      .option(
        "--arch <variant>",
        "architecture, where the checkpoint does not tell: a variant or a spec.json",
      )
      .option("--key <path>", "path of the state dict inside the checkpoint, such as model.ema")
      .option("--no-verify", "write without verifying")
      .option("--force", "replace an existing file")
      .option("--json", "print the result as JSON")
      .option("--quiet", "print nothing but errors")
      .action(async (checkpoint, options) => {
        const { convert } = await import("./commands/convert.js");
        process.exitCode = await convert(checkpoint, { from, to }, options);
      });
  }

function addOnnxOptions(command: Command): Command {
  return command
    .option("--opset <n>", "ONNX operator set (default: 17)", int("--opset", 1))
    .option(
      "--batch <n>",
      "images per run: a number, or dynamic (default: dynamic)",
      int("--batch", 1, "dynamic"),
    )
    .option("--size <HxW>", "image size, or dynamic (default: 256x128)", size("--size", "dynamic"))
    .option("--output <kind>", "features, logits, both or probabilities (default: what torchreid returns)")
    .option("--gates", "add the gate vector of every stream as an output")
    .option("--no-fold", "keep batch norms instead of folding them into the layers before")
    .option("--input-name <name>", "name of the input (default: images)")
    .option("--output-name <name>", "name of the first output (default: features)")
    .option(
      "--tolerance <number>",
      "allowed error of a layer, as a share of its largest value (default: 1e-4)",
    );
}

function addWeightsOptions(command: Command): Command {
  return command.option(
    "--dtype <type>",
    "float64, float32, float16 or bfloat16, rounded to nearest even (default: as they are)",
  );
}

program
  .command("inspect")
  .description("say what a checkpoint is: container, network, classes, weights' fingerprint, and what is odd")
  .argument("<checkpoint>", "torchreid weights (PyTorch, safetensors or .npz), or - for standard input")
  .option("--arch <variant>", "architecture, where the checkpoint does not tell: a variant or a spec.json")
  .option("--key <path>", "path of the state dict inside the checkpoint, such as model.ema")
  .option("--json", "print the inspection as JSON")
  .action(async (checkpoint, options) => {
    const { inspectFile } = await import("./commands/inspect.js");
    process.exitCode = await inspectFile(checkpoint, options);
  });

await run(program);
