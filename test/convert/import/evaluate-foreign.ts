import { type Op, outputShapes } from "../../../src/arch/index.js";
import { compareOps, nameOf } from "../../../src/convert/import/differences.js";
import type { Constants, ForeignGraph, ForeignNode } from "../../../src/convert/import/operators/foreign.js";
import { NCHW, towardsNchw } from "../../../src/convert/import/operators/layouts.js";
import {
  permute,
  type RealTensor,
  type Shape,
  type StateDict,
  type Tensor,
} from "../../../src/core/tensor.js";
import { evaluateLayer, float64Parameters } from "../../../src/verify/reference/evaluate-layer.js";
import { graphOf } from "../export/graphs.js";

/** What a foreign graph computes, in float64: each of its nodes as the layer of an OSNet that it is. */

/** A node that is no layer of an OSNet; the message is what it is instead. */
export class NoLayer extends Error {}

/**
 * The graph's first output, in the layout that the file has it in; of integers, what they would be before rounding.
 *
 * @param feeds the graph's inputs by name, as the file has them
 * @throws NoLayer
 */
export function evaluateForeign(graph: ForeignGraph, feeds: ReadonlyMap<string, RealTensor>): RealTensor {
  const known = new Map<ForeignNode, RealTensor>();
  const fed = ({ value = "", reading }: ForeignNode): RealTensor => {
    const tensor = feeds.get(value);
    if (!tensor) throw new Error(`no feed for ${value}`);
    const axes = spread(tensor.shape);
    return axes.length === 2
      ? tensor
      : permute({ ...tensor, shape: axes }, towardsNchw(reading?.layout ?? NCHW));
  };
  const evaluated = (node: ForeignNode): RealTensor => {
    const before = known.get(node);
    if (before) return before;
    const result = node.op.kind === "input" ? fed(node) : evaluateNode(node, node.inputs.map(evaluated));
    known.set(node, result);
    return result;
  };
  const [output] = graph.outputs;
  if (!output?.node) throw new NoLayer("numbers that are not known");
  const { layout = NCHW, quantised } = output.reading ?? {};
  const { shape, data } = evaluated(output.node);
  const { scale, zero } = quantised ?? { scale: 1, zero: 0 };
  const result = {
    dtype: "float64",
    shape,
    data: Float64Array.from(data, (value) => value / scale + zero),
  } as const;
  return shape.length === 4 ? permute(result, layout) : result;
}

/** Four axes, as layers want them, unless they are [N, C]. */
const spread = (shape: Shape): Shape => (shape.length === 3 ? [1, ...shape] : shape);

/** Channel c of the result is channel `order[c]` of the input. */
function reordered({ shape, data }: RealTensor, order: readonly number[]): RealTensor {
  const [, channels = 1, ...plane] = shape;
  const size = plane.reduce((product, axis) => product * axis, 1);
  const moved = Float64Array.from(data, (_, index) => {
    const channel = Math.floor(index / size) % channels;
    return data[index + ((order[channel] ?? channel) - channel) * size] ?? 0;
  });
  return { dtype: "float64", shape, data: moved };
}

function evaluateNode(node: ForeignNode, inputs: readonly RealTensor[]): RealTensor {
  const [input] = inputs;
  if (!input) throw new NoLayer(nameOf(node));
  if (node.op.kind === "l2Normalize") return l2Normalized(input);
  if (node.op.kind === "channelOrder") return reordered(input, node.op.order);
  const { op, constants } = layerOf(node, input);
  const parameters = Object.fromEntries(Object.keys(constants).map((role) => [role, role]));
  const names = inputs.map((_, index) => `input${index}`);
  const layer = { name: "y", op, inputs: names, parameters };
  const shape = outputShapes(graphOf({ ...layer, inputs: ["images"] }), input.shape).get("y") ?? [];
  const stateDict = new Map(Object.entries(constants)) as unknown as StateDict;
  return evaluateLayer(layer, inputs, float64Parameters(stateDict), shape);
}

/** The layer in `arch` that a node is, with parameters for all its roles: where a file has none, those that do nothing. */
function layerOf(node: ForeignNode, input: RealTensor): { readonly op: Op; readonly constants: Constants } {
  const { op, constants } = node;
  const channels = input.shape[1] ?? 0;
  const fill = (length: number, value: number): Tensor<"float32"> => ({
    dtype: "float32",
    shape: [length],
    data: new Float32Array(length).fill(value),
  });
  const [ones, zeros] = [fill(channels, 1), fill(channels, 0)];
  switch (op.kind) {
    case "conv":
    case "maxPool":
    case "avgPool": {
      const [top, left] = op.padding;
      const layer = { ...op, padding: [top, left], bias: "bias" in constants } as Op;
      const [departs] = compareOps({ name: "", op: layer, inputs: [], parameters: {} }, node);
      if (departs) throw new NoLayer(departs.found);
      return { op: layer, constants };
    }
    case "linear": {
      const { alpha, beta } = op.factors ?? { alpha: 1, beta: 1 };
      const times = (role: "weight" | "bias", factor: number): Constants => {
        const tensor = constants[role];
        if (!tensor || factor === 1) return {};
        const data = Float32Array.from(tensor.data as Float32Array, (value) => factor * value);
        return { [role]: { dtype: "float32", shape: tensor.shape, data } };
      };
      const scaled = { ...times("weight", alpha), ...times("bias", beta) };
      return { op, constants: { bias: fill(op.outFeatures, 0), ...constants, ...scaled } };
    }
    case "batchNorm":
      return { op: { ...op, channels }, constants };
    case "instanceNorm":
    case "layerNorm":
      return { op: { ...op, channels }, constants: { weight: ones, bias: zeros, ...constants } };
    case "affine":
      return {
        op: { kind: "batchNorm", epsilon: 0, channels },
        constants: { weight: ones, bias: zeros, runningMean: zeros, runningVar: ones, ...constants },
      };
    case "scale": {
      const [map, gate] = node.inputs;
      if (map?.form.rank !== "map" || gate?.form.rank !== "pooled") break;
      return { op, constants };
    }
    case "relu":
    case "sigmoid":
    case "add":
    case "globalAvgPool":
    case "globalMaxPool":
    case "flatten":
      return { op, constants };
  }
  throw new NoLayer(nameOf(node));
}

/** Rows of [N, C] divided by their lengths: no layer of the network, but what may follow it. */
function l2Normalized({ shape, data }: RealTensor): RealTensor {
  const [, columns = 1] = shape;
  const lengths = Float64Array.from({ length: data.length / columns }, (_, row) =>
    Math.hypot(...data.subarray(row * columns, (row + 1) * columns)),
  );
  return {
    dtype: "float64",
    shape,
    data: Float64Array.from(data, (value, index) => value / (lengths[Math.floor(index / columns)] ?? 1)),
  };
}
