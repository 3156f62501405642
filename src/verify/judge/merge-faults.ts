import type { LayerGraph } from "../../arch/index.js";
import type { Explanation } from "../explain/index.js";
import type { Fault, FaultDraft } from "../outcome/report.js";

/** Faults that are one: of a layer that was moved, of all layers of an operation, and of a module that several streams share. */

/** Minimum number of layers that are most of an operation's. */
const MIN_MOST = 8;

/**
 * Merges a difference of structure that most layers of an operation have into one fault, at the first of them, and that
 * of a layer that was moved, which is found in two places.
 */
export function mergeEverywhere({ nodes }: LayerGraph, faults: readonly FaultDraft[]): readonly FaultDraft[] {
  const kinds = new Map(nodes.map(({ name, op }) => [name, op.kind]));
  const differenceOf = ({ kind, says, explanation }: FaultDraft): string | undefined =>
    says ?? (kind === "structure" ? explanation : undefined);
  return faults.flatMap((fault) => {
    const group = faults.filter((other) => differenceOf(other) === differenceOf(fault));
    if (fault.difference === "moved" && group.some(({ difference }) => difference !== "moved")) return [];
    const layers = new Set(group.map(({ layer }) => layer));
    const ofKinds = new Set([...layers].map((layer) => kinds.get(layer)));
    const all = nodes.filter(({ op }) => ofKinds.has(op.kind)).length;
    const areMost = layers.size === all || (layers.size >= MIN_MOST && 2 * layers.size > all);
    if (differenceOf(fault) === undefined || layers.size < 2 || !areMost) return [fault];
    const one = merged(group);
    const count = layers.size === all ? `all ${all}` : `${layers.size} of ${all}`;
    const explanation = `${one.explanation}; the same at ${count} layers of its kind`;
    return fault === group[0] ? [{ ...one, explanation }] : [];
  });
}

/**
 * Merges equal faults of one module of a gate, which all streams of a block share, into one: at the first of those
 * streams, with the largest margin and its explanation. In the order of their first.
 *
 * @param explanations by layer, from its values
 */
export function mergeStreams(
  faults: readonly FaultDraft[],
  explanations: ReadonlyMap<string, Explanation>,
): readonly FaultDraft[] {
  const groups = new Map<string, FaultDraft[]>();
  for (const { says, difference: _, ...fault } of faults) {
    const { layer, stream, kind, cause, explanation } = fault;
    const module = stream === undefined ? layer : layer.replace(`[${stream}]`, "[]");
    const found = cause === undefined ? undefined : explanations.get(layer)?.says;
    const key = JSON.stringify([module, kind, kind === "numeric" ? (found ?? "") : (says ?? explanation)]);
    groups.set(key, [...(groups.get(key) ?? []), fault]);
  }
  return [...groups.values()].map(merged);
}

function merged(faults: readonly FaultDraft[]): Fault {
  const [first] = faults.toSorted((a, b) => (a.stream ?? 0) - (b.stream ?? 0)) as [Fault];
  if (faults.length === 1) return first;
  const marginOf = ({ margin }: Fault): number => margin ?? Infinity;
  const explained = faults.filter(({ cause }) => cause !== undefined);
  const [worst] = (explained.length > 0 ? explained : faults).toSorted(
    (a, b) => marginOf(b) - marginOf(a),
  ) as [Fault];
  const most = Math.max(...faults.map(marginOf));
  const streams = [...new Set(faults.flatMap(({ stream }) => stream ?? []))].sort((a, b) => a - b);
  return {
    ...worst,
    layer: first.layer,
    ...(first.stream === undefined ? {} : { stream: first.stream }),
    ...(streams.length > 0 ? { streams } : {}),
    margin: Number.isFinite(most) ? most : null,
  };
}
