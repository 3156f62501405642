import type { OnnxAttribute, OnnxModel, OnnxNode } from "../../../src/convert/formats/onnx/index.js";
import type { Tensor } from "../../../src/tensor.js";

/** Changes to ONNX graphs, as other exporters or mistakes make them. */

/** The same graph with a number for every name, and without metadata: nothing but its data flow tells what it is. */
export function anonymous(model: OnnxModel): OnnxModel {
  const names = new Map<string, string>();
  const rename = (name: string): string => {
    if (name === "") return name;
    const known = names.get(name) ?? `v${names.size}`;
    names.set(name, known);
    return known;
  };
  const { graph } = model;
  return {
    ...model,
    producer: { name: "", version: "" },
    metadata: new Map(),
    graph: {
      name: "",
      inputs: graph.inputs.map((value) => ({ ...value, name: rename(value.name) })),
      nodes: graph.nodes.map((node) => ({
        ...node,
        name: "",
        inputs: node.inputs.map(rename),
        outputs: node.outputs.map(rename),
      })),
      outputs: graph.outputs.map((value) => ({ ...value, name: rename(value.name) })),
      initializers: new Map([...graph.initializers].map(([name, tensor]) => [rename(name), tensor])),
    },
  };
}

export function withNodes(
  model: OnnxModel,
  change: (nodes: readonly OnnxNode[]) => readonly OnnxNode[],
): OnnxModel {
  return { ...model, graph: { ...model.graph, nodes: change(model.graph.nodes) } };
}

/** The node that computes a value, changed or exchanged for others. */
export function replaceNode(
  model: OnnxModel,
  output: string,
  change: (node: OnnxNode) => OnnxNode | readonly OnnxNode[],
): OnnxModel {
  if (!model.graph.nodes.some(({ outputs }) => outputs[0] === output)) throw new Error(`no node ${output}`);
  return withNodes(model, (nodes) =>
    nodes.flatMap((node) => (node.outputs[0] === output ? change(node) : node)),
  );
}

/** Without one node: what read its output reads its first input. */
export function dropNode(model: OnnxModel, output: string): OnnxModel {
  const input = model.graph.nodes.find(({ outputs }) => outputs[0] === output)?.inputs[0];
  if (input === undefined) throw new Error(`no node ${output}`);
  return withNodes(model, (nodes) =>
    nodes
      .filter(({ outputs }) => outputs[0] !== output)
      .map((node) => ({ ...node, inputs: node.inputs.map((name) => (name === output ? input : name)) })),
  );
}

export function withAttribute(node: OnnxNode, name: string, attribute: OnnxAttribute): OnnxNode {
  return { ...node, attributes: new Map(node.attributes).set(name, attribute) };
}

export function operator(
  opType: string,
  inputs: readonly string[],
  output: string,
  attributes: Readonly<Record<string, OnnxAttribute>> = {},
): OnnxNode {
  return {
    name: "",
    opType,
    domain: "",
    inputs,
    outputs: [output],
    attributes: new Map(Object.entries(attributes)),
  };
}

/** The same model with more constants. */
export function withConstants(model: OnnxModel, constants: Readonly<Record<string, Tensor>>): OnnxModel {
  const initializers = new Map([...model.graph.initializers, ...Object.entries(constants)]);
  return { ...model, graph: { ...model.graph, initializers } };
}
