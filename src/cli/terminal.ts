import { basename } from "node:path";
import pc from "picocolors";
import { clean, type Paint } from "../core/text.js";

/** Colours for standard output, or none where it is no terminal or `NO_COLOR` is set. */
export const PAINT: Paint = process.stdout.isTTY
  ? { good: pc.green, bad: pc.red, strong: pc.bold, faint: pc.dim }
  : { good: String, bad: String, strong: String, faint: String };

/** Where progress is shown: standard error, if that is a terminal. */
export interface TerminalStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** A counter; `clear` takes it away. */
export interface Progress {
  update(done: number, total: number | undefined, now?: string): void;
  clear(): void;
}

const UPDATE_MILLISECONDS = 80;

/** A counter on standard error, on a terminal only. */
export function progress(label: string, stream: TerminalStream = process.stderr): Progress {
  if (!stream.isTTY) return { update() {}, clear() {} };
  let last = 0;
  return {
    update(done, total, text = label) {
      const now = Date.now();
      if (now - last < UPDATE_MILLISECONDS) return;
      last = now;
      stream.write(`\r${text} ${total === undefined ? done : `${done}/${total}`}\u001b[K`);
    },
    clear() {
      if (last > 0) stream.write("\r\u001b[K");
    },
  };
}

/** How many MB of a file are read, unless nothing but JSON or nothing at all is to be printed. */
export function readingProgress(
  path: string,
  { quiet, json }: { readonly quiet?: boolean; readonly json?: boolean },
  stream?: TerminalStream,
): Progress {
  const name = path === "-" ? "standard input" : clean(basename(path));
  const bar = progress(`reading ${name}, MB`, quiet || json ? { write() {} } : stream);
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
