import type { RealTensor, Tensor } from "../../core/tensor.js";
import { int, ints, type OnnxGraph, type OnnxNode, onnxNode } from "../formats/onnx/model.js";
import {
  attributeOf,
  channelsMeant,
  chooseFlow,
  type Filters,
  type Flow,
  filtersOnNchw,
  isDepthwise,
  NCHWC_DOMAIN,
  type Order,
  takesNchw,
  used,
} from "./channel-blocks.js";
import type { ChannelBlocks } from "./operators/foreign.js";

/**
 * Graphs that onnxruntime has optimised at level "all", translated to standard operators on NCHW. Its optimiser
 * (`core/optimizer/nchwc_transformer.cc`) rewrites convolutions and pools for one kind of processor, in the domain
 * `com.microsoft.nchwc`: maps are in blocks of 8 or 16 channels, [N, C/b, H, W, b] in memory although their shape is
 * [N, C, H, W], with C padded to a multiple of b; weights are OIHW in blocks of output channels ([O/b, I, H, W, b]), or
 * of both ([O/b, I/b, H, W, b, b]: input channels, then output channels). A convolution whose filter has fewer input
 * channels than a block reads NCHW, except for a depthwise one (`core/mlas/lib/snchwc.cpp`). The file does not state b.
 */

/** A graph on NCHW, and which values of the file's own graph are in blocks. */
interface UnblockedGraph {
  readonly graph: OnnxGraph;
  readonly blocks: ReadonlyMap<string, ChannelBlocks>;
}

/** Whether a graph has operators on blocks of channels. */
export function isBlocked({ nodes }: OnnxGraph): boolean {
  return nodes.some(({ domain }) => domain === NCHWC_DOMAIN);
}

/**
 * The same graph with standard operators on NCHW instead of blocked ones, values under the same names. If an operator
 * reads a value in the wrong order, an operator without meaning is inserted before it.
 *
 * @throws InputError (`unsupported`) if the block size may be 8 or 16
 */
export function unblocked(graph: OnnxGraph, subject: string): UnblockedGraph {
  if (!isBlocked(graph)) return { graph, blocks: new Map() };
  const flow = chooseFlow(graph, subject);
  const { size, values } = flow;
  const filters = filtersOnNchw(graph, size);
  const channels = channelsMeant(graph, flow, filters);
  const blocks = new Map([...values.keys()].map((name) => [name, { size, channels: channels.get(name) }]));
  return { graph: rewritten(graph, { flow, filters, channels }), blocks };
}

interface Known {
  readonly flow: Flow;
  readonly filters: Filters;
  /** The number of channels of each value without padding. */
  readonly channels: ReadonlyMap<string, number>;
}

/** The nodes of a graph in standard operators. */
function rewritten(source: OnnxGraph, { flow, filters, channels }: Known): OnnxGraph {
  const { size, values, pixels } = flow;
  const nodes: OnnxNode[] = [];
  const initializers = new Map(source.initializers);
  const taken = new Set([...initializers.keys(), ...source.inputs.map(({ name }) => name)]);
  for (const { outputs } of source.nodes) for (const name of outputs) taken.add(name);
  const made = new Map<string, string>();

  const counts = new Map<string, number>();
  function unused(name: string): string {
    let count = counts.get(name) ?? 1;
    while (taken.has(`${name}#${count}`)) count++;
    counts.set(name, count + 1);
    return `${name}#${count}`;
  }

  /**
   * Inserts an operator without a known meaning, which becomes a finding, so that matching continues after it.
   */
  function unexpected(name: string, what: string): string {
    const key = `${what} of ${name}`;
    const known = made.get(key);
    if (known !== undefined) return known;
    const output = unused(name);
    made.set(key, output);
    nodes.push(onnxNode(output, what, [name], {}, NCHWC_DOMAIN));
    return output;
  }

  /** A value in the order that an operator expects. */
  function read(name: string, wanted: Order): string {
    if (name === "" || source.initializers.has(name)) return name;
    const value = values.get(name);
    const found = value?.order ?? "plain";
    if (found === wanted) return name;
    const isFull = value?.padded === undefined || value.padded === channels.get(name);
    if (pixels.has(name) && isFull && found !== "split" && wanted !== "split") return name;
    return unexpected(
      name,
      found === "plain"
        ? `channels read as blocks of ${size}`
        : `blocks of ${size} channels read as single channels`,
    );
  }

  /** A constant derived from another, cached so that layers that share weights still do. */
  function constant(name: string, how: string, make: () => Tensor): string {
    const key = `${how} of ${name}`;
    const known = made.get(key);
    if (known !== undefined) return known;
    const output = unused(name);
    made.set(key, output);
    initializers.set(output, make());
    return output;
  }

  /**
   * Written as onnxruntime's FusedConv, which has the same attributes on NCHW; as a Conv if nothing is fused.
   */
  function convolution(node: OnnxNode): OnnxNode {
    const filter = filters.get(node);
    if (!filter) return node;
    const [input = "", weight = "", bias = "", sum = ""] = node.inputs;
    const [outChannels = 0, perGroup = 0] = filter.shape;
    const rows = channels.get(node.outputs[0] ?? "") ?? outChannels;
    const isPlain = takesNchw(node, filter, size);
    const groups = attributeOf(node, "group") ?? 1;
    const columns = isPlain || groups > 1 ? perGroup : Math.min(perGroup, channels.get(input) ?? perGroup);
    // If the number of input channels does not match, the convolution is kept as it is, and is the finding.
    const isOfAll = values.has(input) && perGroup * groups !== channels.get(input);
    const value = isPlain && isOfAll ? input : read(input, isPlain ? "plain" : "blocks");
    // Padded input channels may have any weights, since they are not read.
    const isFilled = columns === perGroup || used(filter, undefined)[1] <= columns;
    const vector = source.initializers.get(bias);
    const inputs = [
      isFilled ? value : unexpected(value, `${perGroup} channels instead of ${columns}`),
      constant(weight, `${rows} × ${columns}`, () => part(filter, rows, columns)),
      vector?.dtype === "float32" && vector.data.length > rows
        ? constant(bias, `${rows} elements`, () => ({
            ...vector,
            shape: [rows],
            data: vector.data.subarray(0, rows),
          }))
        : bias,
      ...(sum === "" ? [] : [read(sum, "blocks")]),
    ];
    const attributes = isDepthwise(node, filter)
      ? new Map(node.attributes).set("group", int(rows))
      : node.attributes;
    return sum !== "" || node.attributes.has("activation")
      ? { ...node, attributes, inputs, opType: "FusedConv", domain: "com.microsoft" }
      : { ...node, attributes, inputs: bias === "" ? inputs.slice(0, 2) : inputs, domain: "" };
  }

  /** The input of a `ReorderOutput` that states the right number of channels. */
  function reordered(node: OnnxNode, input: string): string {
    const stated = attributeOf(node, "channels") ?? 0;
    const value = read(input, "blocks");
    return stated === channels.get(input) || !values.has(input)
      ? value
      : unexpected(value, `ReorderOutput of ${stated} channels`);
  }

  function onNchw(node: OnnxNode): OnnxNode {
    const [input = ""] = node.inputs;
    const [output = ""] = node.outputs;
    if (node.domain !== NCHWC_DOMAIN) {
      const order = values.get(output)?.order ?? "plain";
      return node.opType === "Reshape" && order !== "plain"
        ? onnxNode(output, "Identity", [input])
        : { ...node, inputs: node.inputs.map((name) => read(name, order)) };
    }
    const isLast = attributeOf(node, "channels_last") === 1;
    switch (node.opType) {
      case "ReorderInput":
        return moved(output, read(input, "plain"), isLast ? [0, 3, 1, 2] : undefined);
      case "ReorderOutput":
        return moved(output, reordered(node, input), isLast ? [0, 2, 3, 1] : undefined);
      case "Conv":
        return convolution(node);
      case "MaxPool":
      case "AveragePool":
      case "GlobalMaxPool":
      case "GlobalAveragePool":
        return { ...node, domain: "", inputs: [read(input, "blocks")] };
      default:
        return node;
    }
  }

  for (const node of source.nodes) nodes.push(onNchw(node));
  return { ...source, nodes, initializers };
}

/** An Identity or Transpose. */
function moved(output: string, input: string, order: readonly number[] | undefined): OnnxNode {
  return order
    ? onnxNode(output, "Transpose", [input], { perm: ints(...order) })
    : onnxNode(output, "Identity", [input]);
}

/** The leading output and input channels of a filter. */
function part(filter: Tensor<"float32">, rows: number, columns: number): Tensor<"float32"> {
  const [outChannels = 0, perGroup = 0, height = 0, width = 0] = filter.shape;
  if (rows === outChannels && columns === perGroup) return filter;
  const [row, kept] = [perGroup * height * width, columns * height * width];
  const data = new Float32Array(rows * kept);
  for (let out = 0; out < rows; out++)
    data.set(filter.data.subarray(out * row, out * row + kept), out * kept);
  return { ...filter, shape: [rows, columns, height, width], data };
}

/**
 * A blocked value as NCHW.
 *
 * @param tensor [N, C, H, W] by its shape, or [N, C/b, H, W, b]; others are returned unchanged
 */
export function fromBlocks(tensor: RealTensor, { size, channels }: ChannelBlocks): RealTensor {
  const [images = 0, second = 0, height = 0, width = 0, last] = tensor.shape;
  const padded = last === undefined ? second : second * last;
  const meant = channels ?? padded;
  const isSplit = tensor.shape.length === 5 && last === size;
  if (!(isSplit || tensor.shape.length === 4) || padded % size !== 0 || meant > padded) return tensor;
  const area = height * width;
  const count = images * meant * area;
  const data = tensor.dtype === "float32" ? new Float32Array(count) : new Float64Array(count);
  let target = 0;
  for (let image = 0; image < images; image++)
    for (let channel = 0; channel < meant; channel++) {
      const start = (image * (padded / size) + Math.floor(channel / size)) * area * size + (channel % size);
      for (let place = 0; place < area; place++) data[target++] = tensor.data[start + place * size] ?? 0;
    }
  return { dtype: tensor.dtype, shape: [images, meant, height, width], data } as RealTensor;
}
