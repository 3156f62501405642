import { createRequire } from "node:module";
import { Command, CommanderError } from "commander";
import { InputError } from "../core/errors.js";
import { didYouMean, misused } from "./options.js";
import { type Io, printableIo } from "./terminal.js";

const { version: VERSION } = createRequire(import.meta.url)("osnet-convert/package.json") as {
  readonly version: string;
};

/** 0: parity holds, or the file is written. 1: parity does not hold. 2: unusable input. */
export type ExitStatus = 0 | 1 | 2;

/** A command that writes its help to `io`, and throws on invalid arguments. */
export function createProgram(name: string, description: string, io: Io): Command {
  const width = (stream: Io["stdout"]): number => (stream.isTTY && stream.columns) || 80;
  return new Command(name)
    .description(description)
    .version(VERSION)
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      outputError() {},
      getOutHelpWidth: () => width(io.stdout),
      getErrHelpWidth: () => width(io.stderr),
      getOutHasColors: () => io.stdout.isTTY ?? false,
      getErrHasColors: () => io.stderr.isTTY ?? false,
    })
    .exitOverride()
    .hook("preSubcommand", (program, command) => {
      const given = program.options.find(
        (option) => program.getOptionValueSource(option.attributeName()) === "cli",
      );
      if (given)
        throw misused(
          given.long ?? given.flags,
          `options of ${command.name()} must follow the command`,
          `write ${command.name()} first`,
        );
    });
}

/**
 * Runs a program on its arguments. An error is one sentence on standard error, followed by its details.
 *
 * @param define creates the program; its actions pass their exit status to `end`
 */
export async function runProgram(
  define: (io: Io, end: (status: ExitStatus) => void) => Command,
  argv: readonly string[],
  streams: Io,
): Promise<ExitStatus> {
  const io = printableIo(streams);
  let status: ExitStatus = 0;
  let program: Command | undefined;
  try {
    program = define(io, (ended) => {
      status = ended;
    });
    await program.parseAsync(argv, { from: "user" });
    await io.settled?.();
    return status;
  } catch (error) {
    if (!isHelp(error)) {
      const command = program?.commands.find((sub) => sub.name() === argv[0]) ?? program;
      io.stderr.write(describeError(error, command));
      return 2;
    }
    const problem = await io.settled?.().catch((cause: unknown) => cause);
    if (problem !== undefined) io.stderr.write(describeError(problem));
    return problem === undefined ? 0 : 2;
  }
}

/** Commander's errors, by code: the reason, and the remedy. */
const MISUSE: Readonly<Record<string, readonly [reason: string, remedy: string]>> = {
  "commander.unknownOption": ["unknown option", "see --help"],
  "commander.unknownCommand": [
    "unknown command",
    "start with a command such as pth2onnx or inspect, followed by the file",
  ],
  "commander.excessArguments": ["too many arguments", "see --help"],
  "commander.missingArgument": ["missing argument", "add it to the command"],
  "commander.missingMandatoryOptionValue": ["missing option", "add it to the command"],
  "commander.optionMissingArgument": ["missing value", "add one"],
};

/** Options of other converters, and the equivalent ones here. */
const FOREIGN: Readonly<Record<string, readonly string[]>> = {
  "--dynamic": ["--batch dynamic"],
  "--dynamic-axes": ["--batch dynamic"],
  "--dynamic-batch": ["--batch dynamic"],
  "--fp16": ["--dtype float16", "--quantize float16"],
  "--half": ["--dtype float16", "--quantize float16"],
  "--dtype": ["--quantize"],
  "--quantize": ["--dtype float16"],
  "--int8": ["--quantize uint8"],
  "--uint8": ["--quantize uint8"],
  "--batch-size": ["--batch"],
  "--img-size": ["--size"],
  "--imgsz": ["--size"],
  "--input-size": ["--size"],
  "--input-shape": ["--size"],
  "--height": ["--size"],
  "--width": ["--size"],
  "--model": ["--arch"],
  "--variant": ["--arch"],
  "--opset-version": ["--opset"],
  "--checkpoint": ["--reference"],
  "--weights": ["--reference"],
  "--atol": ["--tolerance"],
  "--rtol": ["--tolerance"],
  "--overwrite": ["--force"],
  "--output-file": ["--out"],
  "--out-file": ["--out"],
};

/**
 * The text for standard error: one sentence, then its details; a stack only for a bug. @param command the current
 * command, whose options are suggested
 */
function describeError(error: unknown, command?: Command): string {
  if (error instanceof CommanderError) return describeMisuse(error, command);
  if (error instanceof InputError)
    return [error.message, ...error.details.map((line) => `  ${line}`), ""].join("\n");
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `This is a bug in osnet-convert. Please report it, with a file that reproduces it:\n${stack}\n`;
}

/** Commander also ends `--help` and `--version` with an error. */
function isHelp(error: unknown): boolean {
  return error instanceof CommanderError && error.exitCode === 0;
}

/**
 * Turns commander's `error: unknown option '--forse'` and `(Did you mean --force?)` into a sentence like the others.
 */
function describeMisuse({ code, message }: CommanderError, command: Command | undefined): string {
  // Commander has already written the help for a missing command to standard error.
  const misuse = MISUSE[code];
  if (!misuse) return "";
  const [reason, remedy] = misuse;
  const subject = /'([^']*)'/.exec(message)?.[1] ?? "command line";
  const suggestion = foreign(subject, command) ?? /\(Did you mean (.*)\?\)/.exec(message)?.[1];
  const named = code === "commander.missingArgument" ? `<${subject}>` : subject;
  return `${misused(named, reason, suggestion ? didYouMean(suggestion) : remedy).message}\n`;
}

/** The equivalent option of a command for another converter's option, if there is one. */
function foreign(flag: string, command: Command | undefined): string | undefined {
  const known = Object.hasOwn(FOREIGN, flag) ? FOREIGN[flag] : undefined;
  return known?.find((option) => command?.options.some(({ long }) => long === option.split(" ")[0]));
}
