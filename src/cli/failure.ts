import { CommanderError } from "commander";
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

/** What standard error says: one sentence, then every finding behind it; a stack only for a bug of ours. */
export function describeError(error: unknown): string {
  if (error instanceof CommanderError) return describeMisuse(error);
  if (error instanceof InputError)
    return [error.message, ...error.details.map((line) => `  ${line}`), ""].join("\n");
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `This is a bug in osnet-convert, please report it with the file that shows it:\n${stack}\n`;
}

/** Commander ends `--help` and `--version` by an error too, when all is said. */
export function isHelp(error: unknown): boolean {
  return error instanceof CommanderError && error.exitCode === 0;
}

/** Commander's `error: unknown option '--forse'` and `(Did you mean --force?)` as a sentence of ours. */
function describeMisuse({ code, message }: CommanderError): string {
  // Help instead of a command is on standard error already.
  const misuse = MISUSE[code];
  if (!misuse) return "";
  const [found, remedy] = misuse;
  const subject = /'([^']*)'/.exec(message)?.[1] ?? "command line";
  const suggestion = /\(Did you mean (.*)\?\)/.exec(message)?.[1];
  const { message: sentence } = new InputError({
    code: "argument",
    subject: code === "commander.missingArgument" ? `<${subject}>` : subject,
    found,
    expected: "what --help describes",
    remedy: suggestion ? `if ${suggestion} was meant, write that` : remedy,
  });
  return `${sentence}\n`;
}
