import type { Size2d } from "../../arch/index.js";
import { InputError } from "../../errors.js";
import type { OnnxModel, OnnxNode, OnnxValue } from "../formats/onnx/index.js";
import type { ForeignGraph, ForeignNode, ForeignOp, Form, Value } from "./foreign.js";
import { readerOf } from "./operators/index.js";
import { attributeOrInput } from "./operators/site.js";

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
  for (const value of images) values.set(value.name, { kind: "node", node: inputNode(value) });
  const [first] = images.flatMap(({ name }) => nodeAt(values, name) ?? []);
  if (!first) throw malformed(subject, "a graph without an input", "one that takes images");
  const census = new Map<string, number>();
  for (const node of graph.nodes) {
    census.set(node.opType, (census.get(node.opType) ?? 0) + 1);
    const inputs = node.inputs.map((name) => (name === "" ? undefined : valueAt(values, name, subject)));
    const read = meaning(node, inputs);
    node.outputs.forEach((output, index) => {
      if (output === "") return;
      if (values.has(output))
        throw malformed(subject, `two sources of the value ${JSON.stringify(output)}`, "one source of each");
      values.set(output, index === 0 && read ? read : unknown(node, inputs, output));
    });
  }
  const outputs = graph.outputs.map(({ name }) => ({ name, node: nodeAt(values, name) }));
  return { input: first, outputs, census, ...live(outputs.flatMap(({ node }) => node ?? [])) };
}

function inputNode({ name, shape }: OnnxValue): ForeignNode {
  const [, channels, height, width] = shape ?? [];
  const size: Size2d | undefined =
    typeof height === "number" && typeof width === "number" ? [height, width] : undefined;
  const form: Form = { rank: "map", channels: typeof channels === "number" ? channels : undefined, size };
  return { op: { kind: "input" }, inputs: [], constants: {}, form, value: name };
}

function meaning(node: OnnxNode, inputs: readonly (Value | undefined)[]): Value | undefined {
  const [output] = node.outputs;
  if (output === undefined) return undefined;
  return readerOf(node.opType, node.domain)?.({ node, inputs, output });
}

/** What no reader understands: numbers about shapes if it reads no activation, else an operator by its name only. */
function unknown(node: OnnxNode, inputs: readonly (Value | undefined)[], output: string): Value {
  const nodes = inputs.flatMap((value) => (value?.kind === "node" ? value.node : []));
  const [first] = nodes;
  if (!first || node.opType === "Shape" || node.opType === "Size") return { kind: "shape" };
  const axes = attributeOrInput({ node, inputs, output }, "axes", 1);
  const op: ForeignOp<"other"> = {
    kind: "other",
    opType: node.opType,
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

function malformed(subject: string, found: string, expected: string): InputError {
  return new InputError({ code: "format", subject, found, expected, remedy: "export the model again" });
}
