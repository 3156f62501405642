import { type Command, CommanderError } from "commander";
import { InputError } from "../core/errors.js";

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
export function describeError(error: unknown, command?: Command): string {
  if (error instanceof CommanderError) return describeMisuse(error, command);
  if (error instanceof InputError)
    return [error.message, ...error.details.map((line) => `  ${line}`), ""].join("\n");
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `This is a bug in osnet-convert, please report it with the file that shows it:\n${stack}\n`;
}

/** Commander ends `--help` and `--version` by an error too, when all is said. */
export function isHelp(error: unknown): boolean {
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
