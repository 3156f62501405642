import { createRequire } from "node:module";
import { Command, CommanderError } from "commander";
import { InputError } from "../core/errors.js";
import { badArgument } from "./options.js";
import { type Io, printableIo } from "./terminal.js";

const { version: VERSION } = createRequire(import.meta.url)("osnet-convert/package.json") as {
  readonly version: string;
};

/** 0: parity holds, or the file is written. 1: parity does not hold. 2: unusable input. */
export type ExitStatus = 0 | 1 | 2;

/** A command whose help goes to `io`, and which throws what it does not understand. */
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
        throw badArgument(
          given.long ?? given.flags,
          `an option before the command ${command.name()}`,
          "its options behind it",
          `write ${command.name()} first`,
        );
    });
}

/**
 * Runs a program on its arguments. An error is one sentence on standard error, with its findings below it.
 *
 * @param define makes the program; its actions pass their exit status to `end`
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

/** What commander cannot understand, by its codes: what was found, and what to do. */
const MISUSE: Readonly<Record<string, readonly [found: string, remedy: string]>> = {
  "commander.unknownOption": ["no such option", "correct the command"],
  "commander.unknownCommand": [
    "no such command",
    "begin with one, such as pth2onnx or inspect, and name the file after it",
  ],
  "commander.excessArguments": ["too many arguments", "leave out all but one"],
  "commander.missingArgument": ["none", "add it to the command"],
  "commander.missingMandatoryOptionValue": ["no value", "add one"],
  "commander.optionMissingArgument": ["no value", "add one"],
};

/** Options of other converters, and those that do the same here. */
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

/** What standard error says: one sentence, then every finding behind it; a stack only for a bug. @param command the one that was given, whose options are suggested */
function describeError(error: unknown, command?: Command): string {
  if (error instanceof CommanderError) return describeMisuse(error, command);
  if (error instanceof InputError)
    return [error.message, ...error.details.map((line) => `  ${line}`), ""].join("\n");
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `This is a bug in osnet-convert, please report it with the file that shows it:\n${stack}\n`;
}

/** Commander ends `--help` and `--version` by an error too, when all is said. */
function isHelp(error: unknown): boolean {
  return error instanceof CommanderError && error.exitCode === 0;
}

/** Commander's `error: unknown option '--forse'` and `(Did you mean --force?)` as a sentence like all others. */
function describeMisuse({ code, message }: CommanderError, command: Command | undefined): string {
  // Help instead of a command is on standard error already.
  const misuse = MISUSE[code];
  if (!misuse) return "";
  const [found, remedy] = misuse;
  const subject = /'([^']*)'/.exec(message)?.[1] ?? "command line";
  const suggestion = foreign(subject, command) ?? /\(Did you mean (.*)\?\)/.exec(message)?.[1];
  const { message: sentence } = new InputError({
    code: "argument",
    subject: code === "commander.missingArgument" ? `<${subject}>` : subject,
    found,
    expected: "what --help describes",
    remedy: suggestion ? `if ${suggestion} was meant, write that` : remedy,
  });
  return `${sentence}\n`;
}

/** What a command calls another converter's option, if it has it. */
function foreign(flag: string, command: Command | undefined): string | undefined {
  const known = Object.hasOwn(FOREIGN, flag) ? FOREIGN[flag] : undefined;
  return known?.find((option) => command?.options.some(({ long }) => long === option.split(" ")[0]));
}
