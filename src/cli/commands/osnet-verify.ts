import type { Command } from "commander";
import { PIXEL_ORDERS } from "../../convert/export/options.js";
import { FORMATS, MODEL_FORMATS } from "../../convert/formats/registry.js";
import { engineOf, RUNTIMES, runtimesMeant, usualRuntimes } from "../../verify/backends/registry.js";
import { DISTANCE_METRICS } from "../../verify/ranking/distances.js";
import {
  alternatives,
  baselineFactor,
  choice,
  int,
  list,
  shard,
  share,
  size,
  tolerance,
} from "../options.js";
import { createProgram, type ExitStatus, runProgram } from "../program.js";
import type { Io } from "../terminal.js";

/** `osnet-verify`, with its arguments after the program's name. */
export function main(argv: readonly string[], io: Io): Promise<ExitStatus> {
  return runProgram(define, argv, io);
}

/** The runtimes of each format, for the help. */
function runtimes(): string {
  return MODEL_FORMATS.map(
    (format) => `${usualRuntimes(format).join(", ")} for ${FORMATS[format].title}`,
  ).join("; ");
}

/** A runtime. The meaning of an engine's name depends on the model, which is not open yet. */
const BACKEND = choice("--backend", RUNTIMES, undefined, (text) => {
  const meant = runtimesMeant(text).map((name) => `${name} for ${FORMATS[engineOf(name).runs].noun}`);
  return meant.length > 0 ? `write ${alternatives(meant)}` : undefined;
});

/** Options for the comparison with an earlier report. */
function addBaselineOptions(command: Command, baseline: string): Command {
  return command
    .option("--baseline <file>", baseline)
    .option(
      "--baseline-factor <x>",
      "how many times its earlier value a figure may reach (default: 2)",
      baselineFactor,
    )
    .option(
      "--baseline-policy <word>",
      "fail or warn (default: fail)",
      choice("--baseline-policy", ["fail", "warn"]),
    );
}

/** The options of commands that embed pictures. @param models the noun for help texts: models, or candidates */
function addEmbeddingOptions(command: Command, models: string): Command {
  return command
    .option(
      "--max-broken <share>",
      "share of pictures that may be unreadable (default: 0.01)",
      share("--max-broken"),
    )
    .option("--cache <folder>", "keep features in this folder, to resume or repeat a run")
    .option("--size <HxW>", "picture size (default: the model's own, else 256x128)", size("--size"))
    .option(
      "--backend <name>",
      `runtime for the ${models} of its format (default: the first one installed); can be repeated`,
      list(BACKEND),
    )
    .option("--output <name>", "the output to take as the embedding (default: the first)")
    .option(
      "--input-order <order>",
      `channel order of the ${models}' input: rgb or bgr (default: as the file states, else rgb)`,
      choice("--input-order", PIXEL_ORDERS),
    )
    .option("--arch <variant>", "architecture of a checkpoint, if it cannot be inferred")
    .option("--key <path>", "path of the state dict inside the checkpoint");
}

function define(io: Io, end: (status: ExitStatus) => void): Command {
  const program = createProgram(
    "osnet-verify",
    "Compare an OSNet model with the checkpoint it came from, or with activations recorded from PyTorch, layer by layer and gate by gate.",
    io,
  );

  program
    .usage("[options] <candidate> <reference>")
    // A subcommand has its own options, even if the program has options of the same name.
    .enablePositionalOptions()
    .argument(
      "<candidate>",
      "the model to verify: .onnx, a TensorFlow.js folder or model.json, a recording (.npz), or a checkpoint",
    )
    .argument(
      "[reference]",
      "what to compare it with: the original checkpoint, a PyTorch recording (.npz), or another model",
    )
    .optionsGroup("Model:")
    .option("--reference <file>", "same as the second argument")
    .option("--arch <variant>", "architecture, if it cannot be inferred: a variant or a spec.json")
    .option("--key <path>", "path of the state dict inside the checkpoint, such as model.ema")
    .option("--backend <name>", `runtime: ${runtimes()} (default: the first one installed)`, BACKEND)
    .optionsGroup("Images:")
    .option(
      "--input <source...>",
      "images: seed:N, auto, an .npy of [N, 3, H, W], or .jpg and .png pictures (default: seed:0)",
    )
    .option("--batch <n>", "number of seeded images (default: the model's own, else 2)", int("--batch", 1))
    .option(
      "--size <HxW>",
      "size of seeded images and pictures (default: the model's own, else 256x128)",
      size("--size"),
    )
    .option(
      "--input-order <order>",
      "channel order of the candidate's input: rgb or bgr (default: as the file states, else rgb)",
      choice("--input-order", PIXEL_ORDERS),
    )
    .optionsGroup("Checks:")
    .option(
      "--tolerance <auto|number>",
      "auto: each layer within its own rounding bound; a number: allowed error relative to the layer's largest value (default: auto against a checkpoint, 1e-4 against a recording)",
      tolerance,
    )
    .option("--output <name>", "judge this output only (default: judge all, the first as the embedding)");
  addBaselineOptions(program, "earlier .json report: fail if a figure has become much worse")
    .option("--jobs <n>", "number of threads (default: one per processor, at most 4)", int("--jobs", 1))
    .optionsGroup("Reports:")
    .option(
      "--report <file>",
      "write a report to a .json, .md, .xml (JUnit), .html or .sarif file; can be repeated",
      list(String),
    )
    .option("--layers", "show all layers and gates, in network order")
    .option("--json", "print the report as JSON")
    .option("--quiet", "print nothing but errors")
    .action(async (candidate, second, options) => {
      const { verifyFiles } = await import("./verify.js");
      end(await verifyFiles(candidate, second, options, io));
    });

  const suite = program
    .command("suite")
    .description("verify many models, candidates and backends, as listed in a suite file (YAML or JSON)")
    .argument("[suite]", "the suite file (with --init: the file to write)")
    .option(
      "--report-dir <folder>",
      "folder for the reports: suite.{json,md,xml,html,sarif}, and one of each per entry",
    )
    .option(
      "--jobs <n>",
      "entries to run at a time, each in its own process (default: one per processor, at most 4)",
      int("--jobs", 1),
    )
    .option(
      "--only <text>",
      "run entries whose name contains this text, * matches anything; can be repeated",
      list(String),
    )
    .option("--fail-fast", "stop at the first entry that fails")
    .option("--shard <i/n>", "run the i-th of n shards; join them with osnet-verify merge", shard)
    .option(
      "--cache <folder>",
      "folder with the results of unchanged entries (default: .cache in the report folder)",
    )
    .option("--no-cache", "run every entry");
  addBaselineOptions(suite, "earlier suite.json: fail if a figure has become much worse")
    .option("--init", "write a commented suite file to start from")
    .option("--quiet", "print nothing but errors")
    .action(async (file, options) => {
      const { runSuite } = await import("../suite/command.js");
      end(await runSuite(file, options, io));
    });

  program
    .command("merge")
    .description("join the reports of a suite's shards")
    .argument("<reports...>", "report folders of the shards, or their suite.json files")
    .requiredOption("--report-dir <folder>", "folder for the joined reports")
    .option("--quiet", "print nothing but errors")
    .action(async (reports, options) => {
      const { mergeReports } = await import("../suite/command.js");
      end(await mergeReports(reports, options, io));
    });

  const rank = program
    .command("rank")
    .description(
      "compare the rankings of models with a reference's on your own pictures: rank-1, mAP, changed neighbours",
    )
    .argument("<models...>", "models, checkpoints or feature files")
    .requiredOption("--reference <file>", "the checkpoint, or a feature file recorded from PyTorch")
    .requiredOption(
      "--data <folder>",
      "a data set (Market-1501, MSMT17, CUHK03, folders, .csv) or a folder of pictures",
    )
    .option("--distance <name>", "euclidean or cosine", choice("--distance", DISTANCE_METRICS), "euclidean")
    .option("--rerank", "apply k-reciprocal re-ranking (20, 6, 0.3)")
    .option("--single-shot", "also compute CMC with one gallery image per identity")
    .option(
      "--max-map-drop <share>",
      "largest accepted drop of mAP (default: 0.001)",
      share("--max-map-drop"),
    )
    .option(
      "--max-rank1-drop <share>",
      "largest accepted drop of rank-1 (default: 0.001)",
      share("--max-rank1-drop"),
    )
    .option(
      "--max-flips <share>",
      "share of queries whose nearest picture may change (default: 0.01)",
      share("--max-flips"),
    );
  addEmbeddingOptions(rank, "candidates")
    .option(
      "--report <file>",
      "write a report to a .json, .md, .xml (JUnit) or .html file; can be repeated",
      list(String),
    )
    .option("--pictures", "show the pictures of the worst queries in the .html report")
    .option("--json", "print the report as JSON")
    .option("--quiet", "print nothing but errors")
    .action(async (models, options) => {
      const { rankCommand } = await import("../ranking/rank.js");
      end(await rankCommand(models, options, io));
    });

  const embed = program
    .command("embed")
    .description("write the features of pictures to a file, with a list of the pictures beside it")
    .argument("<model>", "a model or a checkpoint")
    .requiredOption("--data <folder>", "a data set or a folder of pictures")
    .requiredOption(
      "-o, --out <file>",
      "the .npy, .npz or .safetensors file to write; the picture paths go to a .txt beside it",
    )
    .option("--shard <i/n>", "embed the i-th of n shards of the pictures", shard);
  addEmbeddingOptions(embed, "models")
    .option("--force", "replace existing files")
    .option("--quiet", "print nothing but errors")
    .action(async (model, options) => {
      const { embedCommand } = await import("../ranking/features.js");
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
