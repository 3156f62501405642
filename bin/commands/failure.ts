import { CommanderError } from "commander";
import { InputError } from "../../src/errors.js";

/** What commander cannot understand, by its codes. */
const MISUSE: Readonly<Record<string, string>> = {
  "commander.unknownOption": "no such option",
  "commander.unknownCommand": "no such command",
  "commander.excessArguments": "too many arguments",
  "commander.missingArgument": "no value",
  "commander.missingMandatoryOptionValue": "no value",
  "commander.optionMissingArgument": "no value",
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
  if (!Object.hasOwn(MISUSE, code)) return "";
  const suggestion = /\(Did you mean (.*)\?\)/.exec(message)?.[1];
  const { message: sentence } = new InputError({
    code: "argument",
    subject: /'([^']*)'/.exec(message)?.[1] ?? "command line",
    found: MISUSE[code] ?? message,
    expected: "what --help describes",
    remedy: suggestion ? `if ${suggestion} was meant, write that` : "correct the command",
  });
  return `${sentence}\n`;
}
