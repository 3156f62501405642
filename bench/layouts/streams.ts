import { dtype, int, tfNode, wholeNumbers } from "../../src/convert/export/tfjs-operators.js";
import type { TfjsGraphModel, TfjsNode } from "../../src/convert/formats/tfjs/model.js";
import type { Tensor } from "../../src/core/tensor.js";
import { type Rewriting, rewrite } from "./rewrite.js";

const STREAMS = [1, 2, 3, 4];

/**
 * The first convolutions of a block's streams, which read the same map, as one with four times the channels, followed
 * by a split into streams.
 *
 * @param depth what is merged: the 1×1 convolutions, or also the depthwise ones after them
 */
export function mergedStreams(depth: "pointwise" | "depthwise") {
  return (model: TfjsGraphModel): TfjsGraphModel => {
    const depthwise = new Map(
      model.nodes
        .filter(({ op }) => op === "FusedDepthwiseConv2dNative")
        .map((node) => [node.inputs[0], node] as const),
    );
    const groups = new Map<string, TfjsNode[]>();
    for (const node of model.nodes) {
      const [input = ""] = node.inputs;
      if (node.op === "Conv2D" && depthwise.has(node.name))
        groups.set(input, [...(groups.get(input) ?? []), node]);
    }
    const ends = new Map<string, { readonly first: string; readonly index: number }>();
    const firsts = new Map<string, readonly TfjsNode[]>();
    for (const heads of groups.values()) {
      const [first] = heads;
      if (!first || heads.length < 2) continue;
      firsts.set(first.name, heads);
      for (const [index, head] of heads.entries()) {
        const last = depth === "pointwise" ? head : depthwise.get(head.name);
        ends.set(last?.name ?? "", { first: first.name, index });
      }
    }
    const merged = new Set([...firsts.values()].flat().flatMap((head) => [head, depthwise.get(head.name)]));
    const renamed = (reference: string): string => {
      const end = ends.get(reference);
      return end ? `${end.first}/streams:${end.index}` : reference;
    };
    return rewrite(model, (node, rewriting): readonly TfjsNode[] => {
      const heads = firsts.get(node.name);
      if (heads) {
        const tails = heads.flatMap((head) => depthwise.get(head.name) ?? []);
        const wide = joined(`${node.name}/merged`, heads, rewriting);
        const last =
          depth === "pointwise"
            ? []
            : [joined(`${node.name}/depthwise`, tails, rewriting, [`${node.name}/merged`])];
        const axis = rewriting.constant("channel_axis", { ...wholeNumbers(3), shape: [] });
        const whole = last[0]?.name ?? wide.name;
        const cut = tfNode(`${node.name}/streams`, "Split", [axis, whole], { num_split: int(heads.length) });
        return [wide, ...last, cut];
      }
      const isGone = merged.has(node) && (depth === "depthwise" || node.op === "Conv2D");
      return isGone ? [] : [{ ...node, inputs: node.inputs.map(renamed) }];
    });
  };
}

/** Nodes as one, with the channels of all. */
function joined(
  name: string,
  nodes: readonly TfjsNode[],
  rewriting: Rewriting,
  reads?: readonly string[],
): TfjsNode {
  const [first] = nodes;
  if (!first) throw new Error(`nothing to join as ${name}`);
  const inputs = first.inputs.slice(1).map((_weight, index) => {
    const tensors = nodes.map(({ inputs: [, ...weights] }) => {
      const tensor = rewriting.weight(weights[index])?.tensor;
      if (tensor?.dtype !== "float32") throw new Error(`${name} joins what is no weight`);
      return tensor as Tensor<"float32">;
    });
    return rewriting.constant(
      `${name}/${index}`,
      concatenated(tensors, first.op !== "Conv2D" && index === 0 ? 2 : -1),
    );
  });
  return { ...first, name, inputs: [...(reads ?? first.inputs.slice(0, 1)), ...inputs] };
}

/** Concatenates tensors along the last axis, or the last axis that is not 1. */
function concatenated(tensors: readonly Tensor<"float32">[], axis: number): Tensor<"float32"> {
  const [first] = tensors;
  const shape = [...(first?.shape ?? [])];
  const at = axis < 0 ? shape.length + axis : axis;
  const width = shape[at] ?? 1;
  const rows = (first?.data.length ?? 0) / width;
  const data = new Float32Array(rows * width * tensors.length);
  for (const [index, tensor] of tensors.entries())
    for (let row = 0; row < rows; row++)
      data.set(tensor.data.subarray(row * width, (row + 1) * width), (row * tensors.length + index) * width);
  shape[at] = width * tensors.length;
  return { dtype: "float32", shape, data };
}

/** The gates of a block's streams as one, of the four pooled maps as a batch. */
export function gatesTogether(model: TfjsGraphModel): TfjsGraphModel {
  return rewrite(model, (node, { constant }): readonly TfjsNode[] => {
    const found = node.name.match(/^(.*\.gate)-(\d)(\.global_avgpool|\..*)?$/);
    const [, gate = "", stream = "", layer = ""] = found ?? [];
    if (!found || layer.startsWith(".global_avgpool")) return [node];
    const axis = constant("batch_axis", { ...wholeNumbers(0), shape: [] });
    const together = (name: string): string =>
      name.includes(".gate-") ? name.replace(".gate-4", ".gate-all") : name;
    if (layer === "") {
      const [x = ""] = node.inputs;
      return [{ ...node, inputs: [x, `${gate}-all/streams:${Number(stream) - 1}`] }];
    }
    // The last stream's is the block's: all four maps are there then.
    if (stream !== "4") return [];
    const [x = "", ...weights] = node.inputs;
    const isFirst = x.endsWith(".global_avgpool");
    const all = {
      ...node,
      name: together(node.name),
      inputs: [isFirst ? `${gate}-all/pooled` : together(x), ...weights],
    };
    const pooled = STREAMS.map((number) => `${gate}-${number}.global_avgpool`);
    return [
      ...(isFirst
        ? [
            tfNode(`${gate}-all/pooled`, "ConcatV2", [...pooled, axis], {
              N: int(4),
              Tidx: dtype("DT_INT32"),
            }),
          ]
        : []),
      all,
      ...(node.op === "Sigmoid"
        ? [tfNode(`${gate}-all/streams`, "Split", [axis, all.name], { num_split: int(4) })]
        : []),
    ];
  });
}

/** The sum of a block's streams as one operation. */
export function sumsAtOnce(model: TfjsGraphModel): TfjsGraphModel {
  const nodes = new Map(model.nodes.map((node) => [node.name, node]));
  const termsOf = (node: TfjsNode): readonly string[] =>
    node.inputs.flatMap((input) => {
      const sum = input.includes("/sum-") ? nodes.get(input) : undefined;
      return sum ? termsOf(sum) : [input];
    });
  return rewrite(model, (node) => {
    if (node.name.includes("/sum-")) return [];
    const terms = node.op === "AddV2" ? termsOf(node) : [];
    return [terms.length > 2 ? tfNode(node.name, "AddN", terms, { N: int(terms.length) }) : node];
  });
}
