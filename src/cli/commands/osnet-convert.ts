import type { Command } from "commander";
import { FILE_FORMATS, type FileFormat, FORMATS } from "../../convert/formats/registry.js";
import { series } from "../options.js";
import { createProgram, type ExitStatus, runProgram } from "../program.js";
import type { Io } from "../terminal.js";
import {
  addAllConvertOptions,
  addConvertOptions,
  addOutputOptions,
  OUTPUT_NAMES,
} from "./convert-options.js";

const TITLES: readonly string[] = FILE_FORMATS.map((format) => FORMATS[format].title);

/** `osnet-convert`, with its arguments after the program's name. */
export function main(argv: readonly string[], io: Io): Promise<ExitStatus> {
  return runProgram((printable, end) => define(printable, end, argv), argv, io);
}

function define(io: Io, end: (status: ExitStatus) => void, argv: readonly string[]): Command {
  const program = createProgram(
    "osnet-convert",
    `Convert OSNet (torchreid) models between ${series(TITLES, "and")}. The result is verified, layer by layer and gate by gate, before it is written.`,
    io,
  );
  program
    .usage("[options] <file> -o <output>")
    // A command has its own options, although some have the same names as the program's.
    .enablePositionalOptions()
    .argument(
      "[file]",
      "a checkpoint or a model, whose format is detected from its content; - for standard input",
    );
  addAllConvertOptions(
    addOutputOptions(program, `output to write; its name determines the format: ${OUTPUT_NAMES}`),
  ).action(async (file: string | undefined, options: { readonly out?: string }) => {
    if (file === undefined) return program.help({ error: true });
    const { recognise } = await import("./convert.js");
    const { from, to, stdin } = await recognise(file, options.out, program, io);
    // The command for the two formats parses the options again, for its output format.
    end(await main([`${from}2${to}`, ...argv], { ...io, stdin }));
  });

  const pairs = FILE_FORMATS.flatMap((from) => FILE_FORMATS.map((to) => ({ from, to })));
  const asked = pairs.filter(({ from, to }) => argv[0] === `${from}2${to}`);
  for (const { from, to } of asked.length > 0 ? asked : pairs) addConversion(program, from, to, io, end);

  program
    .commandsGroup("Other commands:")
    .command("inspect")
    .description(
      "describe a checkpoint or a model: container or exporter, network, classes, weight fingerprint, anomalies",
    )
    .argument(
      "<file>",
      "a checkpoint, or a model from any exporter, as a file or a folder; - for standard input",
    )
    .option("--arch <variant>", "architecture, if it cannot be inferred: a variant or a spec.json")
    .option("--key <path>", "path of the state dict inside the checkpoint, such as model.ema")
    .option("--json", "print the inspection as JSON")
    .action(async (file, options) => {
      const { inspectFile } = await import("./inspect.js");
      end(await inspectFile(file, options, io));
    });

  // Set last, since subcommands inherit it: a second file has its own error message.
  program.allowExcessArguments();
  return program.helpCommand(true).addHelpText(
    "after",
    `
Commands for a pair of formats: FROM2TO, such as pth2onnx, where FROM and TO are each one of
  ${FILE_FORMATS.join(", ")}
They do not need -o (default: the input's name with a new suffix), and accept -o - for standard output.

Examples:
  $ osnet-convert osnet_x1_0_market.pth -o osnet.onnx
  $ osnet-convert osnet_x1_0_market.pth -o osnet.tfjs --quantize uint8
  $ osnet-convert exported.onnx -o osnet.pth
  $ osnet-convert pth2onnx - -o - < osnet_x1_0_market.pth > osnet.onnx
  $ osnet-convert inspect osnet_x1_0_market.pth

osnet-convert FROM2TO --help lists the options of a pair. osnet-verify compares a model with its checkpoint.`,
  );
}

function addConversion(
  program: Command,
  from: FileFormat,
  to: FileFormat,
  io: Io,
  end: (status: ExitStatus) => void,
): void {
  const command = program
    .command(`${from}2${to}`, { hidden: true })
    .usage("[options] <file>")
    .description(
      `Convert ${FORMATS[from].title} to ${FORMATS[to].title}, and verify the result before writing it.`,
    )
    .argument("<file>", FORMATS[from].operand);
  const out =
    FORMATS[to].main !== undefined
      ? `folder to write (default: the input's name with .${to})`
      : `file to write, - for standard output (default: the input's name with .${to})`;
  addConvertOptions(addOutputOptions(command, out), to).action(async (file, options) => {
    const { convert } = await import("./convert.js");
    const preprocess = options.preprocess === true ? { preprocess: "rgb" } : {};
    end(await convert(file, { from, to }, { ...options, ...preprocess }, io));
  });
}
