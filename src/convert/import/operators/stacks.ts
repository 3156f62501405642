import { type ForeignNode, type Form, isKind, type Value } from "./foreign.js";
import { listedSizes, sameSize, sizesOf } from "./shapes.js";
import { attributeOrInput, int, type OperatorSite } from "./site.js";

/**
 * Maps that are stacked along a new axis, or joined along an old one that a reshape then splits, to be combined by a reduction
 * along it: `torch.stack(terms).sum(0)` and `torch.cat(terms, 1).view(n, -1, c, h, w).sum(1)` are a sum of the terms.
 */

/** The operators of several values that reductions of a stack are. */
const REDUCTIONS: Readonly<Record<string, string>> = {
  ReduceSum: "Sum",
  ReduceMean: "Mean",
  ReduceMax: "Max",
  ReduceMin: "Min",
};

/** A reduction of stacked maps as an operator of these maps; undefined for any other operator. */
export function ofStacked(site: OperatorSite): OperatorSite | undefined {
  const { node, inputs } = site;
  const opType = node.domain === "" && Object.hasOwn(REDUCTIONS, node.opType) && REDUCTIONS[node.opType];
  const [axis, ...others] = (opType && attributeOrInput(site, "axes", 1)) || [];
  const [stack] = inputs;
  if (!opType || axis === undefined || others.length > 0 || int(node, "keepdims", 1) !== 0) return undefined;
  const parts = partsOf(stack, "Concat", axis, 5)?.map((part) => partsOf(part, "Unsqueeze", axis, 5)?.[0]);
  const terms = (parts ?? joined(site, stack, axis) ?? []).filter(isMap);
  return terms.length > 1 && (!parts || terms.length === parts.length)
    ? { ...site, node: { ...node, opType, attributes: new Map() }, inputs: terms }
    : undefined;
}

/** The maps that were joined along images or channels, if a reshape separates them again along this axis of five. */
function joined(site: OperatorSite, value: Value | undefined, axis: number): readonly Value[] | undefined {
  if (value?.kind !== "node" || !isKind(value.node, "other") || value.node.op.opType !== "Reshape")
    return undefined;
  const [all, target] = value.node.op.operands;
  if (all?.kind !== "node") return undefined;
  const sizes = listedSizes(target);
  const terms = partsOf(all, "Concat", front(axis, 5), 4);
  const [first] = terms ?? [];
  if (!terms || !isMap(first) || front(axis, 5) > 1 || sizes?.length !== 5) return undefined;
  const { channels } = first.node.form;
  if (terms.some((term) => !isMap(term) || term.node.form.channels !== channels)) return undefined;
  // One size may be unknown, since it follows from the others.
  const fits = (of: ForeignNode): boolean => {
    const [images, , ...plane] = sizesOf(site, of);
    const wanted = [images, channels, ...plane].toSpliced(front(axis, 5), 0, terms.length);
    return sizes.filter((size, at) => !sameSize(size, wanted[at])).length <= 1;
  };
  return fits(first.node) || fits(all.node) ? terms : undefined;
}

/** The form of maps that were joined along images or channels. */
export function joinedForm(terms: readonly Value[], axis = 0): Form | undefined {
  const maps = terms.filter(isMap).map(({ node }) => node.form);
  const [first] = maps;
  const isKnown = maps.length === terms.length && !maps.some(({ isGuess }) => isGuess);
  if (!first || !isKnown || front(axis, 4) > 1) return undefined;
  const channels = maps.reduce((sum, form) => sum + (form.channels ?? Number.NaN), 0);
  return front(axis, 4) === 0 ? first : { ...first, channels: channels > 0 ? channels : undefined };
}

/** What an operator of unknown meaning reads, if it is this one, along this axis of its result. */
function partsOf(
  value: Value | undefined,
  opType: string,
  axis: number,
  rank: number,
): readonly Value[] | undefined {
  if (value?.kind !== "node" || !isKind(value.node, "other") || value.node.op.opType !== opType)
    return undefined;
  const { axes, operands } = value.node.op;
  return axes?.length === 1 && front(axes[0] ?? 0, rank) === front(axis, rank)
    ? opType === "Unsqueeze"
      ? operands.slice(0, 1)
      : operands
    : undefined;
}

function isMap(value: Value | undefined): value is Value & { readonly kind: "node" } {
  return value?.kind === "node" && !value.planes && !value.reading && value.node.form.rank === "map";
}

function front(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}
