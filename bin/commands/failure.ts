import { InputError } from "../../src/errors.js";

/** What standard error says: one sentence, then every finding behind it; a stack only for a bug of ours. */
export function describeError(error: unknown): string {
  if (error instanceof InputError)
    return [error.message, ...error.details.map((line) => `  ${line}`), ""].join("\n");
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `This is a bug in osnet-convert, please report it with the file that shows it:\n${stack}\n`;
}
