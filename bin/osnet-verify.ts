#!/usr/bin/env node
import { collect, createProgram, int, run, size } from "./commands/options.js";

const program = createProgram(
  "osnet-verify",
  "Hold an OSNet model against the checkpoint it came from, or against PyTorch's recorded activations: every layer, every gate.",
);

program
  .argument(
    "<candidate>",
    "the model to verify: .onnx, a TensorFlow.js folder or model.json, a recording .npz, or a checkpoint",
  )
  .requiredOption("--reference <file>", "the checkpoint it came from, or a recording .npz")
  .option("--tolerance <number>", "allowed error of a layer, as a share of its largest value (default: 1e-4)")
  .option(
    "--backend <name>",
    "what runs a TensorFlow.js model: tfjs-wasm, tfjs-cpu or tfjs-node (default: tfjs-wasm)",
  )
  .option(
    "--input <source...>",
    "images: seed:N, auto, an .npy of [N, 3, H, W], or .jpg and .png pictures (default: seed:0)",
  )
  .option("--batch <n>", "seeded images per run (default: what the model fixes, else 2)", int("--batch", 1))
  .option(
    "--size <HxW>",
    "size of seeded images and pictures (default: what the model fixes, else 256x128)",
    size("--size"),
  )
  .option("--arch <variant>", "architecture, where the checkpoint does not tell: a variant or a spec.json")
  .option("--key <path>", "path of the state dict inside the checkpoint, such as model.ema")
  .option(
    "--report <file>",
    "write the report to a .json, .md, .xml (JUnit), .html or .sarif file; may be given again",
    collect,
  )
  .option("--baseline <file>", "an earlier .json report: figures much worse than its own fail")
  .option("--baseline-factor <x>", "how many times what it was a figure may become (default: 2)")
  .option("--baseline-policy <word>", "fail or warn (default: fail)")
  .option("--layers", "show all layers and gates, in network order")
  .option("--json", "print the report as JSON")
  .option("--quiet", "print nothing but errors")
  .action(async (candidate, options) => {
    const { verifyFiles } = await import("./commands/verify.js");
    process.exitCode = await verifyFiles(candidate, options);
  });

await run(program);
