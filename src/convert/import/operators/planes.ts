import type { Tensor } from "../../../core/tensor.js";
import type { OnnxNode } from "../../formats/onnx/model.js";
import {
  type ForeignNode,
  type Form,
  inForm,
  isKind,
  type Planes,
  type Size,
  type Value,
} from "./foreign.js";
import { ELEMENTWISE, isNchw, NCHW, withAttribute } from "./layouts.js";
import { listedSizes, placesOf, reshapeTarget, sameSize, sizesOf } from "./shapes.js";
import { asNode, asTensor, attributeOrInput, int, nodeValue, type OperatorSite } from "./site.js";

/**
 * Maps with their height and width merged, [N, C, H·W], or their channels too, [N·C, H·W]: how norms of groups are exported, and others are
 * written by hand; or all in a line, from which torch's exporter takes a map again that was stored with its channels last; or with an axis
 * more, as Keras splits channels into groups of one. The elements stay where they are, so that an operator over the last axis is one over the plane, and one on
 * each element is the same. No value of the file is a layer's until it is a map again.
 */

/** A map as planes, if a reshape merges its last axes for every image size; otherwise undefined. */
export function asPlanes(site: OperatorSite): Value | undefined {
  const input = asNode(site.inputs[0]);
  const target = reshapeTarget(site);
  if (!input || !target) return undefined;
  if (target.length === 5) return withAxis(site, input, target);
  if (site.layout) return undefined;
  // A pooled map with fewer axes is a vector.
  if (input.form.rank !== "map" && !(input.form.rank === "pooled" && target.length === 1)) return undefined;
  const planes: Planes = { rank: target.length, sizes: sizesOf(site, input) };
  const [batch, channels, height, width] = planes.sizes;
  const plane = productOf(height, width);
  const merged = [
    [batch, channels, plane],
    [productOf(batch, channels), plane],
    [productOf(productOf(batch, channels), plane)],
  ].find(({ length }) => length === target.length);
  return merged && fills(target, merged, planes) ? { kind: "node", node: input, planes } : undefined;
}

/** A map with an axis of size 1 more, if a reshape to a target adds it for every image size. */
function withAxis(site: OperatorSite, input: ForeignNode, target: readonly Size[]): Value | undefined {
  const { layout = NCHW } = site;
  const sizes = sizesOf(site, input);
  const planes = { rank: target.length, sizes };
  const at = target.findIndex((_, place) => fills(target, sizes.toSpliced(place, 0, 1), planes));
  return input.form.rank === "map" && at >= 0
    ? { kind: "node", node: input, planes: { ...planes, added: { at, layout } } }
    : undefined;
}

/** The map that a reshape of planes restores; undefined for another shape. */
function asMap(site: OperatorSite, planes: Planes): Value | undefined {
  const input = asNode(site.inputs[0]);
  const target = reshapeTarget(site);
  return input && target && fills(target, sizesIn(input, planes), planes)
    ? again(input, site, planes)
    : undefined;
}

/** A Gather from a line of elements that restores the map. */
function gathered(site: OperatorSite, planes: Planes): Value | undefined {
  const input = asNode(site.inputs[0]);
  const places = placesOf(site.inputs[1]);
  if (!input || !places || int(site.node, "axis", 0) !== 0) return undefined;
  const sizes = sizesIn(input, planes);
  const isMap =
    places.sizes.length === sizes.length &&
    sizes.every((size, axis) => {
      const stride = sizes.slice(axis + 1).reduce<Size>(productOf, 1);
      return sameSize(places.sizes[axis], size) && (size === 1 || places.strides[axis] === stride);
    });
  return isMap ? again(input, site, planes) : undefined;
}

function again(input: ForeignNode, { output }: OperatorSite, { added }: Planes): Value {
  const laid = added && !isNchw(added.layout) ? { reading: { layout: added.layout } } : {};
  const node = input.value === undefined ? { ...input, value: output, ...laid } : input;
  return { kind: "node", node, ...laid };
}

/** The sizes of the map; one pixel for each plane if it was pooled. */
function sizesIn(
  { form }: ForeignNode,
  { sizes, added: { layout } = { at: 0, layout: NCHW } }: Planes,
): readonly Size[] {
  return form.rank === "pooled" ? sizes.map((size, at) => ((layout[at] ?? 0) < 2 ? size : 1)) : sizes;
}

/**
 * Whether a reshape to a target gives these sizes. One of them may be −1 or unknown, since it follows from the
 * others; 0 copies a size.
 */
function fills(target: readonly Size[], sizes: readonly Size[], { rank }: Planes): boolean {
  const isKept = (size: Size, axis: number): boolean => size === 0 && rank === 3 && axis < 2;
  const others = target.filter((size, axis) => !isKept(size, axis) && !sameSize(size, sizes[axis]));
  const [only] = others;
  return (
    target.length === sizes.length &&
    (others.length === 0 || (others.length === 1 && typeof only === "number" && only !== 0))
  );
}

function productOf(a: Size, b: Size): Size {
  if (a === 1) return b;
  if (b === 1) return a;
  return typeof a === "number" && typeof b === "number" ? a * b : undefined;
}

/**
 * An operator on planes as the same operator on the map; or the map, if the operator restores it. Undefined for any
 * other operator.
 */
export function onMap(site: OperatorSite): OperatorSite | Value | undefined {
  const { node, inputs } = site;
  const nodes = inputs.filter((value) => value?.kind === "node");
  const [first] = nodes;
  const planes = first?.planes;
  if (!planes || node.domain !== "" || !nodes.every((value) => areSame(value.planes, planes)))
    return undefined;
  if (node.opType === "Reshape") return asMap(site, planes);
  if (planes.added) return withoutAxis(site, planes, planes.added);
  if (node.opType === "Gather" && planes.rank === 1) return gathered(site, planes);
  const last = planes.rank - 1;
  const isLast = (axis: number | undefined): boolean => axis === last || axis === -1;
  const plain = inputs.map((value): Value | undefined | null =>
    value?.kind === "node" ? { kind: "node", node: value.node } : spread(value, planes),
  );
  const mapped = (
    changed: OnnxNode,
    values: readonly (Value | undefined | null)[],
  ): OperatorSite | undefined =>
    values.includes(null)
      ? undefined
      : { ...site, node: changed, inputs: values.map((value) => value ?? undefined), planes };
  if (ELEMENTWISE.has(node.opType)) return mapped(node, plain);
  // A single line does not separate images and channels.
  if (planes.rank === 1) return undefined;
  if (/^Global(Average|Max)Pool$/.test(node.opType) && planes.rank === 3) return mapped(node, plain);
  const { rank } = first.node.form;
  if (rank === "pooled" && planes.rank === 3 && ["Squeeze", "Flatten"].includes(node.opType)) {
    // [N, C, 1] is a vector.
    const flat = asNode(
      nodeValue({ kind: "flatten" }, [first.node], inForm(first.node.form, "flat"), undefined),
    );
    const line: Value | undefined = flat && { kind: "node", node: flat, reading: { isLine: true } };
    return { ...site, inputs: [line, ...inputs.slice(1)] };
  }
  if (node.opType === "InstanceNormalization" && planes.rank === 3)
    return mapped(node, [plain[0], ...inputs.slice(1)]);
  if (node.opType === "LayerNormalization" && isLast(int(node, "axis", -1)))
    return mapped(withAttribute(node, "axis", { type: "int", value: 2 }), [plain[0], ...inputs.slice(1)]);
  if (!node.opType.startsWith("Reduce")) return undefined;
  const axes = attributeOrInput(site, "axes", 1);
  const keeps = int(node, "keepdims", 1) === 1;
  if (axes?.length !== 1 || !isLast(axes[0]) || (!keeps && planes.rank !== 3)) return undefined;
  const reduced = mapped(withAttribute(node, "axes", { type: "ints", value: [2, 3] }), plain.slice(0, 1));
  if (keeps || !reduced) return reduced;
  // [N, C] is a vector, as without planes.
  const { planes: _, ...vector } = reduced;
  return vector;
}

/** An operator on a map with an axis of size 1 more as the same operator on the map in its layout. */
function withoutAxis(
  site: OperatorSite,
  planes: Planes,
  { at, layout }: NonNullable<Planes["added"]>,
): OperatorSite | undefined {
  const { node, inputs } = site;
  const plain = inputs.map((value): Value | undefined | null =>
    value?.kind === "node"
      ? { kind: "node", node: value.node, reading: { layout } }
      : narrower(value, planes.rank, at),
  );
  const values = plain.map((value) => value ?? undefined);
  if (ELEMENTWISE.has(node.opType))
    return plain.includes(null) ? undefined : { ...site, inputs: values, planes };
  const axes = attributeOrInput(site, "axes", 1)?.map((axis) => (axis < 0 ? axis + planes.rank : axis));
  const others = axes?.filter((axis) => axis !== at).map((axis) => (axis > at ? axis - 1 : axis));
  if (!node.opType.startsWith("Reduce") || !others?.length || int(node, "keepdims", 1) !== 1)
    return undefined;
  const reduced = withAttribute(node, "axes", { type: "ints", value: others });
  return { ...site, node: reduced, inputs: values.slice(0, 1), planes };
}

/** A constant that broadcasts over a map without one of its axes, as it would with it; null if it has that axis. */
function narrower(value: Value | undefined, rank: number, at: number): Value | undefined | null {
  const tensor = asTensor(value);
  if (value?.kind !== "constant" || !tensor || tensor.data.length === 1) return value;
  const own = at - (rank - tensor.shape.length);
  if (tensor.shape.length < 2 || tensor.shape.length > rank || (tensor.shape[own] ?? 1) !== 1) return null;
  return {
    ...value,
    tensor: { ...tensor, shape: own < 0 ? tensor.shape : tensor.shape.toSpliced(own, 1) } as Tensor,
  };
}

function areSame(a: Planes | undefined, b: Planes): boolean {
  const isSame = String(a?.added?.layout) === String(b.added?.layout) && a?.added?.at === b.added?.at;
  return a?.rank === b.rank && isSame && a.sizes.every((size, axis) => sameSize(size, b.sizes[axis]));
}

/** A constant that broadcasts over planes, as it would over the map; null if it is not by channel. */
function spread(value: Value | undefined, { rank }: Planes): Value | undefined | null {
  const tensor = asTensor(value);
  if (value?.kind !== "constant" || !tensor || tensor.data.length === 1) return value;
  const { shape } = tensor;
  if (rank !== 3 || shape.length > 3 || shape.at(-1) !== 1) return null;
  return { ...value, tensor: { ...tensor, shape: [...shape, 1] } as Tensor };
}

/** The result of an operator on planes: planes again, which are not a layer's value in the file. */
export function inPlanes(value: Value, planes: Planes, output: string): Value {
  if (value.kind !== "node") return value;
  const node: ForeignNode = value.node.value === output ? { ...value.node, value: undefined } : value.node;
  return { ...value, node, planes };
}

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

/** Limit on terms: an OSNet has at most five, but a file may reduce one long stack any number of times. */
const MAX_TERMS = 64;

/** A reduction of stacked maps as an operator of these maps; undefined for any other operator. */
export function ofStacked(site: OperatorSite): OperatorSite | undefined {
  const { node, inputs } = site;
  const opType = node.domain === "" && Object.hasOwn(REDUCTIONS, node.opType) && REDUCTIONS[node.opType];
  const [axis, ...others] = (opType && attributeOrInput(site, "axes", 1)) || [];
  const [stack] = inputs;
  if (!opType || axis === undefined || others.length > 0 || int(node, "keepdims", 1) !== 0) return undefined;
  const parts = partsOf(stack, "Concat", axis, 5)?.map((part) => partsOf(part, "Unsqueeze", axis, 5)?.[0]);
  const terms = (parts ?? joined(site, stack, axis) ?? []).filter(isMap);
  return terms.length > 1 && terms.length <= MAX_TERMS && (!parts || terms.length === parts.length)
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
