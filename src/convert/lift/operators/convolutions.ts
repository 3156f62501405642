import type { Size2d } from "../../../arch/index.js";
import { type ForeignNode, type ForeignOp, type Form, isKind } from "../foreign.js";
import { readColourProduct } from "./channels.js";
import { asNode, asTensor, constantsOf, int, type OperatorReader, replaced } from "./site.js";
import { NO_PADDING, padded, slide, throughPad, windowOf } from "./windows.js";

/** Convolutions, with paddings and groups as exporters write them. */

export const readConv: OperatorReader = ({ node, inputs, output }) => {
  const [input, weight, bias] = [asNode(inputs[0]), asTensor(inputs[1]), asTensor(inputs[2])];
  if (!input || weight?.shape.length !== 4 || weight.data.length === 0 || (inputs[2] && !bias))
    return undefined;
  const [outChannels = 0, perGroup = 0, height = 0, width = 0] = weight.shape;
  const { source, more } = throughPad(input, (value) => value === 0);
  const window = windowOf(node, [height, width], input.form.size);
  if (!window) return undefined;
  const groups = int(node, "group", 1);
  const op: ForeignOp<"conv"> = {
    kind: "conv",
    inChannels: perGroup * groups,
    outChannels,
    groups,
    ...padded(window, more),
  };
  const form: Form = { rank: input.form.rank, channels: outChannels, size: slide(window, input.form.size) };
  const conv: ForeignNode = {
    op,
    inputs: [source],
    form,
    value: output,
    ...constantsOf({ weight: inputs[1], bias: inputs[2] }),
  };
  return { kind: "node", node: conv };
};

/** A convolution of single pixels over all channels. */
export function pointwiseOp(inChannels: number, outChannels: number): ForeignOp<"conv"> {
  const one: Size2d = [1, 1];
  return {
    kind: "conv",
    ...{ inChannels, outChannels, groups: 1 },
    ...{ kernel: one, stride: one, dilation: one, padding: NO_PADDING },
  };
}

/**
 * A convolution whose groups follow from the channels of its input, as TensorFlow has them. One of single pixels by
 * channel is a product: after a norm without weights of its own these are its own.
 */
export const readGroupedConv: OperatorReader = (site) => {
  const [input, weight, bias] = [asNode(site.inputs[0]), asTensor(site.inputs[1]), asTensor(site.inputs[2])];
  const perGroup = weight?.shape[1] ?? 0;
  const channels = input?.form.channels ?? perGroup;
  const group = perGroup > 0 && channels % perGroup === 0 ? channels / perGroup : 1;
  const attributes = new Map(site.node.attributes).set("group", { type: "int", value: group });
  const value = readConv({ ...site, node: { ...site.node, attributes } });
  const conv = asNode(value);
  if (conv && isKind(conv, "conv") && isByPixel(conv.op) && input && weight && !bias) {
    const product = readColourProduct(input, weight, site.output);
    if (product) return product;
  }
  const isProduct = conv && isKind(conv, "conv") && group > 1 && isByPixel(conv.op);
  if (!isProduct || bias || !input || !weight || !isKind(input, "instanceNorm") || input.constants.weight)
    return value;
  const factors = { ...weight, shape: [channels] };
  return replaced(input, { value: site.output, constants: { ...input.constants, weight: factors } });
};

function isByPixel({ kernel, stride, padding }: ForeignOp<"conv">): boolean {
  return [...kernel, ...stride].every((size) => size === 1) && padding.every((size) => size === 0);
}
