import type { ParameterRole } from "../../../arch/index.js";
import type { Tensor } from "../../../core/tensor.js";
import type { OnnxAttributeType, OnnxAttributeValues, OnnxNode } from "../../formats/onnx/model.js";
import type { Constants, ForeignNode, ForeignOp, Form, Layout, Planes, Value } from "./foreign.js";

/** One ONNX node with the meaning of its inputs. */
export interface OperatorSite {
  readonly node: OnnxNode;
  /** Undefined for an omitted optional input. */
  readonly inputs: readonly (Value | undefined)[];
  /** Name of the first output. */
  readonly output: string;
  /** The layout of the file's operator, if it is not NCHW. Everything else at the site is in NCHW. */
  readonly layout?: Layout;
  /** Whether the file's weights are in half precision, and with them its arithmetic. */
  readonly isHalf?: boolean;
  /** The shape of maps in the file's operator, if they have fewer axes. Everything else is in NCHW. */
  readonly planes?: Planes;
  /** Whether the file's operator works on [N, C, 1]. Everything else is as for [N, C]. */
  readonly isLine?: true;
  /** The batch size, if the file fixes it. */
  readonly batch?: number | undefined;
  /** The operators that read a value of the file, possibly through operators that pass it on. */
  readonly readersOf?: (value: string) => ReadonlySet<string>;
}

/** The meaning of an operator's first output; undefined if this use of the operator has no known meaning. */
export type OperatorReader = (site: OperatorSite) => Value | undefined;

export function asNode(value: Value | undefined): ForeignNode | undefined {
  return value?.kind === "node" ? value.node : undefined;
}

export function asTensor(value: Value | undefined): Tensor | undefined {
  return value?.kind === "constant" ? value.tensor : undefined;
}

/** A value that a node computes. */
export function nodeValue(
  op: ForeignOp,
  inputs: readonly ForeignNode[],
  form: Form,
  value: string | undefined,
  constants: Constants = {},
): Value {
  return { kind: "node", node: { op, inputs, form, value, constants } };
}

/** Constants by role, with their rounding if they were quantised. */
export function constantsOf(
  values: Readonly<Partial<Record<ParameterRole, Value | undefined>>>,
): Pick<ForeignNode, "constants" | "roundings"> {
  const constants: Partial<Record<ParameterRole, Tensor>> = {};
  const roundings: Partial<Record<ParameterRole, Float32Array>> = {};
  for (const [role, value] of Object.entries(values) as [ParameterRole, Value | undefined][]) {
    if (value?.kind !== "constant") continue;
    constants[role] = value.tensor;
    if (value.rounding) roundings[role] = value.rounding;
  }
  return { constants, ...(Object.keys(roundings).length > 0 ? { roundings } : {}) };
}

/** A node with changes, such as a constant that it absorbs and the name of its new value. */
export function replaced(node: ForeignNode, change: Partial<ForeignNode>): Value {
  return { kind: "node", node: { ...node, ...change } };
}

/** An attribute's value, if it exists and has the requested type. */
function attribute<T extends OnnxAttributeType>(
  { attributes }: OnnxNode,
  name: string,
  type: T,
): OnnxAttributeValues[T] | undefined {
  const found = attributes.get(name);
  return found?.type === type ? (found.value as OnnxAttributeValues[T]) : undefined;
}

export const int = (node: OnnxNode, name: string, fallback: number): number =>
  attribute(node, name, "int") ?? fallback;
export const float = (node: OnnxNode, name: string, fallback: number): number =>
  attribute(node, name, "float") ?? fallback;
export const ints = (node: OnnxNode, name: string): readonly number[] | undefined =>
  attribute(node, name, "ints");
export const floats = (node: OnnxNode, name: string): readonly number[] | undefined =>
  attribute(node, name, "floats");
export const text = (node: OnnxNode, name: string, fallback: string): string =>
  attribute(node, name, "string") ?? fallback;

/** Limit on lists: the paddings of four axes are eight numbers, but a file may have any number. */
export const MAX_LIST = 64;

/** The numbers of a short list: axes, paddings, a shape. */
export function numbers(value: Value | undefined): readonly number[] | undefined {
  const tensor = asTensor(value);
  if (!tensor || tensor.data.length > MAX_LIST) return undefined;
  return tensor.dtype !== "float16" && tensor.dtype !== "bfloat16"
    ? Array.from(tensor.data as ArrayLike<number | bigint>, Number)
    : undefined;
}

/** A list of numbers that is an attribute in older operator sets and an input in newer ones. */
export function attributeOrInput(
  { node, inputs }: OperatorSite,
  name: string,
  index: number,
): readonly number[] | undefined {
  return ints(node, name) ?? numbers(inputs[index]);
}

/** Axes as non-negative numbers, in ascending order. */
export function frontAxes(axes: readonly number[], { rank }: Form): readonly number[] {
  const dimensions = rank === "flat" ? 2 : 4;
  return axes.map((axis) => (axis < 0 ? axis + dimensions : axis)).sort((a, b) => a - b);
}
