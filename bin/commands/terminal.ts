import pc from "picocolors";
import type { Paint } from "../../src/terminal-text.js";

/** Colours for standard output, or none where it is no terminal or `NO_COLOR` is set. */
export const PAINT: Paint = process.stdout.isTTY
  ? { good: pc.green, bad: pc.red, strong: pc.bold, faint: pc.dim }
  : { good: String, bad: String, strong: String, faint: String };

/** A counter on standard error, on a terminal only; `clear` takes it away. */
export function progress(label: string): {
  update(done: number, total: number, now?: string): void;
  clear(): void;
} {
  const { stderr } = process;
  if (!stderr.isTTY) return { update() {}, clear() {} };
  let last = 0;
  return {
    update(done, total, text = label) {
      const now = Date.now();
      if (now - last < 80) return;
      last = now;
      stderr.write(`\r${text} ${done}/${total}\u001b[K`);
    },
    clear() {
      stderr.write("\r\u001b[K");
    },
  };
}

/** Bytes in MB of 10⁶, as file managers and PyTorch's documentation count. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
