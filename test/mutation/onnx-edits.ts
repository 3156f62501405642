import {
  type OnnxAttribute,
  type OnnxModel,
  type OnnxNode,
  onnxNode,
} from "../../src/convert/formats/onnx/model.js";
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

/** Nodes between the node that computes a value and what reads it; the last of them must compute the value. */
export function followed(
  value: string,
  by: (before: string) => readonly OnnxNode[],
  initializers: Readonly<Record<string, Tensor>> = {},
): OnnxEdit {
  const before = `${value}.before`;
  return replaced(value, (own) => [{ ...own, name: before, outputs: [before] }, ...by(before)], initializers);
}

/** Sigmoid(x / temperature) in place of a sigmoid. */
export function tempered(value: string, temperature: number): OnnxEdit {
  return replaced(
    value,
    (own) => [
      onnxNode(`${value}.scaled`, "Mul", [own.inputs[0] ?? "", `${value}.factor`]),
      { ...own, inputs: [`${value}.scaled`] },
    ],
    { [`${value}.factor`]: scalar(1 / temperature) },
  );
}

/** The square of a ReLU. */
export function squared(value: string): OnnxEdit {
  return followed(value, (relu) => [onnxNode(value, "Mul", [relu, relu])]);
}

/** x · sigmoid(x) in place of a ReLU. */
export function silu(value: string): OnnxEdit {
  return replaced(value, ({ inputs: [x = ""] }) => [
    onnxNode(`${value}.sigmoid`, "Sigmoid", [x]),
    onnxNode(value, "Mul", [x, `${value}.sigmoid`]),
  ]);
}

/** x · (1 + erf(x/√2)) / 2 in place of a ReLU. */
export function gelu(value: string): OnnxEdit {
  return replaced(
    value,
    ({ inputs: [x = ""] }) => [
      onnxNode(`${value}.scaled`, "Mul", [x, `${value}.root`]),
      onnxNode(`${value}.erf`, "Erf", [`${value}.scaled`]),
      onnxNode(`${value}.plus`, "Add", [`${value}.erf`, `${value}.one`]),
      onnxNode(`${value}.product`, "Mul", [x, `${value}.plus`]),
      onnxNode(value, "Mul", [`${value}.product`, `${value}.half`]),
    ],
    {
      [`${value}.root`]: scalar(Math.SQRT1_2),
      [`${value}.one`]: scalar(1),
      [`${value}.half`]: scalar(0.5),
    },
  );
}

/** (E[x^p])^(1/p), x at least 1e-6, in place of a mean over the image. */
export function generalisedMean(value: string, power: number): OnnxEdit {
  return replaced(
    value,
    (own) => [
      onnxNode(`${value}.clamped`, "Max", [own.inputs[0] ?? "", `${value}.least`]),
      onnxNode(`${value}.powers`, "Pow", [`${value}.clamped`, `${value}.power`]),
      { ...own, name: `${value}.mean`, inputs: [`${value}.powers`], outputs: [`${value}.mean`] },
      onnxNode(value, "Pow", [`${value}.mean`, `${value}.root`]),
    ],
    {
      [`${value}.least`]: scalar(1e-6),
      [`${value}.power`]: scalar(power),
      [`${value}.root`]: scalar(1 / power),
    },
  );
}

/** A value times a factor, before anything reads it. */
export function multiplied(value: string, factor: number): OnnxEdit {
  return followed(value, (before) => [onnxNode(value, "Mul", [before, `${value}.factor`])], {
    [`${value}.factor`]: scalar(factor),
  });
}
