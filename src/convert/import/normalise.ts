import type { Size2d } from "../../arch/index.js";
import type { OnnxDimension, OnnxGraph, OnnxModel, OnnxNode, OnnxValue } from "../formats/onnx/index.js";
import type { ForeignGraph, ForeignNode, Form, Layout, Reading, Value } from "./foreign.js";
import { isNchw, NCHW, NHWC, NHWC_DOMAIN, towardsNchw } from "./layouts.js";
import { type NodeReader, nodeReader, readNodes } from "./meanings.js";
import { preprocessing } from "./preprocess.js";
import { malformed } from "./refusals.js";

/**
 * Reads an ONNX graph in the vocabulary of the architecture: constants resolved, operators that do nothing in inference
 * looked through, decompositions put together, dead nodes left out.
 *
 * @throws InputError (`format`) if a value has two sources or none
 */
export function normalise({ graph }: OnnxModel, subject: string): ForeignGraph {
  const { values, census, input, first } = readGraph(graph, subject);
  const outputs = graph.outputs.map(({ name }) => {
    const value = values.get(name);
    return value?.kind === "node" ? value : undefined;
  });
  const alive = live(outputs.flatMap((value) => value?.node ?? []));
  return {
    ...alive,
    ...preprocessing(first, input.dtype, alive),
    outputs: graph.outputs.map(({ name }, index) => {
      const { node, reading } = outputs[index] ?? {};
      return { name, node, ...(reading ? { reading } : {}) };
    }),
    census,
  };
}

/** What each value of a graph stands for, and what was read on the way. */
export interface ReadGraph extends Pick<NodeReader, "census" | "taken"> {
  readonly values: ReadonlyMap<string, Value>;
  /** What takes the images, and the node of it. */
  readonly input: OnnxValue;
  readonly first: ForeignNode;
}

/** @throws InputError (`format`) if a value has two sources or none, or nothing takes images */
export function readGraph(graph: OnnxGraph, subject: string): ReadGraph {
  const values = new Map<string, Value>();
  const images = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
  for (const value of images) values.set(value.name, inputValue(value, graph));
  const [input] = images;
  const first = input && nodeAt(values, input.name);
  if (!first) throw malformed(subject, "a graph without an input", "one that takes images");
  const reader = nodeReader([...graph.initializers.values()], subject);
  readNodes(graph, { values, around: undefined }, reader);
  const { census, taken } = reader;
  return { values, census, taken, input, first };
}

/** Batch, channels, height and width of the images that a model reads, as far as it fixes them. */
export function imageShape({ graph }: OnnxModel): readonly (OnnxDimension | undefined)[] {
  const input = graph.inputs.find(({ name }) => !graph.initializers.has(name));
  const shape = input?.shape ?? [];
  return input && shape.length === 4
    ? towardsNchw(inputLayout(input.name, shape, graph.nodes)).map((axis) => shape[axis])
    : shape;
}

function inputValue({ name, shape = [] }: OnnxValue, { nodes }: OnnxGraph): Value {
  const layout = inputLayout(name, shape, nodes);
  const [, channels, height, width] = towardsNchw(layout).map((axis) => shape[axis]);
  const size: Size2d | undefined =
    typeof height === "number" && typeof width === "number" ? [height, width] : undefined;
  const rank = shape.length === 2 ? "flat" : "map";
  const form: Form = { rank, channels: typeof channels === "number" ? channels : RGB, size, intended: size };
  const reading: Reading = isNchw(layout) ? {} : { layout };
  const node: ForeignNode = { op: { kind: "input" }, inputs: [], constants: {}, form, value: name, reading };
  return { kind: "node", node, reading };
}

/** What an image has, where a file does not say. */
const RGB = 3;

/** NHWC if the shape shows colours last, or where it shows nothing, if they are first brought forward. */
function inputLayout(name: string, shape: readonly OnnxDimension[], nodes: readonly OnnxNode[]): Layout {
  const [, second, , last] = shape;
  if (shape.length === 4 && last === RGB && second !== RGB) return NHWC;
  if (typeof second === "number" || typeof last === "number") return NCHW;
  const fromInput = new Set([name]);
  for (const { opType, domain, inputs, outputs, attributes } of nodes) {
    if (!fromInput.has(inputs[0] ?? "")) continue;
    if (domain === NHWC_DOMAIN) return NHWC;
    const order = attributes.get("perm");
    if (opType === "Transpose")
      return order?.type === "ints" && String(order.value) === "0,3,1,2" ? NHWC : NCHW;
    if (opType === "Conv") return NCHW;
    for (const output of outputs) fromInput.add(output);
  }
  return NCHW;
}

function nodeAt(values: ReadonlyMap<string, Value>, name: string): ForeignNode | undefined {
  const value = values.get(name);
  return value?.kind === "node" ? value.node : undefined;
}

/** Nodes that some output depends on, in topological order, and who reads them. */
function live(outputs: readonly ForeignNode[]): Pick<ForeignGraph, "nodes" | "consumers"> {
  const consumers = new Map<ForeignNode, ForeignNode[]>();
  const nodes: ForeignNode[] = [];
  // Depth first without recursion: a graph may be a chain of any length.
  const pending = outputs.toReversed().map((node) => ({ node, next: 0 }));
  for (let top = pending.at(-1); top; top = pending.at(-1)) {
    const { node, next } = top;
    if (next === 0) {
      if (consumers.has(node)) {
        pending.pop();
        continue;
      }
      consumers.set(node, []);
    }
    const input = node.inputs[next];
    if (input) {
      top.next++;
      if (!consumers.has(input)) pending.push({ node: input, next: 0 });
      continue;
    }
    pending.pop();
    nodes.push(node);
  }
  for (const node of nodes) for (const input of new Set(node.inputs)) consumers.get(input)?.push(node);
  return { nodes, consumers };
}
