import { fileError } from "../node/index.js";
import type { ExitStatus } from "./program.js";
import type { Io } from "./terminal.js";

/** What a reader that has gone (`| head`) leaves: nobody misses what is not read, and reports are written all the same. */
const CLOSED: ReadonlySet<string | undefined> = new Set(["EPIPE", "ERR_STREAM_DESTROYED"]);

/** Runs a command on this process's arguments and streams. What standard output does not take, such as on a full disk, is exit status 2. */
export async function start(main: (argv: readonly string[], io: Io) => Promise<ExitStatus>): Promise<void> {
  let failure: NodeJS.ErrnoException | undefined;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (!CLOSED.has(error.code)) failure ??= error;
  });
  process.stderr.on("error", () => undefined);
  const settled = async (): Promise<void> => {
    await new Promise<void>((resolve) => process.stdout.write("", () => setImmediate(resolve)));
    if (failure)
      throw fileError(
        "standard output",
        failure.message,
        "room for what is written",
        "send it somewhere else",
        failure,
      );
  };
  const { stdin, stdout, stderr } = process;
  process.exitCode = await main(process.argv.slice(2), { stdin, stdout, stderr, settled });
}
