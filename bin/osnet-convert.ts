#!/usr/bin/env node
import { createProgram, int, runCommand, size } from "./commands/options.js";

const program = createProgram(
  "osnet-convert",
  "Convert OSNet (torchreid) checkpoints, and verify every layer and gate of what was written.",
);

program
  .command("pth2onnx")
  .description("convert a PyTorch checkpoint to an ONNX file, and verify it before it appears")
  .argument("<checkpoint>", "torchreid checkpoint (.pth, .pth.tar, …), or - for standard input")
  .option("-o, --out <file>", "where to write; - for standard output (default: the input's name with .onnx)")
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
  .option("--arch <variant>", "architecture, where the checkpoint does not tell: a variant or a spec.json")
  .option("--key <path>", "path of the state dict inside the checkpoint, such as model.ema")
  .option("--tolerance <number>", "allowed error of a layer, as a share of its largest value (default: 1e-4)")
  .option("--no-verify", "write without verifying")
  .option("--force", "replace an existing file")
  .option("--json", "print the result as JSON")
  .option("--quiet", "print nothing but errors")
  .action((checkpoint, options) =>
    runCommand(async () => (await import("./commands/pth2onnx.js")).pth2onnx(checkpoint, options)),
  );

await program.parseAsync();
