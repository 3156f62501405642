import type { OnnxAttribute, OnnxModel, OnnxNode } from "../../src/convert/formats/onnx/index.js";
import type { Tensor } from "../../src/core/tensor.js";

export type OnnxEdit = (model: OnnxModel) => OnnxModel;

/** Replaces the node that computes a value by others, the last of which must compute it. */
export function replaced(
  value: string,
  by: (node: OnnxNode) => readonly OnnxNode[],
  initializers: Readonly<Record<string, Tensor>> = {},
): OnnxEdit {
  return (model) => {
    if (!model.graph.nodes.some(({ outputs }) => outputs.includes(value)))
      throw new Error(`no value ${value}`);
    return {
      ...model,
      graph: {
        ...model.graph,
        nodes: model.graph.nodes.flatMap((node) => (node.outputs.includes(value) ? by(node) : [node])),
        initializers: new Map([...model.graph.initializers, ...Object.entries(initializers)]),
      },
    };
  };
}

/** Another operator on the first of the node's inputs. */
export function operator(
  value: string,
  opType: string,
  attributes: Readonly<Record<string, OnnxAttribute>> = {},
): OnnxEdit {
  return replaced(value, (node) => [
    { ...node, opType, inputs: node.inputs.slice(0, 1), attributes: new Map(Object.entries(attributes)) },
  ]);
}

export function attribute(value: string, name: string, to: OnnxAttribute): OnnxEdit {
  return replaced(value, (node) => [{ ...node, attributes: new Map([...node.attributes, [name, to]]) }]);
}

/** The images, changed before the network reads them; they are called `images` in our files. */
export function fedBy(
  nodes: readonly OnnxNode[],
  result: string,
  initializers: Readonly<Record<string, Tensor>> = {},
): OnnxEdit {
  return (model) => ({
    ...model,
    graph: {
      ...model.graph,
      nodes: [
        ...nodes,
        ...model.graph.nodes.map((node) => ({
          ...node,
          inputs: node.inputs.map((name) => (name === "images" ? result : name)),
        })),
      ],
      initializers: new Map([...model.graph.initializers, ...Object.entries(initializers)]),
    },
  });
}

export function floats(...values: readonly number[]): Tensor<"float32"> {
  return { dtype: "float32", shape: [values.length], data: Float32Array.from(values) };
}

export function scalar(value: number): Tensor<"float32"> {
  return { dtype: "float32", shape: [], data: Float32Array.of(value) };
}

export function wholes(...values: readonly number[]): Tensor<"int64"> {
  return { dtype: "int64", shape: [values.length], data: BigInt64Array.from(values, BigInt) };
}
