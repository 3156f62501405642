import type { LayerGraph, LayerNode, ParameterRole } from "../../arch/index.js";
import { moduleOf } from "../../arch/parameters.js";
import { type StateDict, sameShape } from "../../core/tensor.js";
import { commonPrefix } from "../../core/text.js";
import type { Expected } from "./constants.js";
import { type Deviation, isLike, isUniform } from "./relations.js";

/** Parameters that are those of other layers: of one module, or of several that were exchanged. */

/** Modules with each other's parameters. */
export interface Exchange {
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
export function exchanges(
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
  const isOf = (deviation: Deviation, owner: Owner): boolean =>
    isLike(deviation, constantOf(deviation, owner));
  const layers = new Map<LayerNode, Deviation[]>();
  for (const deviation of deviations)
    layers.set(deviation.node, [...(layers.get(deviation.node) ?? []), deviation]);
  const moved = new Map<string, string>();
  const claimed: { readonly from: readonly string[]; readonly deviation: Deviation }[] = [];
  for (const [node, own] of layers) {
    const [{ merged, roles }] = own as [Deviation];
    if (own.every((each) => each.found === undefined || isUniform(each))) continue;
    const owner = ownersLike({ node, merged }, nodes, byName, stateDict).find((other) =>
      own.every((deviation) => isOf(deviation, other)),
    );
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

/** Pairs that have a module in common, together; each pair once. */
function connected(pairs: readonly Pair[]): readonly (readonly Pair[])[] {
  let groups: Pair[][] = [];
  for (const pair of new Map(pairs.map((each) => [each.join(" "), each])).values()) {
    const isNear = (group: readonly Pair[]): boolean =>
      group.some((other) => other.some((module) => pair.includes(module)));
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
  return `${named.join(", ")}${more > 0 ? `, and ${more} more are moved likewise` : ""}`;
}
