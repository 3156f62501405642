import type { LayerGraph, LayerNode, ParameterRole } from "../../arch/index.js";
import { moduleOf } from "../../arch/parameters.js";
import { type StateDict, sameShape } from "../../core/tensor.js";
import { commonPrefix, someOf } from "../../core/text.js";
import { type Fault, layerFault } from "../outcome/report.js";
import type { Expected } from "./constants.js";
import { type ComparedConstants, type Deviation, isUniform, type Relation } from "./deviation.js";
import { alike, areOthers, areRoundedFrom, otherStatistics, otherTraining } from "./other-weights.js";
import { isLike, relationsOf, visible } from "./relations.js";

/** The faults of constants, and what their causes explain. */
export interface ConstantFaults {
  readonly faults: readonly Fault[];
  /** Layers whose constants differ only for a reason that they share with others. */
  readonly ofOneCause?: ReadonlySet<string>;
  /** Layers whose ε is the one that batch norms were folded with: one fault with these. */
  readonly withEpsilon?: ReadonlySet<string>;
}

/** A reason why constants differ. */
interface CauseOfMany {
  /** As a clause. */
  readonly says: string;
  readonly cause?: Relation["cause"] | undefined;
  readonly of: readonly Deviation[];
}

/** Minimum number of modules that have something in common for it to be one mistake: two may be two. */
const MIN_SAME = 3;

/**
 * The faults of constants that differ: one for each cause, which covers the constants that it explains and no others,
 * and one for each layer with constants that are left. A cause that explains the values is preferred to one that
 * explains only that they differ, and among those the one that explains the most. A constant with a mistake of its own
 * is a fault of its own, however many others differ.
 */
export function explainConstants(given: readonly Deviation[], all: ComparedConstants): ConstantFaults {
  const deviations = given.map(visible);
  const found = clausesOf(deviations, relationsOf(deviations, all.stateDict));
  const { causes, left: unexplained, withEpsilon } = causesOf(deviations, found, all);
  const isUnknown = (deviation: Deviation): boolean => certainOf(deviation, found).length === 0;
  // What nobody sees is part of another cause, if there is any.
  const largest = causes.toSorted((a, b) => b.of.length - a.of.length)[0];
  const unseen = largest ? unexplained.filter(isUnseen) : [];
  const left = without(unexplained, unseen);
  const unknown = left.filter(isUnknown);
  const isMany = countOf(unknown) > MAX_APART;
  const many = isMany ? together(unknown, all) : [];
  const order = new Map(all.graph.nodes.map(({ name }, index) => [name, index]));
  const shared = causes.map((each) => {
    const of = each === largest ? [...each.of, ...unseen] : each.of;
    const explanation = `${each.says}: ${of.length} of ${all.compared} constants differ from the checkpoint's`;
    const [[first] = []] = inOrder(of, all.graph);
    if (!first) throw new Error("no layers");
    return withCause(layerFault(first, "weights", null, explanation), each.cause);
  });
  const runs = runsOf(
    inOrder(without(left, many), all.graph),
    all.graph,
    (deviation) => isUnknown(deviation) && areOthers(deviation),
  );
  const remaining = new Set(runs.flatMap(([[node]]) => node.name));
  const isApart = causes.length === 0 && !isMany && runs.every(({ length }) => length === 1);
  return {
    faults: [
      ...shared,
      ...runs.map((run) => ownFault(run, found)),
      ...(isMany ? [ofNothing(inOrder(many, all.graph), found, all)] : []),
    ].toSorted((a, b) => (order.get(a.layer) ?? 0) - (order.get(b.layer) ?? 0)),
    ...(isApart
      ? {}
      : { ofOneCause: new Set(given.flatMap(({ node: { name } }) => (remaining.has(name) ? [] : name))) }),
    ...(withEpsilon.size > 0 ? { withEpsilon } : {}),
  };
}

/** Whether a constant differs in values that nobody sees only. */
function isUnseen({ is, expected }: Deviation): boolean {
  return is(expected);
}

/** What constants have in common, and the constants that this leaves. */
function causesOf(
  deviations: readonly Deviation[],
  found: Found,
  all: ComparedConstants,
): {
  readonly causes: readonly CauseOfMany[];
  readonly left: readonly Deviation[];
  readonly withEpsilon: ReadonlySet<string>;
} {
  const causes: CauseOfMany[] = exchanges(deviations, all.graph, all.stateDict).map((exchange) => ({
    ...exchange,
    cause: "weights-elsewhere",
  }));
  let left = causes.reduce((some: readonly Deviation[], { of }) => without(some, of), deviations);
  const isKnown = (deviation: Deviation): boolean => certainOf(deviation, found).length > 0;
  const withEpsilon = new Set<string>();
  for (;;) {
    const [best] = groupsOf(left, found)
      .filter(({ of, isByChance }) => !isByChance && modulesOf(of).size >= MIN_SAME)
      .toSorted((a, b) => b.of.length - a.of.length);
    if (!best) break;
    if (best.cause === "epsilon")
      for (const { layer, found: kept } of all.differences)
        if (best.says.startsWith(`ε is ${kept.replace(/^epsilon /, "")},`)) withEpsilon.add(layer);
    left = without(left, best.of);
    const unlike = left.filter((deviation) => found.get(deviation)?.length === 0 && !isUnseen(deviation));
    const joined =
      best.cause === "weights-rounded" ? alike(unlike, all.stateDict, { these: best.of, isUsual: true }) : [];
    const whole = { ...best, of: [...best.of, ...joined] };
    causes.push({ ...whole, says: ofMany(whole, all) });
    left = without(left, joined);
  }
  for (const others of [otherTraining, otherStatistics]) {
    // That all values are the same relates them to no others: they may be those of a new layer.
    const unlike = left.filter(
      (deviation) =>
        !isUnseen(deviation) && (!isKnown(deviation) || (others === otherTraining && isUniform(deviation))),
    );
    const cause = others(unlike, all);
    if (!cause) continue;
    const rest = without(unlike, cause.of).filter((each) => !isKnown(each) && cause.mayBe(each));
    const joined = alike(rest, all.stateDict, { these: cause.of });
    causes.push({ says: cause.says, of: [...cause.of, ...joined] });
    left = without(left, [...cause.of, ...joined]);
  }
  return { causes, left, withEpsilon };
}

/** Those of many constants without a cause that are one mistake: about as far off as each other, and in layers that follow each other if almost all are. */
function together(
  unknown: readonly Deviation[],
  { graph, stateDict }: ComparedConstants,
): readonly Deviation[] {
  const main = mainRun(alike(unknown, stateDict), graph);
  return countOf(without(unknown, main)) > MAX_APART ? unknown : main;
}

/** More modules than this are one mistake, even if what it is remains unknown. */
const MAX_APART = 8;

/** A layer and its constants that differ. */
type LayerDeviations = readonly [node: LayerNode, of: readonly Deviation[]];

/** Layers one by one, but those together that follow each other and whose constants differ in most values. */
function runsOf(
  layers: readonly LayerDeviations[],
  { nodes }: LayerGraph,
  isOther: (deviation: Deviation) => boolean,
  gap = 0,
): readonly (readonly [LayerDeviations, ...LayerDeviations[]])[] {
  const trained = nodes.filter(hasParameters);
  const placeOf = new Map(trained.map((node, place) => [node, place]));
  const runs: [LayerDeviations, ...LayerDeviations[]][] = [];
  for (const layer of layers) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    const [start = layer[0]] = layer[1].flatMap(({ merged }) => merged ?? []);
    const follows = last && (placeOf.get(start) ?? 0) <= (placeOf.get(last[0]) ?? 0) + 1 + gap;
    if (run && follows && [...last[1], ...layer[1]].every(isOther)) run.push(layer);
    else runs.push([layer]);
  }
  return runs;
}

/** The share of layers that makes a run of them the main one. */
const MOST_LAYERS = 0.9;

/** Those of constants that are in layers that follow each other, if these are almost all: elsewhere it is another mistake. */
function mainRun(deviations: readonly Deviation[], graph: LayerGraph): readonly Deviation[] {
  const layers = inOrder(deviations, graph);
  const [longest = []] = runsOf(layers, graph, () => true, 1).toSorted((a, b) => b.length - a.length);
  return longest.length >= MOST_LAYERS * layers.length ? longest.flatMap(([, of]) => of) : deviations;
}

/** The fault of many layers whose constants have no common cause. */
function ofNothing(layers: readonly LayerDeviations[], found: Found, { compared }: ComparedConstants): Fault {
  const count = layers.reduce((sum, [, of]) => sum + of.length, 0);
  const [[from] = [], [to] = []] = [layers[0], layers.at(-1)];
  if (!from) throw new Error("no layers");
  const { explanation: first } = ownFault(layers.slice(0, 1), found);
  const explanation = `${count} of ${compared} constants differ from the checkpoint's, in ${layers.length} layers from ${from.name} to ${to?.name}, and nothing explains them all; the first: ${first}`;
  return layerFault(from, "weights", null, explanation);
}

type Clause = Pick<CauseOfMany, "says" | "cause"> & { readonly isByChance: boolean };

/** What each constant shows by itself. */
type Found = ReadonlyMap<Deviation, readonly Clause[]>;

function clausesOf(deviations: readonly Deviation[], relations: readonly Relation[]): Found {
  return new Map(
    deviations.map((deviation) => [
      deviation,
      isUnseen(deviation)
        ? []
        : relations.flatMap(({ cause, of, isByChance }) => {
            const says = of(deviation);
            return says === undefined ? [] : [{ says, cause, isByChance: isByChance?.(deviation) === true }];
          }),
    ]),
  );
}

/** What a constant shows by itself, and not by chance. */
function certainOf(deviation: Deviation, found: Found): readonly Clause[] {
  return (found.get(deviation) ?? []).filter(({ isByChance }) => !isByChance);
}

/** Constants with the same finding, by chance if that of each may be. */
function groupsOf(deviations: readonly Deviation[], found: Found): readonly (CauseOfMany & Clause)[] {
  const groups = new Map<string, { clause: Clause; readonly of: Set<Deviation> }>();
  for (const deviation of deviations)
    for (const clause of found.get(deviation) ?? []) {
      const group = groups.get(clause.says) ?? { clause, of: new Set() };
      group.of.add(deviation);
      // However little float16 shows of an ε in each, many have the same only because of it.
      if (!clause.isByChance || clause.cause === "epsilon") group.clause = { ...clause, isByChance: false };
      groups.set(clause.says, group);
    }
  return [...groups.values()].map(({ clause, of }) => ({ ...clause, of: [...of] }));
}

/** Several constants of a kind. */
const KINDS = {
  weight: "weights",
  bias: "biases",
  runningMean: "running means",
  runningVar: "running variances",
} as const satisfies Record<Deviation["role"], string>;

/** The finding for many constants. */
function ofMany({ says, cause, of }: CauseOfMany, { graph, folded, norms }: ComparedConstants): string {
  const layers = [...layersOf(of).keys()];
  if (cause === "epsilon") {
    const epsilon = /^ε is (\S+),/.exec(says)?.[1];
    const [total, kind] = of.every(({ isProduct }) => isProduct)
      ? [folded, "folded batch norm"]
      : [norms, "batch norm"];
    const which = layers.length === total ? `every ${kind}` : `${layers.length} of ${total} ${kind}s`;
    return `the ε of ${which} is ${epsilon}`;
  }
  const kinds = [...new Set(of.map(({ role }) => KINDS[role]))].join(" and ");
  const what = says.startsWith("all ") ? `${says} in the ${kinds}` : says;
  const ops = new Set(layers.map(({ op }) => op.kind));
  const all = graph.nodes.filter(({ op }) => ops.has(op.kind)).length;
  return 2 * layers.length < all ? `${what} at ${someOf(layers.map(({ name }) => name))}` : what;
}

function ownFault(layers: readonly LayerDeviations[], found: Found): Fault {
  const deviations = layers.flatMap(([, of]) => of);
  const [[node] = []] = layers;
  if (!node) throw new Error("no layers");
  const clauses = deviations.map((deviation) => certainOf(deviation, found)[0]);
  const [first] = clauses;
  const isOne = clauses.every((clause) => clause !== undefined && clause.cause === first?.cause);
  const explanation = deviations.map(({ node: own, role, problem }, index) => {
    const says = clauses[index]?.says;
    return `${own.parameters[role] ?? role}: ${problem}${says === undefined || says === problem ? "" : `; ${says}`}`;
  });
  const fault = layerFault(node, "weights", null, explanation.join(", and "));
  return withCause(fault, isOne ? first?.cause : undefined);
}

function withCause(fault: Fault, cause: Fault["cause"]): Fault {
  return cause === undefined ? fault : { ...fault, cause };
}

function without(all: readonly Deviation[], some: readonly Deviation[]): readonly Deviation[] {
  const gone = new Set(some);
  return all.filter((deviation) => !gone.has(deviation));
}

function layersOf(deviations: readonly Deviation[]): ReadonlyMap<LayerNode, readonly Deviation[]> {
  const layers = new Map<LayerNode, Deviation[]>();
  for (const deviation of deviations)
    layers.set(deviation.node, [...(layers.get(deviation.node) ?? []), deviation]);
  return layers;
}

/** The layers in network order, with their constants. */
function inOrder(some: readonly Deviation[], { nodes }: LayerGraph): readonly LayerDeviations[] {
  const place = new Map(nodes.map((node, index) => [node.name, index]));
  return [...layersOf(some)].toSorted(([a], [b]) => (place.get(a.name) ?? 0) - (place.get(b.name) ?? 0));
}

/** How many modules have constants that differ. */
function countOf(some: readonly Deviation[]): number {
  return new Set(some.map(({ node }) => moduleOfLayer(node))).size;
}

/** The parameters that differ, which a gate's streams share. */
function modulesOf(deviations: readonly Deviation[]): ReadonlySet<string> {
  return new Set(deviations.map(({ node, role }) => node.parameters[role] ?? node.name));
}

/** Modules with each other's parameters. */
interface Exchange {
  /** As a clause. */
  readonly says: string;
  readonly of: readonly Deviation[];
}

/** The layer whose constants a layer has. */
interface Owner {
  readonly node: LayerNode;
  readonly merged: LayerNode | undefined;
}

/** Finds modules that have other modules' parameters; those that are connected by an exchange are one finding. */
function exchanges(
  deviations: readonly Deviation[],
  { nodes }: LayerGraph,
  stateDict: StateDict,
): readonly Exchange[] {
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const known = new Map<string, Expected | undefined>();
  const constantOf = (deviation: Deviation, { node, merged }: Owner): Expected | undefined => {
    const key = `${node.name} ${deviation.role} ${deviation.isProduct} ${merged?.name}`;
    if (!known.has(key)) known.set(key, deviation.with({ node, merged }));
    return known.get(key);
  };
  const areOf = (own: readonly Deviation[], owner: Owner): boolean =>
    own.every((deviation) => isLike(deviation, constantOf(deviation, owner))) ||
    areRoundedFrom(own, (deviation) => constantOf(deviation, owner));
  const layers = new Map<LayerNode, Deviation[]>();
  for (const deviation of deviations)
    layers.set(deviation.node, [...(layers.get(deviation.node) ?? []), deviation]);
  const moved = new Map<string, string>();
  const claimed: { readonly from: readonly string[]; readonly deviation: Deviation }[] = [];
  for (const [node, own] of layers) {
    const [{ merged, roles }] = own as [Deviation];
    if (own.every((each) => each.found === undefined || isUniform(each))) continue;
    const owner = ownersLike({ node, merged }, nodes, byName, stateDict).find((other) => areOf(own, other));
    if (!owner) continue;
    const isWhole = own.length === roles;
    if (merged && !isWhole) continue;
    const pairs = (
      isWhole
        ? [
            [moduleOfLayer(node), moduleOfLayer(owner.node)],
            ...(merged && owner.merged ? [[moduleOfLayer(merged), moduleOfLayer(owner.merged)]] : []),
          ]
        : own.map(({ role }) => [node.parameters[role] ?? "", owner.node.parameters[role] ?? ""])
    ) as [string, string][];
    for (const [from, to] of pairs) moved.set(from, to);
    for (const deviation of own) claimed.push({ from: pairs.map(([from]) => from), deviation });
  }
  const modules = new Set(nodes.flatMap((node) => (hasParameters(node) ? [moduleOfLayer(node)] : [])));
  const groups = connected([...moved].map(([from, to]) => lifted(from, to, moved, modules)));
  return groups.map((pairs) => {
    const isIn = (module: string): boolean =>
      pairs.some(([from]) => module === from || module.startsWith(`${from}.`));
    return {
      says: sayExchange(
        pairs,
        pairs.every(
          ([from]) => modules.has(from) || [...modules].some((module) => module.startsWith(`${from}.`)),
        )
          ? "parameters"
          : "values",
      ),
      of: claimed.flatMap(({ from, deviation }) => (from.some(isIn) ? [deviation] : [])),
    };
  });
}

function hasParameters({ parameters }: LayerNode): boolean {
  return Object.keys(parameters).length > 0;
}

function moduleOfLayer({ parameters }: LayerNode): string {
  const [path = ""] = Object.values(parameters);
  return moduleOf(path);
}

/** Other layers whose parameters have the same shapes, closest names first. */
function ownersLike(
  { node, merged }: Owner,
  nodes: readonly LayerNode[],
  byName: ReadonlyMap<string, LayerNode>,
  stateDict: StateDict,
): readonly Owner[] {
  const hasShapesOf = (own: LayerNode, other: LayerNode | undefined): other is LayerNode =>
    other?.op.kind === own.op.kind &&
    (Object.entries(own.parameters) as [ParameterRole, string][]).every(([role, path]) => {
      const [a, b] = [stateDict.get(path), stateDict.get(other.parameters[role] ?? "")];
      return a !== undefined && b !== undefined && sameShape(a.shape, b.shape);
    });
  const own = moduleOfLayer(node);
  const seen = new Set([own]);
  return nodes
    .flatMap((other): Owner[] => {
      const source = merged && byName.get(other.inputs[0] ?? "");
      if (!hasShapesOf(node, other) || seen.has(moduleOfLayer(other))) return [];
      if (merged && !hasShapesOf(merged, source)) return [];
      seen.add(moduleOfLayer(other));
      return [{ node: other, merged: source }];
    })
    .sort((a, b) => commonPrefix(moduleOfLayer(b.node), own) - commonPrefix(moduleOfLayer(a.node), own));
}

type Pair = readonly [from: string, to: string];

/** The largest modules around two that are exchanged as a whole. */
function lifted(
  from: string,
  to: string,
  moved: ReadonlyMap<string, string>,
  modules: ReadonlySet<string>,
): Pair {
  let best: Pair = [from, to];
  for (;;) {
    const [own, other] = best.map(moduleOf) as [string, string];
    const last = (path: string): string => path.slice(path.lastIndexOf("."));
    if (!best[0].includes(".") || !best[1].includes(".") || last(best[0]) !== last(best[1])) return best;
    const inside = [...modules].filter((module) => module.startsWith(`${own}.`));
    if (
      own === other ||
      inside.length === 0 ||
      !inside.every((module) => moved.get(module) === other + module.slice(own.length))
    )
      return best;
    best = [own, other];
  }
}

/** The two modules that a pair is the same part of, in either order; the whole paths if they end differently. */
function wholesOf(pair: Pair): string {
  const [a, b] = pair.map((path) => path.split(".").reverse()) as [string[], string[]];
  const same = a.findIndex((part, at) => part !== b[at]);
  return [a, b]
    .map((parts) => parts.slice(same).reverse().join("."))
    .sort()
    .join(" ");
}

/** Pairs that have a module in common, or are the same parts of two, together; each pair once. */
function connected(pairs: readonly Pair[]): readonly (readonly Pair[])[] {
  let groups: Pair[][] = [];
  for (const pair of new Map(pairs.map((each) => [each.join(" "), each])).values()) {
    const isNear = (group: readonly Pair[]): boolean =>
      group.some(
        (other) => other.some((module) => pair.includes(module)) || wholesOf(other) === wholesOf(pair),
      );
    groups = [...groups.filter((group) => !isNear(group)), [...groups.filter(isNear).flat(), pair]];
  }
  return groups;
}

/** Named of an exchange of more. */
const MOST = 3;

function sayExchange(pairs: readonly Pair[], what: string): string {
  const [[from, to], second] = pairs as [Pair, Pair | undefined];
  if (pairs.length === 2 && second?.[0] === to && second[1] === from)
    return `${from} and ${to} have each other's ${what}`;
  const named = pairs.slice(0, MOST).map(([own, other]) => `${own} has the ${what} of ${other}`);
  const more = pairs.length - named.length;
  return `${named.join(", ")}${more > 0 ? `, and ${more} more are moved in the same way` : ""}`;
}
