import type { BenchCheckpoint } from "./inference.js";

/** A network that is measured. */
export interface Subject {
  readonly name: string;
  readonly checkpoint: BenchCheckpoint;
}

/** One line of the table: what a work takes against a peer. Times are of this machine; the ratio is what is quoted. */
export interface Row {
  readonly work: string;
  readonly peer: string;
  /** Of the time that the peer takes, the median of pairs. */
  readonly ratio: number;
  /** What it should be at most. */
  readonly goal: number;
  /** Milliseconds, the least of all rounds. */
  readonly own: number;
  readonly other: number;
  readonly rounds: number;
  readonly note?: string;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? NaN)
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}

/** The table as Markdown. */
export function table(rows: readonly Row[]): string {
  const lines = rows.map(
    ({ work, peer, ratio, goal, own, other, note = "" }) =>
      `| ${work} | ${own.toFixed(2)} ms | ${peer}: ${other.toFixed(2)} ms | ${ratio.toFixed(2)} | ≤ ${goal.toFixed(2)} | ${note} |`,
  );
  return [
    "| work | least | peer, least | ratio | goal | |",
    "| --- | --- | --- | --- | --- | --- |",
    ...lines,
  ].join("\n");
}
