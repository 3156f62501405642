import type { LayerGraph, LayerNode } from "../../arch/index.js";
import { someOf } from "../../core/text.js";
import type { Explanation } from "../explain/index.js";
import type { Fault, FaultDraft } from "../outcome/report.js";
import { OF_WEIGHTS } from "./faults.js";

/** Faults that are one: of a layer that was moved, of many layers, and of a module that several streams share. */

/** Minimum number of modules with the same difference for it to be one mistake: two may be two. */
const MIN_SAME = 3;

/**
 * Merges a difference of structure that several modules have, or all layers of an operation, into one fault, at the
 * first of them, and that of a layer that was moved, which is found in two places.
 */
export function mergeEverywhere(
  { nodes }: LayerGraph,
  faults: readonly FaultDraft[],
  explanations: ReadonlyMap<string, Explanation> = new Map(),
): readonly FaultDraft[] {
  const layersByName = new Map(nodes.map((node) => [node.name, node]));
  const differenceOf = differencesOf(faults, explanations, layersByName);
  return faults.flatMap((fault) => {
    const same = faults.filter((other) => differenceOf(other) === differenceOf(fault));
    const first = same.filter(({ difference }) => difference !== "moved");
    const group = first.length > 0 ? first : same;
    if (!group.includes(fault)) return [];
    const layers = new Set(group.map(({ layer }) => layer));
    const ofKinds = new Set([...layers].map((layer) => layersByName.get(layer)?.op.kind));
    const all = nodes.filter(({ op }) => ofKinds.has(op.kind)).length;
    const modules = new Map(group.toReversed().map((other) => [moduleOf(other), other.layer]));
    const isOne = layers.size === all || modules.size >= MIN_SAME;
    if (differenceOf(fault) === undefined || layers.size < 2 || !isOne) return [fault];
    const one = merged(group);
    const others = [...modules.values()].reverse().filter((layer) => layer !== one.layer);
    const count = layers.size === all ? `all ${all}` : `${layers.size} of ${all}`;
    const where = 2 * layers.size > all ? `${count} layers of its kind` : someOf(others);
    return fault === group[0] ? [{ ...one, explanation: `${one.explanation}; the same at ${where}` }] : [];
  });
}

/**
 * What a fault has in common with others. The same operator with other numbers, such as slopes, is another mistake, where
 * values show it; where they show nothing, neither is said of it.
 *
 * @param layers those whose blocks have the same difference if only the names of the blocks differ
 */
function differencesOf(
  faults: readonly FaultDraft[],
  explanations: ReadonlyMap<string, Explanation>,
  layers: ReadonlyMap<string, LayerNode> = new Map(),
): (fault: FaultDraft) => string | undefined {
  const shownBy = ({ layer, cause }: FaultDraft): string | undefined =>
    cause === undefined ? undefined : explanations.get(layer)?.says;
  // Weights that are others in the same way, such as transposed, differ by other numbers.
  const foundIn = (fault: FaultDraft): string | undefined => {
    const shown = fault.cause !== undefined && OF_WEIGHTS.has(fault.cause) ? undefined : shownBy(fault);
    if (fault.kind === "weights") return shown;
    if (fault.kind !== "structure") return fault.says ?? shown;
    const { block } = layers.get(fault.layer) ?? {};
    const said = fault.says ?? fault.explanation;
    return block === undefined ? said : said.replaceAll(block, "…");
  };
  const shownOf = new Map<string | undefined, Set<string>>();
  for (const fault of faults) {
    const [found, shown] = [foundIn(fault), shownBy(fault)];
    if (shown !== undefined) shownOf.set(found, new Set([...(shownOf.get(found) ?? []), shown]));
  }
  return (fault) => {
    const found = foundIn(fault);
    const isShown = fault.kind === "structure" && (shownOf.get(found)?.size ?? 0) > 1;
    return found !== undefined && isShown ? `${found} ${shownBy(fault) ?? ""}` : found;
  };
}

/** The module that all streams of a block share, for a layer of a gate. */
function moduleOf({ layer, stream }: FaultDraft): string {
  return stream === undefined ? layer : layer.replace(`[${stream}]`, "[]");
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
  const differenceOf = differencesOf(faults, explanations);
  for (const draft of faults) {
    const { says, difference: _, ...fault } = draft;
    const { layer, kind, cause, explanation } = fault;
    const shown = cause === undefined ? undefined : explanations.get(layer)?.says;
    const found = kind === "structure" ? differenceOf(draft) : (says ?? explanation);
    const key = JSON.stringify([moduleOf(fault), kind, kind === "numeric" ? (shown ?? "") : found]);
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
  const sharing = faults.filter(
    (fault) => fault.layer !== moduleOf(fault) && moduleOf(fault) === moduleOf(first),
  );
  const streams = [...new Set(sharing.flatMap(({ stream }) => stream ?? []))].sort((a, b) => a - b);
  return {
    ...worst,
    layer: first.layer,
    ...(first.stream === undefined ? {} : { stream: first.stream }),
    ...(streams.length > 0 ? { streams } : {}),
    margin: Number.isFinite(most) ? most : null,
  };
}
