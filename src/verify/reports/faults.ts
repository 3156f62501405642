import type { Fault } from "../report.js";

/** A fault as a reader counts it: a gate is one module, and wrong in every stream that it is applied to. */
export interface FaultGroup {
  /** `conv2.0.gate[1–4].fc2`. */
  readonly name: string;
  readonly kind: Fault["kind"];
  /** The one with the largest margin, whose explanation stands for all. */
  readonly worst: Fault;
  readonly faults: readonly Fault[];
}

/** Faults of one kind and cause in one module, whatever the stream, put together; in the order of their first. */
export function groupFaults(faults: readonly Fault[]): readonly FaultGroup[] {
  const groups = new Map<string, Fault[]>();
  for (const fault of faults) {
    const key = JSON.stringify([moduleOf(fault), fault.kind, fault.cause]);
    groups.set(key, [...(groups.get(key) ?? []), fault]);
  }
  return [...groups.values()].map((members) => {
    const worst = members.reduce((a, b) => (marginOf(b) > marginOf(a) ? b : a));
    return { name: nameOf(members, worst), kind: worst.kind, worst, faults: members };
  });
}

function marginOf({ margin }: Fault): number {
  return margin ?? Infinity;
}

function moduleOf({ layer, stream }: Fault): string {
  return stream === undefined ? layer : layer.replace(`[${stream}]`, "[]");
}

function nameOf(faults: readonly Fault[], worst: Fault): string {
  const streams = faults.flatMap(({ stream }) => stream ?? []).sort((a, b) => a - b);
  const [first, last] = [streams[0], streams.at(-1)];
  if (first === undefined || last === undefined || first === last) return worst.layer;
  const isRange = streams.length > 2 && last - first === streams.length - 1;
  return worst.layer.replace(`[${worst.stream}]`, `[${isRange ? `${first}–${last}` : streams.join(", ")}]`);
}
