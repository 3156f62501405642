import { basename } from "node:path";
import pc from "picocolors";
import { clean, type Paint, PLAIN, printable, wrapLines } from "../core/text.js";

/** Standard output or standard error. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(chunk: string | Uint8Array): unknown;
}

/** A command's standard streams; `process` has this type. */
export interface Io {
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly stdout: Output;
  readonly stderr: Output;
  /** Waits until standard output has accepted everything; rejects if it failed. */
  readonly settled?: () => Promise<void>;
}

/**
 * Streams that make all text printable, the only place where names from files reach a terminal; bytes are passed
 * unchanged.
 */
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

/** Text is wrapped on a terminal; JSON is not, so that it can be copied. */
function fitted(text: string, { isTTY, columns }: Output): string {
  return isTTY && columns && !/^[{[]/.test(text) ? wrapLines(text, columns) : text;
}

const COLOURS: Paint = { good: pc.green, bad: pc.red, strong: pc.bold, faint: pc.dim };

/** Colours on a terminal, unless `NO_COLOR` is set. */
export function paintFor({ isTTY }: Output): Paint {
  return isTTY ? COLOURS : PLAIN;
}

/** A progress counter; `clear` removes it. */
interface Progress {
  update(done: number, total: number | undefined, now?: string): void;
  clear(): void;
}

const UPDATE_MILLISECONDS = 80;

/** A progress counter on standard error, on a terminal only. */
export function progress(label: string, { stderr }: Pick<Io, "stderr">): Progress {
  if (!stderr.isTTY) return { update() {}, clear() {} };
  let last = 0;
  // As bytes, since other text may not move the cursor.
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

/** Bytes in MB of 10⁶, like file managers and PyTorch's documentation. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
