/**
 * The figures of a run, in memory that the worker writes and the main thread reads: they are there when the worker
 * hangs or dies, and say at which input.
 */

/** Numbers kept for each target. */
const FIELDS = ["next", "read", "refused", "findings", "milliseconds", "slowest", "slowestInput"] as const;

export type TallyField = (typeof FIELDS)[number];

/** Numbers kept for the run: the target at work, when its input began (0 between inputs), 1 while it is made smaller. */
const RUN = ["target", "startedAt", "minimizing"] as const;

export type RunField = (typeof RUN)[number];

export function createTally(targets: number): Float64Array<SharedArrayBuffer> {
  return new Float64Array(new SharedArrayBuffer(8 * (RUN.length + targets * FIELDS.length)));
}

export function getRun(tally: Float64Array, field: RunField): number {
  return tally[RUN.indexOf(field)] ?? 0;
}

export function setRun(tally: Float64Array, field: RunField, value: number): void {
  tally[RUN.indexOf(field)] = value;
}

export function getTally(tally: Float64Array, target: number, field: TallyField): number {
  return tally[RUN.length + target * FIELDS.length + FIELDS.indexOf(field)] ?? 0;
}

export function setTally(tally: Float64Array, target: number, field: TallyField, value: number): void {
  tally[RUN.length + target * FIELDS.length + FIELDS.indexOf(field)] = value;
}
