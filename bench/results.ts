import type { Checkpoint } from "../src/convert/open/checkpoint.js";

/** A network that is measured. */
export interface Subject {
  readonly name: string;
  readonly checkpoint: Pick<Checkpoint, "spec" | "graph" | "stateDict"> & { readonly isTrained: boolean };
}

/**
 * One line of the table: the cost of a task relative to another tool's. Times are of this machine; the ratio is what is
 * quoted.
 */
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
  /** MiB, the medians; of whole processes. */
  readonly peak?: { readonly own: number; readonly other: number };
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
  const lines = rows.map(({ work, peer, ratio, goal, own, other, peak, note = "" }) => {
    const memory = peak ? `${peak.own.toFixed(0)} MiB, peer ${peak.other.toFixed(0)} MiB` : note;
    return `| ${work} | ${own.toFixed(1)} ms | ${peer}: ${other.toFixed(1)} ms | ${ratio.toFixed(2)} | ≤ ${goal.toFixed(2)} | ${memory} |`;
  });
  return [
    "| work | least | peer, least | ratio | goal | |",
    "| --- | --- | --- | --- | --- | --- |",
    ...lines,
  ].join("\n");
}

/** The machine that the results are from. */
export interface Machine {
  /** Such as `linux-x64`. */
  readonly platform: string;
  readonly cpu: string;
  readonly cores: number;
}

/** `bench/results.json`. */
export interface Results {
  readonly schema: "osnet-bench/1";
  /** Version of Node. */
  readonly node: string;
  readonly machine: Machine;
  readonly rows: readonly Row[];
}

/** What the README quotes: ratios and memory, no times. */
export function quotation({ node, machine, rows }: Results): string {
  const lines = rows.map(({ work, peer, ratio, peak }) => {
    const memory = peak ? `${peak.own.toFixed(0)} MiB, ${peak.other.toFixed(0)} MiB` : "";
    return `| ${work} | ${ratio.toFixed(2)} × | ${peer} | ${memory} |`;
  });
  return [
    "| task | relative time | compared with | memory of both |",
    "| --- | --- | --- | --- |",
    ...lines,
    "",
    `Measured on ${machine.platform}: ${machine.cores} cores, ${machine.cpu}, Node ${node}.`,
  ].join("\n");
}

const [BEGIN, END] = ["<!-- bench/results.json -->", "<!-- end -->"] as const;

/** A document with its quotation replaced; unchanged if it has none. */
export function withQuotation(document: string, results: Results): string {
  const [start, end] = [document.indexOf(BEGIN), document.indexOf(END)];
  if (start < 0 || end < start) return document;
  return `${document.slice(0, start + BEGIN.length)}\n${quotation(results)}\n${document.slice(end)}`;
}
