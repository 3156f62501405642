import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
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
  const { stdout } = process;
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (!CLOSED.has(error.code)) failure ??= error;
  });
  const argv = process.argv.slice(2);
  const help = helpOf(name, argv, stdout);
  if (help !== undefined) {
    const failed = await new Promise<NodeJS.ErrnoException | null | undefined>((resolve) =>
      stdout.write(help, resolve),
    );
    if (!failed || CLOSED.has(failed.code)) return;
  }
  // Node makes the other streams when they are first read, which `--help` alone does not need.
  const { stdin, stderr } = process;
  stderr.on("error", () => undefined);
  const settled = async (): Promise<void> => {
    await new Promise<void>((resolve) => stdout.write("", () => setImmediate(resolve)));
    if (!failure) return;
    const { unusable } = await import("../node/read.js");
    throw unusable("standard output", failure.message, "write to another place", failure);
  };
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

/**
 * V8's settings for the commands, in each of their processes.
 *
 * @param isLong whether the process runs many verifications: collecting garbage as early as for one would take a quarter of its time
 */
export function setEngineFlags(isLong: boolean): void {
  // A single verification mainly creates tensors, which are outside of the heap: its young generation need not grow.
  setFlagsFromString(`--semi-space-growth-factor=${isLong ? 2 : 1}`);
  // Memory outside of the heap counts towards the next full collection, which is due when the heap has grown by a share: by default by half,
  // after every 10 MB of tensors. Few of these are garbage: collecting later takes 5 % less time.
  setFlagsFromString("--heap-growing-percent=500");
  // Threads call `gc` to release memory of WebAssembly, which would remain until enough other garbage has gathered.
  setFlagsFromString("--expose-gc");
  // Most time is spent in WebAssembly. Other functions are optimised only after running eight times as long as by default: the two threads of a
  // verification would otherwise spend a tenth of their time on compiling them.
  setFlagsFromString("--interrupt-budget=540672");
  // WebAssembly's fused multiply-add; later versions have it without a flag.
  if (process.versions.node.startsWith("20.")) setFlagsFromString("--experimental-wasm-relaxed-simd");
}
