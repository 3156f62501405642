import { int, ints } from "../../../formats/onnx/index.js";
import { wholeNumbers } from "../../whole-numbers.js";
import { numbersOf, padsOf } from "../constants.js";
import { add, addConstant, type Draft } from "../draft.js";
import { attribute, type NodeTranslation } from "./site.js";

/** What moves elements about, and computes none. */

export const pad: NodeTranslation = ({ draft, inputs: [x = "", paddings, value], output }) => {
  const pads = padsOf(draft, paddings);
  return (
    pads && add(draft, "Pad", value === undefined ? [x] : [x, "", value], output, { pads: ints(...pads) })
  );
};

export const transpose: NodeTranslation = ({ draft, inputs: [x = "", perm], output }) => {
  const order = numbersOf(draft, perm);
  return order && add(draft, "Transpose", [x], output, { perm: ints(...order) });
};

export const squeeze: NodeTranslation = ({ draft, node, inputs, output }) => {
  const axes = attribute(node, "squeeze_dims", "ints") ?? attribute(node, "axis", "ints") ?? [];
  return add(draft, "Squeeze", inputs, output, axes.length > 0 ? { axes: ints(...axes) } : {});
};

export const gather: NodeTranslation = ({ draft, inputs: [x = "", places = "", axis], output }) => {
  const [along = 0] = numbersOf(draft, axis) ?? [];
  return add(draft, "Gather", [x, places], output, { axis: int(along) });
};

/** How an axis is cut. */
interface Cut {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
  readonly step: number;
}

/** Beyond any axis: how a slice says "to the end". */
const END = 2 ** 31;

/** x[…, ::-1] along some axes. */
export const reverse: NodeTranslation = ({ draft, inputs: [x = "", axes], output }) => {
  const along = numbersOf(draft, axes);
  const cuts = along?.map((axis) => ({ axis, start: -1, end: -END, step: -1 }));
  return cuts && slice(draft, x, output, cuts);
};

/** x[a:b:c, …] with masks of bits: an end that is left out, an ellipsis at the front; anything else is not read. */
export const stridedSlice: NodeTranslation = ({ draft, node, inputs: [x = "", ...lists], output }) => {
  const [begin, end, strides] = lists.map((name) => numbersOf(draft, name));
  const bits = (name: string): number => attribute(node, name, "int") ?? 0;
  const [ellipsis, others] = [bits("ellipsis_mask"), bits("new_axis_mask") | bits("shrink_axis_mask")];
  if (!begin || !end || !strides || others !== 0 || ellipsis > 1) return undefined;
  const isLeftOut = (mask: string, at: number): boolean => ((bits(mask) >> at) & 1) === 1;
  const cuts = strides.flatMap((step, at) => {
    if (ellipsis === 1 && at === 0) return [];
    const axis = ellipsis === 1 ? at - strides.length : at;
    const first = isLeftOut("begin_mask", at) ? (step < 0 ? -1 : 0) : (begin[at] ?? 0);
    const last = isLeftOut("end_mask", at) ? (step < 0 ? -END : END) : (end[at] ?? 0);
    return [{ axis, start: first, end: last, step }];
  });
  return slice(draft, x, output, cuts);
};

function slice(draft: Draft, x: string, output: string, cuts: readonly Cut[]): string {
  const list = (name: string, key: keyof Cut): string =>
    addConstant(draft, `${output}#${name}`, wholeNumbers(cuts.map((cut) => cut[key])));
  const inputs = [
    x,
    list("starts", "start"),
    list("ends", "end"),
    list("axes", "axis"),
    list("steps", "step"),
  ];
  return add(draft, "Slice", inputs, output);
}
