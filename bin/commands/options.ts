import { Command, InvalidArgumentError } from "commander";

/** What a command ends with: parity holds or the file is written; parity does not hold; unusable input. */
export type ExitStatus = 0 | 1 | 2;

/** A command that says the version, refuses what it does not know, and exits with 2 for unusable arguments. */
export function createProgram(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .version("0.1.0")
    .showHelpAfterError(`(${name} --help lists the options)`)
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2));
}

/** Runs a command to its exit status; refusals are one sentence on standard error, with their list below it. */
export async function runCommand(command: () => Promise<ExitStatus>): Promise<void> {
  // A closed pipe (`| head`) is no error of ours.
  process.stdout.on("error", () => process.exit(process.exitCode ?? 0));
  try {
    process.exitCode = await command();
  } catch (error) {
    const { describeError } = await import("./failure.js");
    process.stderr.write(describeError(error));
    process.exitCode = 2;
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
    const choice = words.length > 0 ? ` or ${words.join(", ")}` : "";
    throw new InvalidArgumentError(`${name} takes a whole number from ${least}${choice}.`);
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
    const choice = words.length > 0 ? ` or ${words.join(", ")}` : "";
    throw new InvalidArgumentError(`${name} takes HEIGHTxWIDTH in pixels, such as 256x128${choice}.`);
  };
}

/** Gathers an option that may be given more than once. */
export function collect(value: string, earlier: readonly string[] | undefined): readonly string[] {
  return [...(earlier ?? []), value];
}
