import { readFileSync } from "node:fs";
import { setEngineFlags } from "./engine-flags.js";
import type { ExitStatus } from "./program.js";
import type { Io } from "./terminal.js";

type Main = (argv: readonly string[], io: Io) => Promise<ExitStatus>;

/**
 * Errors when the reader of a pipe has exited (`| head`): ignored, since nobody reads the output, and reports must
 * still be written.
 */
const CLOSED: ReadonlySet<string | undefined> = new Set(["EPIPE", "ERR_STREAM_DESTROYED"]);

/**
 * Runs a command on this process's arguments and streams. If standard output fails, such as on a full disk, the exit
 * status is 2.
 *
 * @param name the command's name
 * @param load loads the command; not called for `--help` alone, which takes half the time
 */
export async function start(name: string, load: () => Promise<{ readonly main: Main }>): Promise<void> {
  let failure: NodeJS.ErrnoException | undefined;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (!CLOSED.has(error.code)) failure ??= error;
  });
  process.stderr.on("error", () => undefined);
  const settled = async (): Promise<void> => {
    await new Promise<void>((resolve) => process.stdout.write("", () => setImmediate(resolve)));
    if (!failure) return;
    const { unusable } = await import("../node/read.js");
    throw unusable("standard output", failure.message, "write to another place", failure);
  };
  const { stdin, stdout, stderr } = process;
  const argv = process.argv.slice(2);
  const help = helpOf(name, argv, stdout);
  if (help !== undefined) {
    stdout.write(help);
    if (
      await settled().then(
        () => true,
        () => false,
      )
    )
      return;
  }
  setEngineFlags(false);
  const { main } = await load();
  process.exitCode = await main(argv, { stdin, stdout, stderr, settled });
}

/** The width of the help when the commands are built. */
const COLUMNS = 80;

/** The text of `--help`, if nothing else is requested, as written by the build beside the command. */
function helpOf(name: string, argv: readonly string[], { isTTY, columns }: Io["stdout"]): string | undefined {
  const isHelp = argv.length === 1 && (argv[0] === "--help" || argv[0] === "-h");
  if (!isHelp || (isTTY && columns !== COLUMNS)) return undefined;
  try {
    return readFileSync(new URL(`${name}.help.txt`, import.meta.url), "utf8");
  } catch {
    return undefined;
  }
}
