import type { Size2d } from "../../arch/index.js";
import { InputError } from "../../errors.js";
import type { Tensor } from "../../tensor.js";
import type { OnnxDimension, OnnxGraph, OnnxModel, OnnxNode, OnnxValue } from "../formats/onnx/index.js";
import type { ForeignGraph, ForeignNode, ForeignOp, Form, Layout, Reading, Value } from "./foreign.js";
import { isNchw, laidOut, NCHW, NHWC, NHWC_DOMAIN, onNchw, towardsNchw } from "./layouts.js";
import { laterOutput, readerOf } from "./operators/index.js";
import { attributeOrInput, type OperatorSite } from "./operators/site.js";
import { preprocessing } from "./preprocess.js";

/**
 * Reads an ONNX graph in the vocabulary of the architecture: constants resolved, operators that do nothing in inference
 * looked through, decompositions put together, dead nodes left out.
 *
 * @throws InputError (`format`) if a value has two sources or none
 */
export function normalise({ graph }: OnnxModel, subject: string): ForeignGraph {
  const values = new Map<string, Value>();
  for (const [name, tensor] of graph.initializers) values.set(name, { kind: "constant", tensor });
  const images = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
  for (const value of images) values.set(value.name, inputValue(value, graph));
  const [first] = images.flatMap(({ name }) => nodeAt(values, name) ?? []);
  if (!first) throw malformed(subject, "a graph without an input", "one that takes images");
  const census = new Map<string, number>();
  const budget = COMPUTED_FLOOR + COMPUTED_MULTIPLE * elementsOf([...graph.initializers.values()]);
  let computed = 0;
  for (const node of graph.nodes) {
    census.set(node.opType, (census.get(node.opType) ?? 0) + 1);
    const inputs = node.inputs.map((name) => (name === "" ? undefined : valueAt(values, name, subject)));
    node.outputs.forEach((output, index) => {
      if (output === "") return;
      if (values.has(output))
        throw malformed(subject, `two sources of the value ${JSON.stringify(output)}`, "one source of each");
      const value = meaning({ node, inputs, output }, index);
      values.set(output, value);
      computed += elementsOf(newTensors(value, inputs));
      if (computed > budget)
        throw malformed(
          subject,
          "constants computed from each other without end",
          `at most ${budget} elements of them`,
        );
    });
  }
  const outputs = graph.outputs.map(({ name }) => {
    const value = values.get(name);
    return value?.kind === "node" ? value : undefined;
  });
  const alive = live(outputs.flatMap((value) => value?.node ?? []));
  return {
    ...alive,
    ...preprocessing(first, images[0]?.dtype, alive.consumers),
    outputs: graph.outputs.map(({ name }, index) => {
      const { node, reading } = outputs[index] ?? {};
      return { name, node, ...(reading ? { reading } : {}) };
    }),
    census,
  };
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
  const form: Form = { rank, channels: typeof channels === "number" ? channels : RGB, size };
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

function meaning(site: OperatorSite, index: number): Value {
  const { node } = site;
  const later = index > 0 ? laterOutput(node.opType, index) : undefined;
  if (later) return later;
  const read = readerOf(node.opType, node.domain);
  const plain = onNchw(site);
  const value = plain && index === 0 ? read?.(plain) : undefined;
  if (value) return laidOut(value, plain ?? site);
  const nameless = plain ? unknown(plain, node.opType) : unknown(site, `${node.opType} over other axes`);
  return laidOut(nameless, plain ?? site);
}

/** What no reader understands: numbers about shapes if it reads no activation, else an operator by its name only. */
function unknown(site: OperatorSite, opType: string): Value {
  const { node, inputs, output } = site;
  const nodes = inputs.flatMap((value) => (value?.kind === "node" ? value.node : []));
  const [first] = nodes;
  if (!first || node.opType === "Shape" || node.opType === "Size") return { kind: "shape" };
  const axes = attributeOrInput(site, "axes", 1);
  const op: ForeignOp<"other"> = {
    kind: "other",
    opType,
    operands: inputs.flatMap((value) => value ?? []),
    ...(axes ? { axes } : {}),
  };
  return { kind: "node", node: { op, inputs: nodes, constants: {}, form: first.form, value: output } };
}

function valueAt(values: ReadonlyMap<string, Value>, name: string, subject: string): Value {
  const value = values.get(name);
  if (value) return value;
  throw malformed(
    subject,
    `a node that reads ${JSON.stringify(name)}, which nothing before it computes`,
    "nodes in the order of their computation",
  );
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

/**
 * Constants that the graph's nodes make of others, by transposing or dequantising: a few bytes of node could ask for a
 * weight's copy each. Quantised gates come to twice per stream of their weights, which are the smallest part.
 */
const COMPUTED_MULTIPLE = 16;
const COMPUTED_FLOOR = 1 << 22;

function newTensors(value: Value, inputs: readonly (Value | undefined)[]): readonly Tensor[] {
  const read = new Set(inputs.flatMap((input) => (input ? tensorsOf(input) : [])));
  return tensorsOf(value).filter((tensor) => !read.has(tensor));
}

function tensorsOf(value: Value): readonly Tensor[] {
  if (value.kind === "constant") return [value.tensor];
  return value.kind === "node" ? Object.values(value.node.constants) : [];
}

function elementsOf(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, { data }) => sum + data.length, 0);
}

function malformed(subject: string, found: string, expected: string): InputError {
  return new InputError({ code: "format", subject, found, expected, remedy: "export the model again" });
}
