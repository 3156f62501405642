import type { Tensor } from "../../../core/tensor.js";
import type { OnnxNode } from "../../formats/onnx/model.js";
import type { ForeignNode, Planes, Size, Value } from "./foreign.js";
import { ELEMENTWISE, withAttribute } from "./layouts.js";
import { listedSizes, sameSize, sizesOf } from "./shapes.js";
import { asNode, asTensor, attributeOrInput, int, ints, type OperatorSite } from "./site.js";

/**
 * Maps with their height and width merged, [N, C, H·W], or their channels too, [N·C, H·W]: how norms of groups are exported, and others are
 * written by hand. The elements stay where they are, so that an operator over the last axis is one over the plane, and one on
 * each element is the same. No value of the file is a layer's until it is a map again.
 */

/** A map as planes, where a reshaping merges its axes, whatever the images are; undefined for any other. */
export function asPlanes(site: OperatorSite): Value | undefined {
  const [value] = site.inputs;
  const input = asNode(value);
  const target = ints(site.node, "shape") ?? listedSizes(site.inputs[1]);
  if (site.layout || input?.form.rank !== "map" || !target || int(site.node, "allowzero", 0) !== 0)
    return undefined;
  const sizes = sizesOf(site, input);
  const [batch, channels, height, width] = sizes;
  const plane = productOf(height, width);
  const planes: Planes = { areMerged: target.length === 2, sizes };
  const merged = planes.areMerged ? [productOf(batch, channels), plane] : [batch, channels, plane];
  // A zero copies the size at its place, which in the merged form is another.
  const isKept = (size: Size, axis: number): boolean => size === 0 && !planes.areMerged && axis < 2;
  const others = target.filter((size, axis) => !isKept(size, axis) && !sameSize(size, merged[axis]));
  const isPlanes =
    target.length === merged.length &&
    (others.length === 0 || (others.length === 1 && typeof others[0] === "number" && others[0] !== 0));
  return isPlanes ? { kind: "node", node: input, planes } : undefined;
}

/** The map that planes are of, in the shape that it had; undefined for another shape. */
function asMap({ node, inputs, output }: OperatorSite, { areMerged, sizes }: Planes): Value | undefined {
  const input = asNode(inputs[0]);
  const target = ints(node, "shape") ?? listedSizes(inputs[1]);
  const [batch, channels] = sizes;
  const own = input?.form.rank === "pooled" ? [batch, channels, 1, 1] : sizes;
  if (!input || target?.length !== own.length || int(node, "allowzero", 0) !== 0) return undefined;
  const isKept = (size: Size, axis: number): boolean => size === 0 && !areMerged && axis < 2;
  const others = target.filter((size, axis) => !isKept(size, axis) && !sameSize(size, own[axis]));
  const isMap =
    others.length === 0 || (others.length === 1 && typeof others[0] === "number" && others[0] !== 0);
  if (!isMap) return undefined;
  return { kind: "node", node: input.value === undefined ? { ...input, value: output } : input };
}

function productOf(a: Size, b: Size): Size {
  return typeof a === "number" && typeof b === "number" ? a * b : undefined;
}

/** An operator on planes as it would be on the map; the map itself where it makes one of them. Undefined where it is neither. */
export function onMap(site: OperatorSite): OperatorSite | Value | undefined {
  const { node, inputs } = site;
  const nodes = inputs.filter((value) => value?.kind === "node");
  const [first] = nodes;
  const planes = first?.planes;
  if (!planes || node.domain !== "" || !nodes.every((value) => areSame(value.planes, planes)))
    return undefined;
  if (node.opType === "Reshape") return asMap(site, planes);
  const last = planes.areMerged ? 1 : 2;
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
  if (node.opType === "InstanceNormalization" && !planes.areMerged)
    return mapped(node, [plain[0], ...inputs.slice(1)]);
  if (node.opType === "LayerNormalization" && isLast(int(node, "axis", -1)))
    return mapped(withAttribute(node, "axis", { type: "int", value: 2 }), [plain[0], ...inputs.slice(1)]);
  if (!node.opType.startsWith("Reduce")) return undefined;
  const axes = attributeOrInput(site, "axes", 1);
  if (axes?.length !== 1 || !isLast(axes[0]) || int(node, "keepdims", 1) !== 1) return undefined;
  return mapped(withAttribute(node, "axes", { type: "ints", value: [2, 3] }), plain.slice(0, 1));
}

function areSame(a: Planes | undefined, b: Planes): boolean {
  return a?.areMerged === b.areMerged && a.sizes.every((size, axis) => sameSize(size, b.sizes[axis]));
}

/** A constant that is spread over planes as it would be spread over the map; null where it is not by channel. */
function spread(value: Value | undefined, { areMerged }: Planes): Value | undefined | null {
  const tensor = asTensor(value);
  if (value?.kind !== "constant" || !tensor || tensor.data.length === 1) return value;
  const { shape } = tensor;
  if (areMerged || shape.length > 3 || shape.at(-1) !== 1) return null;
  return { ...value, tensor: { ...tensor, shape: [...shape, 1] } as Tensor };
}

/** What an operator on planes computes: planes again, and no value of the file that is a layer's. */
export function inPlanes(value: Value, planes: Planes, output: string): Value {
  if (value.kind !== "node") return value;
  const node: ForeignNode = value.node.value === output ? { ...value.node, value: undefined } : value.node;
  return { ...value, node, planes };
}
