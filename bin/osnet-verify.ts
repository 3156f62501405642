#!/usr/bin/env node
import { collect, createProgram, int, run, size } from "../src/cli/options.js";

const program = createProgram(
  "osnet-verify",
  "Hold an OSNet model against the checkpoint it came from, or against PyTorch's recorded activations: every layer, every gate.",
);

program
  // Options of a subcommand are its own, though the program has some of the same name.
  .enablePositionalOptions()
  .argument(
    "<candidate>",
    "the model to verify: .onnx, a TensorFlow.js folder or model.json, a recording .npz, or a checkpoint",
  )
  .option("--reference <file>", "the checkpoint it came from, or a recording .npz")
  .option(
    "--tolerance <auto|number>",
    "auto: each layer within its own rounding bound; a number: allowed drift, as a share of its largest value (default: auto against a checkpoint, 1e-4 against a recording)",
  )
  .option(
    "--backend <name>",
    "what runs the model: onnxruntime an ONNX file; tfjs-wasm, tfjs-cpu or tfjs-node a TensorFlow.js model (default: tfjs-wasm)",
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
    const { verifyFiles } = await import("../src/cli/verify.js");
    process.exitCode = await verifyFiles(candidate, options);
  });

program
  .command("suite")
  .description("verify many models, candidates and backends, as a suite file (YAML or JSON) lists them")
  .argument("[suite]", "the suite file (with --init: where to write one)")
  .option(
    "--report-dir <folder>",
    "where the reports go: suite.{json,md,xml,html,sarif} and one of each per entry",
  )
  .option("--jobs <n>", "entries at a time, each in a process of its own (default: 1)", int("--jobs", 1))
  .option("--only <text>", "entries whose name holds this, * for anything; may be given again", collect)
  .option("--fail-fast", "stop at the first entry that does not hold")
  .option("--shard <i/n>", "the i-th of n shares of the suite; join them with osnet-verify merge")
  .option("--cache <folder>", "where unchanged entries are taken from (default: .cache in the report folder)")
  .option("--no-cache", "run every entry")
  .option("--baseline <file>", "an earlier suite.json: figures much worse than its own fail")
  .option("--baseline-factor <x>", "how many times what it was a figure may become (default: 2)")
  .option("--baseline-policy <word>", "fail or warn (default: fail)")
  .option("--init", "write a commented suite file to start from")
  .option("--quiet", "print nothing but errors")
  .action(async (suite, options) => {
    const { runSuite } = await import("../src/cli/suite.js");
    process.exitCode = await runSuite(suite, options);
  });

program
  .command("merge")
  .description("join the reports of a suite's shards")
  .argument("<reports...>", "the shards' report folders, or their suite.json")
  .requiredOption("--report-dir <folder>", "where the joined reports go")
  .option("--quiet", "print nothing but errors")
  .action(async (reports, options) => {
    const { mergeReports } = await import("../src/cli/merge.js");
    process.exitCode = await mergeReports(reports, options);
  });

program.helpCommand(true).addHelpText(
  "after",
  `
Examples:
  $ osnet-verify osnet.onnx --reference osnet_x1_0_market.pth
  $ osnet-verify osnet.tfjs --reference recorded.npz --tolerance 1e-4 --report parity.html
  $ osnet-verify suite parity.yaml --report-dir parity/

Exit status: 0 parity holds, 1 it does not, 2 unusable input.`,
);

await run(program);
