import { Command } from "commander";
import { InputError } from "../core/errors.js";
import { VERSION } from "./versions.js";

/** What a command ends with: parity holds or the file is written; parity does not hold; unusable input. */
export type ExitStatus = 0 | 1 | 2;

/** A command that says the version and throws what it cannot understand, for `run` to say. */
export function createProgram(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .version(VERSION)
    .configureOutput({ outputError() {} })
    .exitOverride();
}

/** Runs a program to its exit status; refusals are one sentence on standard error, with their list below it. */
export async function run(program: Command): Promise<void> {
  // A closed pipe (`| head`) is no error of ours.
  process.stdout.on("error", () => process.exit(process.exitCode ?? 0));
  try {
    await program.parseAsync();
  } catch (error) {
    const { describeError, isHelp } = await import("./failure.js");
    process.stderr.write(describeError(error));
    process.exitCode = isHelp(error) ? 0 : 2;
  }
}

/** A whole number of at least `least`, or one of some words. */
export function int<W extends string>(
  name: string,
  least: number,
  ...words: W[]
): (text: string) => number | W {
  return (text) => {
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    const value = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
    throw badValue(name, text, [`a whole number from ${least}`, ...words], "correct the value");
  };
}

/** One of some words. */
export function word<W extends string>(
  name: string,
  words: readonly W[],
  remedy: string,
): (text: string) => W {
  return (text) => {
    const found = words.find((candidate) => candidate === text);
    if (found !== undefined) return found;
    throw badValue(name, text, words, remedy);
  };
}

export interface Size {
  readonly height: number;
  readonly width: number;
}

/** Larger sides than any camera's, so that a slip of the finger does not ask for terabytes. */
const MAX_SIDE = 8192;

/** Height and width in pixels, as `256x128`, or one of some words. */
export function size<W extends string>(name: string, ...words: W[]): (text: string) => Size | W {
  return (text) => {
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    const [, height, width] = /^(\d{1,4})x(\d{1,4})$/.exec(text)?.map(Number) ?? [];
    if (height && width && height <= MAX_SIDE && width <= MAX_SIDE) return { height, width };
    throw badValue(name, text, ["HEIGHTxWIDTH in pixels", ...words], "give one such as 256x128");
  };
}

function badValue(subject: string, text: string, choices: readonly string[], remedy: string): InputError {
  const found = JSON.stringify(text);
  return new InputError({ code: "argument", subject, found, expected: choices.join(" or "), remedy });
}

/** Gathers an option that may be given more than once. */
export function collect(value: string, earlier: readonly string[] | undefined): readonly string[] {
  return [...(earlier ?? []), value];
}
