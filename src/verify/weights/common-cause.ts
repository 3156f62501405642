import type { LayerGraph, LayerNode, ParameterRole } from "../../arch/index.js";
import { moduleOf } from "../../arch/parameters.js";
import { type StateDict, sameShape } from "../../core/tensor.js";
import { commonPrefix, someOf } from "../../core/text.js";
import { type Fault, layerFault } from "../outcome/report.js";
import type { Expected } from "./constants.js";
import { areRoundedFrom, otherStatistics, otherTraining } from "./other-weights.js";
import {
  type ComparedConstants,
  type Deviation,
  isLike,
  isUniform,
  type Relation,
  relationsOf,
} from "./relations.js";

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
 * explains only that they differ, and among those the one that explains the most.
 */
export function explainConstants(deviations: readonly Deviation[], all: ComparedConstants): ConstantFaults {
  const relations = relationsOf(deviations, all.stateDict);
  const causes: CauseOfMany[] = exchanges(deviations, all.graph, all.stateDict).map((exchange) => ({
    ...exchange,
    cause: "weights-elsewhere",
  }));
  let left = causes.reduce((some, { of }) => without(some, of), deviations);
  const found = new Map(left.map((deviation) => [deviation, clausesOf(deviation, relations)]));
  const withEpsilon = new Set<string>();
  for (;;) {
    const [best] = groupsOf(left, found)
      .filter(({ of }) => modulesOf(of).size >= MIN_SAME)
      .toSorted((a, b) => b.of.length - a.of.length);
    if (!best) break;
    if (best.cause === "epsilon")
      for (const { layer, found: kept } of all.differences)
        if (best.says.startsWith(`ε is ${kept.replace(/^epsilon /, "")},`)) withEpsilon.add(layer);
    causes.push({ ...best, says: ofMany(best, all) });
    left = without(left, best.of);
  }
  // That all values are the same relates them to no others.
  const unlike = (): readonly Deviation[] =>
    left.filter((deviation) => found.get(deviation)?.length === 0 || isUniform(deviation));
  for (const others of [otherTraining, otherStatistics]) {
    const cause = others(unlike(), all);
    if (!cause) continue;
    causes.push(cause);
    left = without(left, cause.of);
  }
  const order = new Map(all.graph.nodes.map(({ name }, index) => [name, index]));
  const placeOf = (layer: string): number => order.get(layer) ?? 0;
  const layers = [...layersOf(left)].toSorted(([a], [b]) => placeOf(a.name) - placeOf(b.name));
  const areApart = layers.length <= MAX_APART;
  const same = areApart ? undefined : causes.find((cause) => isAtSame(cause, layers));
  const shared = causes.map((each) => {
    const { says, cause, of } = each;
    const [first] = of.toSorted((a, b) => placeOf(a.node.name) - placeOf(b.node.name)) as [Deviation];
    const others = each === same ? `; ${left.length} other constants of the same layers differ, too` : "";
    const explanation = `${says}: ${of.length} of ${all.compared} constants differ from the checkpoint's${others}`;
    return withCause(layerFault(first.node, "weights", null, explanation), cause);
  });
  const own = layers.map(([node, of]) => ownFault(node, of, found));
  const remaining = new Set(areApart ? left.map(({ node }) => node.name) : []);
  const apart = areApart ? own : same ? [] : [unexplained(layers, own, all)];
  return {
    faults: [...shared, ...apart].toSorted((a, b) => placeOf(a.layer) - placeOf(b.layer)),
    ...(causes.length > 0 || !areApart
      ? { ofOneCause: new Set(deviations.flatMap(({ node: { name } }) => (remaining.has(name) ? [] : name))) }
      : {}),
    ...(withEpsilon.size > 0 ? { withEpsilon } : {}),
  };
}

/** More layers than this are one mistake, even if what it is remains unknown. */
const MAX_APART = 8;

/** The share of layers that make two sets of them the same. */
const MOST_LAYERS = 0.9;

/** Whether what is left is almost only at layers of which other constants have this cause. */
function isAtSame(
  { of }: CauseOfMany,
  layers: readonly (readonly [LayerNode, readonly Deviation[]])[],
): boolean {
  const names = new Set(of.map(({ node }) => node.name));
  return layers.filter(([{ name }]) => names.has(name)).length >= MOST_LAYERS * layers.length;
}

/** The fault of many layers whose constants have no common cause. */
function unexplained(
  layers: readonly (readonly [LayerNode, readonly Deviation[]])[],
  [first]: readonly Fault[],
  { compared }: ComparedConstants,
): Fault {
  const count = layers.reduce((sum, [, of]) => sum + of.length, 0);
  const [[from] = [], [to] = []] = [layers[0], layers.at(-1)];
  if (!first || !from) throw new Error("no layers");
  const explanation = `${count} of ${compared} constants differ from the checkpoint's, in ${layers.length} layers from ${from.name} to ${to?.name}, and nothing explains them all; the first: ${first.explanation}`;
  return layerFault(from, "weights", null, explanation);
}

type Clause = Pick<CauseOfMany, "says" | "cause">;

function clausesOf(deviation: Deviation, relations: readonly Relation[]): readonly Clause[] {
  return relations.flatMap(({ cause, of }) => {
    const says = of(deviation);
    return says === undefined ? [] : [{ says, cause }];
  });
}

/** Constants with the same finding. */
function groupsOf(
  deviations: readonly Deviation[],
  found: ReadonlyMap<Deviation, readonly Clause[]>,
): readonly CauseOfMany[] {
  const groups = new Map<string, { readonly clause: Clause; readonly of: Set<Deviation> }>();
  for (const deviation of deviations)
    for (const clause of found.get(deviation) ?? []) {
      const group = groups.get(clause.says) ?? { clause, of: new Set() };
      group.of.add(deviation);
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
function ofMany({ says, cause, of }: CauseOfMany, { graph, folded }: ComparedConstants): string {
  const layers = [...layersOf(of).keys()];
  if (cause === "epsilon") {
    const epsilon = /^ε is (\S+),/.exec(says)?.[1];
    const which =
      layers.length === folded
        ? "every folded batch norm"
        : `${layers.length} of ${folded} folded batch norms`;
    return `the ε of ${which} is ${epsilon}`;
  }
  const kinds = [...new Set(of.map(({ role }) => KINDS[role]))].join(" and ");
  const what = says.startsWith("all ") ? `${says} in the ${kinds}` : says;
  const ops = new Set(layers.map(({ op }) => op.kind));
  const all = graph.nodes.filter(({ op }) => ops.has(op.kind)).length;
  return 2 * layers.length < all ? `${what} at ${someOf(layers.map(({ name }) => name))}` : what;
}

function ownFault(
  node: LayerNode,
  deviations: readonly Deviation[],
  found: ReadonlyMap<Deviation, readonly Clause[]>,
): Fault {
  const clauses = deviations.map((deviation) => found.get(deviation)?.[0]);
  const [first] = clauses;
  const isOne = clauses.every((clause) => clause !== undefined && clause.cause === first?.cause);
  const explanation = deviations.map(({ role, problem }, index) => {
    const says = clauses[index]?.says;
    return `${node.parameters[role] ?? role}: ${problem}${says === undefined || says === problem ? "" : `; ${says}`}`;
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
