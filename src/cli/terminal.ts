import { basename } from "node:path";
import pc from "picocolors";
import { clean, type Paint, PLAIN, printable, wrapLines } from "../core/text.js";

/** Standard output or standard error. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(chunk: string | Uint8Array): unknown;
}

/** A command's standard streams; `process` is one. */
export interface Io {
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly stdout: Output;
  readonly stderr: Output;
  /** Waits until standard output has taken all that was written; rejects with what it failed with. */
  readonly settled?: () => Promise<void>;
}

/** The streams with all text made printable, which is the one place where names from files meet a terminal; bytes go as they are. */
export function printableIo(io: Io): Io {
  const over = (stream: Output): Output => ({
    ...(stream.isTTY === undefined ? {} : { isTTY: stream.isTTY }),
    ...(stream.columns === undefined ? {} : { columns: stream.columns }),
    write: (chunk) => stream.write(typeof chunk === "string" ? fitted(printable(chunk), stream) : chunk),
  });
  const { settled } = io;
  return {
    stdin: io.stdin,
    stdout: over(io.stdout),
    stderr: over(io.stderr),
    ...(settled ? { settled } : {}),
  };
}

/** Text is broken at words on a terminal; JSON stays as it is, to be copied. */
function fitted(text: string, { isTTY, columns }: Output): string {
  return isTTY && columns && !/^[{[]/.test(text) ? wrapLines(text, columns) : text;
}

const COLOURS: Paint = { good: pc.green, bad: pc.red, strong: pc.bold, faint: pc.dim };

/** Colours on a terminal, unless `NO_COLOR` is set. */
export function paintFor({ isTTY }: Output): Paint {
  return isTTY ? COLOURS : PLAIN;
}

/** A counter; `clear` takes it away. */
export interface Progress {
  update(done: number, total: number | undefined, now?: string): void;
  clear(): void;
}

const UPDATE_MILLISECONDS = 80;

/** A counter on standard error, on a terminal only. */
export function progress(label: string, { stderr }: Pick<Io, "stderr">): Progress {
  if (!stderr.isTTY) return { update() {}, clear() {} };
  let last = 0;
  // As bytes: moving the cursor is for us alone.
  const draw = (text: string): void =>
    void stderr.write(new TextEncoder().encode(`\r${printable(text)}\u001b[K`));
  return {
    update(done, total, text = label) {
      const now = Date.now();
      if (now - last < UPDATE_MILLISECONDS) return;
      last = now;
      draw(`${text} ${total === undefined ? done : `${done}/${total}`}`);
    },
    clear() {
      if (last > 0) draw("");
    },
  };
}

/** Shows how many MB of a file have been read, unless only JSON or nothing is to be printed. */
export function readingProgress(
  path: string,
  { quiet, json }: { readonly quiet?: boolean; readonly json?: boolean },
  { stderr }: Pick<Io, "stderr">,
): Progress {
  const name = path === "-" ? "standard input" : clean(basename(path));
  const bar = progress(`reading ${name}, MB`, { stderr: quiet || json ? { write() {} } : stderr });
  return {
    update: (done, total) => bar.update(wholeMegabytes(done), total && wholeMegabytes(total)),
    clear: bar.clear,
  };
}

function wholeMegabytes(bytes: number): number {
  return Math.round(bytes / 1e6);
}

/** Bytes in MB of 10⁶, as file managers and PyTorch's documentation count. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
