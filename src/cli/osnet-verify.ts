import type { Command } from "commander";
import { PIXEL_ORDERS } from "../convert/export/preprocess.js";
import type { ModelFormat } from "../convert/formats/registry.js";
import { engineOf, RUNTIMES, runtimesMeant } from "../verify/backends/registry.js";
import { DISTANCE_METRICS } from "../verify/ranking/distances.js";
import { alternatives, baselineFactor, choice, int, list, share, size, tolerance } from "./options.js";
import { createProgram, type ExitStatus, runProgram } from "./program.js";
import type { Io } from "./terminal.js";

/** `osnet-verify`, with its arguments after the program's name. */
export function main(argv: readonly string[], io: Io): Promise<ExitStatus> {
  return runProgram(define, argv, io);
}

/** The runtimes of a format, as help lists them. */
function named(format: ModelFormat): string {
  return RUNTIMES.filter((name) => engineOf(name).runs === format).join(", ");
}

const KINDS: Readonly<Record<ModelFormat, string>> = { onnx: "an ONNX file", tfjs: "a TensorFlow.js model" };

/** A runtime. Which of them an engine's name stands for depends on the model, which is not open yet. */
const BACKEND = choice("--backend", RUNTIMES, undefined, (text) => {
  const meant = runtimesMeant(text).map((name) => `${name} for ${KINDS[engineOf(name).runs]}`);
  return meant.length > 0 ? `write ${alternatives(meant)}` : undefined;
});

function define(io: Io, end: (status: ExitStatus) => void): Command {
  const program = createProgram(
    "osnet-verify",
    "Compare an OSNet model with the checkpoint it came from, or with PyTorch's recorded activations: every layer, every gate.",
    io,
  );

  program
    .usage("[options] <candidate> <reference>")
    // Options of a subcommand are its own, though the program has some of the same name.
    .enablePositionalOptions()
    .argument(
      "<candidate>",
      "the model to verify: .onnx, a TensorFlow.js folder or model.json, a recording .npz, or a checkpoint",
    )
    .argument(
      "[reference]",
      "what it is compared with: the checkpoint it came from, PyTorch's recording .npz, or another model",
    )
    .optionsGroup("Model:")
    .option("--reference <file>", "the same as the second argument")
    .option("--arch <variant>", "architecture, if it cannot be inferred: a variant or a spec.json")
    .option("--key <path>", "path of the state dict inside the checkpoint, such as model.ema")
    .option(
      "--backend <name>",
      `what runs the model: an ONNX file ${named("onnx")}; a TensorFlow.js model ${named("tfjs")} (default: the first that is installed)`,
      BACKEND,
    )
    .optionsGroup("Images:")
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
    .option(
      "--input-order <order>",
      "order of channels in which the candidate is fed: rgb or bgr (default: what the file says, or rgb)",
      choice("--input-order", PIXEL_ORDERS),
    )
    .optionsGroup("Checks:")
    .option(
      "--tolerance <auto|number>",
      "auto: each layer within its own rounding bound; a number: allowed drift, as a share of its largest value (default: auto against a checkpoint, 1e-4 against a recording)",
      tolerance,
    )
    .option("--output <name>", "the output that counts; the others are not judged (default: the first)")
    .option("--baseline <file>", "an earlier .json report: fail where figures are much worse than there")
    .option("--baseline-factor <x>", "by which factor a figure may grow (default: 2)", baselineFactor)
    .option(
      "--baseline-policy <word>",
      "fail or warn (default: fail)",
      choice("--baseline-policy", ["fail", "warn"]),
    )
    .option(
      "--jobs <n>",
      "threads that judge layers (default: one to a processor, at most 4)",
      int("--jobs", 1),
    )
    .optionsGroup("Reports:")
    .option(
      "--report <file>",
      "write the report to a .json, .md, .xml (JUnit), .html or .sarif file; may be given again",
      list(String),
    )
    .option("--layers", "show all layers and gates, in network order")
    .option("--json", "print the report as JSON")
    .option("--quiet", "print nothing but errors")
    .action(async (candidate, second, options) => {
      const { verifyFiles } = await import("./verify.js");
      end(await verifyFiles(candidate, second, options, io));
    });

  program
    .command("suite")
    .description("verify many models, candidates and backends, as a suite file (YAML or JSON) lists them")
    .argument("[suite]", "the suite file (with --init: where to write one)")
    .option(
      "--report-dir <folder>",
      "where the reports go: suite.{json,md,xml,html,sarif} and one of each per entry",
    )
    .option(
      "--jobs <n>",
      "entries at a time, each in a process of its own (default: one to a processor, at most 4)",
      int("--jobs", 1),
    )
    .option(
      "--only <text>",
      "entries whose name contains this, * for anything; may be given again",
      list(String),
    )
    .option("--fail-fast", "stop at the first entry that fails")
    .option("--shard <i/n>", "the i-th of n shares of the suite; join them with osnet-verify merge")
    .option(
      "--cache <folder>",
      "where unchanged entries are taken from (default: .cache in the report folder)",
    )
    .option("--no-cache", "run every entry")
    .option("--baseline <file>", "an earlier suite.json: fail where figures are much worse than there")
    .option("--baseline-factor <x>", "by which factor a figure may grow (default: 2)", baselineFactor)
    .option(
      "--baseline-policy <word>",
      "fail or warn (default: fail)",
      choice("--baseline-policy", ["fail", "warn"]),
    )
    .option("--init", "write a commented suite file to start from")
    .option("--quiet", "print nothing but errors")
    .action(async (suite, options) => {
      const { runSuite } = await import("./suite.js");
      end(await runSuite(suite, options, io));
    });

  program
    .command("merge")
    .description("join the reports of a suite's shards")
    .argument("<reports...>", "the shards' report folders, or their suite.json")
    .requiredOption("--report-dir <folder>", "where the joined reports go")
    .option("--quiet", "print nothing but errors")
    .action(async (reports, options) => {
      const { mergeReports } = await import("./merge.js");
      end(await mergeReports(reports, options, io));
    });

  program
    .command("rank")
    .description(
      "rank-1, mAP and changed orders of neighbours: models against a reference, on your own pictures",
    )
    .argument("<models...>", "models, checkpoints or files of features")
    .requiredOption("--reference <file>", "the checkpoint, or a file of features recorded from PyTorch")
    .requiredOption(
      "--data <folder>",
      "a data set (Market-1501, MSMT17, CUHK03, folders, .csv) or a folder of pictures",
    )
    .option("--distance <name>", "euclidean or cosine", choice("--distance", DISTANCE_METRICS), "euclidean")
    .option("--rerank", "k-reciprocal re-ranking (20, 6, 0.3)")
    .option("--single-shot", "CMC also with one image of each identity in the gallery")
    .option("--max-map-drop <share>", "mAP may drop by (default: 0.001)", share("--max-map-drop"))
    .option("--max-rank1-drop <share>", "rank-1 may drop by (default: 0.001)", share("--max-rank1-drop"))
    .option(
      "--max-flips <share>",
      "share of queries whose nearest picture may be another (default: 0.01)",
      share("--max-flips"),
    )
    .option(
      "--max-broken <share>",
      "share of pictures that may be unreadable (default: 0.01)",
      share("--max-broken"),
    )
    .option("--cache <folder>", "where features are kept, for an interrupted or a second run")
    .option("--size <HxW>", "size of pictures (default: what the model fixes, else 256x128)", size("--size"))
    .option(
      "--backend <name>",
      "what runs candidates, instead of the first of their format that is installed; may be given again",
      list(BACKEND),
    )
    .option("--output <name>", "the output that is the embedding (default: the first)")
    .option(
      "--input-order <order>",
      "order of channels in which candidates are fed: rgb or bgr (default: what the file says, or rgb)",
      choice("--input-order", PIXEL_ORDERS),
    )
    .option("--arch <variant>", "architecture of a checkpoint, if it cannot be inferred")
    .option("--key <path>", "path of the state dict inside the checkpoint")
    .option(
      "--report <file>",
      "write the report to a .json, .md, .xml (JUnit) or .html file; may be given again",
      list(String),
    )
    .option("--pictures", "show the pictures of the worst queries in the .html report")
    .option("--json", "print the report as JSON")
    .option("--quiet", "print nothing but errors")
    .action(async (models, options) => {
      const { rankCommand } = await import("./ranking/rank.js");
      end(await rankCommand(models, options, io));
    });

  program
    .command("embed")
    .description("features of pictures, as an array with a list of files beside it")
    .argument("<model>", "a model or a checkpoint")
    .requiredOption("--data <folder>", "a data set or a folder of pictures")
    .requiredOption(
      "-o, --out <file>",
      "where the features go: .npy, .npz or .safetensors, with the paths in a .txt beside it",
    )
    .option(
      "--max-broken <share>",
      "share of pictures that may be unreadable (default: 0.01)",
      share("--max-broken"),
    )
    .option("--shard <i/n>", "the i-th of n shares of the pictures")
    .option("--cache <folder>", "where features are kept, for an interrupted run")
    .option("--size <HxW>", "size of pictures (default: what the model fixes, else 256x128)", size("--size"))
    .option(
      "--backend <name>",
      "what runs models, instead of the first of their format that is installed; may be given again",
      list(BACKEND),
    )
    .option("--output <name>", "the output that is the embedding (default: the first)")
    .option(
      "--input-order <order>",
      "order of channels in which models are fed: rgb or bgr (default: what the file says, or rgb)",
      choice("--input-order", PIXEL_ORDERS),
    )
    .option("--arch <variant>", "architecture of a checkpoint, if it cannot be inferred")
    .option("--key <path>", "path of the state dict inside the checkpoint")
    .option("--force", "replace files that are there")
    .option("--quiet", "print nothing but errors")
    .action(async (model, options) => {
      const { embedCommand } = await import("./ranking/embed.js");
      end(await embedCommand(model, options, io));
    });

  return program.helpCommand(true).addHelpText(
    "after",
    `
Examples:
  $ osnet-verify osnet.onnx osnet_x1_0_market.pth
  $ osnet-verify osnet.tfjs recorded.npz --tolerance 1e-4 --report parity.html
  $ osnet-verify suite parity.yaml --report-dir parity/

Exit status: 0 parity holds, 1 it does not, 2 unusable input.`,
  );
}
