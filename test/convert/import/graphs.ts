import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import type {
  OnnxAttribute,
  OnnxGraph,
  OnnxModel,
  OnnxNode,
} from "../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { GRAPH, STATE } from "../export/graphs.js";

/** Changes to ONNX graphs, as other exporters or mistakes make them. */

/** The small network as an ONNX model with all layers and outputs; do not modify it. */
export const MODEL: OnnxModel = lowerToOnnx(GRAPH, STATE, {
  size: { height: 32, width: 16 },
  output: "both",
  fold: false,
  opset: 11,
});

/** The same graph with a number for every name, and without metadata: nothing but its data flow tells what it is. */
export function anonymous(model: OnnxModel): OnnxModel {
  const names = new Map<string, string>();
  const rename = (name: string): string => {
    if (name === "") return name;
    const known = names.get(name) ?? `v${names.size}`;
    names.set(name, known);
    return known;
  };
  const namelessGraph = (graph: OnnxGraph): OnnxGraph => ({
    // onnxruntime takes no branch without a name.
    name: graph === model.graph ? "" : "branch",
    inputs: graph.inputs.map((value) => ({ ...value, name: rename(value.name) })),
    nodes: graph.nodes.map((node) => ({
      ...node,
      name: "",
      inputs: node.inputs.map(rename),
      outputs: node.outputs.map(rename),
      attributes: new Map(Array.from(node.attributes, ([name, attribute]) => [name, nameless(attribute)])),
    })),
    outputs: graph.outputs.map((value) => ({ ...value, name: rename(value.name) })),
    initializers: new Map([...graph.initializers].map(([name, tensor]) => [rename(name), tensor])),
  });
  const nameless = (attribute: OnnxAttribute): OnnxAttribute =>
    attribute.type === "graph" ? { ...attribute, value: namelessGraph(attribute.value) } : attribute;
  return {
    ...model,
    producer: { name: "", version: "" },
    metadata: new Map(),
    graph: namelessGraph(model.graph),
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

/** An attribute that is a list of whole numbers. */
export const ints = (...value: readonly number[]): OnnxAttribute => ({ type: "ints", value });

/** A list of whole numbers as a constant. */
export const int64 = (...values: readonly number[]): Tensor<"int64"> => ({
  dtype: "int64",
  shape: [values.length],
  data: BigInt64Array.from(values, BigInt),
});

/** What a node works on. */
export const inputOf = ({ inputs }: OnnxNode): string => inputs[0] ?? "";

/** The same model with more constants. */
export function withConstants(model: OnnxModel, constants: Readonly<Record<string, Tensor>>): OnnxModel {
  const initializers = new Map([...model.graph.initializers, ...Object.entries(constants)]);
  return { ...model, graph: { ...model.graph, initializers } };
}

/** Operators that work on NCHW only: between two transposes where the rest of a graph is NHWC. */
const NCHW_ONLY: ReadonlySet<string> = new Set([
  ...["Conv", "MaxPool", "AveragePool", "BatchNormalization", "InstanceNormalization"],
]);

/** The same graph with its activations in NHWC, as converters from TensorFlow write it; means are over axes 1 and 2. */
export function inNhwc(model: OnnxModel): OnnxModel {
  const transpose = (input: string, output: string, ...perm: readonly number[]): OnnxNode =>
    operator("Transpose", [input], output, { perm: { type: "ints", value: perm } });
  const turned = withNodes(model, (nodes) =>
    nodes.flatMap((node) => {
      const [input = "", ...others] = node.inputs;
      const [output = ""] = node.outputs;
      // An embedding has two axes.
      if (NCHW_ONLY.has(node.opType) && !output.startsWith("fc."))
        return [
          transpose(input, `${output}.nchw_in`, 0, 3, 1, 2),
          { ...node, inputs: [`${output}.nchw_in`, ...others], outputs: [`${output}.nchw_out`] },
          transpose(`${output}.nchw_out`, output, 0, 2, 3, 1),
        ];
      if (node.opType === "ReduceMean") return withAttribute(node, "axes", { type: "ints", value: [1, 2] });
      return node;
    }),
  );
  const inputs = model.graph.inputs.map((value) => {
    const [batch = null, channels = null, height = null, width = null] = value.shape ?? [];
    return { ...value, shape: [batch, height, width, channels] };
  });
  return { ...turned, graph: { ...turned.graph, inputs } };
}

/** A graph that takes pixels: N×H×W×3 bytes, BGR, normalised in the graph by ImageNet's mean and deviation. */
export function takingPixels(model: OnnxModel): OnnxModel {
  const [images] = model.graph.inputs;
  if (!images) throw new Error("no input");
  const [batch = null, , height = null, width = null] = images.shape ?? [];
  const perChannel = (...values: readonly number[]): Tensor => ({
    dtype: "float32",
    shape: [1, 3, 1, 1],
    data: Float32Array.from(values),
  });
  const before = [
    operator("Cast", ["pixels"], "p.float", { to: { type: "int", value: 1 } }),
    operator("Transpose", ["p.float"], "p.nchw", { perm: { type: "ints", value: [0, 3, 1, 2] } }),
    operator("Gather", ["p.nchw", "p.order"], "p.rgb", { axis: { type: "int", value: 1 } }),
    operator("Div", ["p.rgb", "p.white"], "p.unit"),
    operator("Sub", ["p.unit", "p.mean"], "p.centred"),
    operator("Div", ["p.centred", "p.deviation"], images.name),
  ];
  const changed = withConstants(
    withNodes(model, (nodes) => [...before, ...nodes]),
    {
      "p.order": { dtype: "int64", shape: [3], data: BigInt64Array.of(2n, 1n, 0n) },
      "p.white": { dtype: "float32", shape: [], data: Float32Array.of(255) },
      "p.mean": perChannel(0.485, 0.456, 0.406),
      "p.deviation": perChannel(0.229, 0.224, 0.225),
    },
  );
  const inputs = [{ name: "pixels", dtype: "uint8", shape: [batch, height, width, 3] } as const];
  return { ...changed, graph: { ...changed.graph, inputs } };
}

/** Convolutions on integers, as onnxruntime's `quantize_dynamic` writes them: weights by channel in eight bits. */
export function onIntegers(model: OnnxModel, hasOneStep = false): OnnxModel {
  const constants: Record<string, Tensor> = {};
  const changed = withNodes(model, (nodes) =>
    nodes.flatMap((node) => {
      const [x = "", w = "", b] = node.inputs;
      const [y = ""] = node.outputs;
      const weight = model.graph.initializers.get(w);
      if (node.opType !== "Conv" || weight?.dtype !== "float32") return node;
      const values = weight.data as Float32Array;
      const rows = weight.shape[0] ?? 1;
      const length = values.length / rows;
      const scales = Float32Array.from({ length: rows }, (_, row) => {
        const own = hasOneStep ? values : values.subarray(row * length, (row + 1) * length);
        return own.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127 || 1;
      });
      constants[`${w}.q`] = {
        dtype: "int8",
        shape: weight.shape,
        data: Int8Array.from(values, (value, at) =>
          Math.round(value / (scales[Math.floor(at / length)] ?? 1)),
        ),
      };
      constants[`${w}.scale`] = hasOneStep
        ? { dtype: "float32", shape: [], data: scales.slice(0, 1) }
        : { dtype: "float32", shape: [rows, 1, 1], data: scales };
      const bias = b === undefined ? undefined : model.graph.initializers.get(b);
      if (bias) constants[`${y}.bias`] = { ...bias, shape: [1, rows, 1, 1] };
      const sum = bias ? `${y}.scaled` : y;
      return [
        {
          ...operator("DynamicQuantizeLinear", [x], `${y}.x`),
          outputs: [`${y}.x`, `${y}.step`, `${y}.zero`],
        },
        {
          ...operator("ConvInteger", [`${y}.x`, `${w}.q`, `${y}.zero`], `${y}.int`),
          attributes: node.attributes,
        },
        operator("Cast", [`${y}.int`], `${y}.float`, { to: { type: "int", value: 1 } }),
        operator("Mul", [`${y}.step`, `${w}.scale`], `${y}.steps`),
        operator("Mul", [`${y}.float`, `${y}.steps`], sum),
        ...(bias ? [operator("Add", [sum, `${y}.bias`], y)] : []),
      ];
    }),
  );
  return withConstants(changed, constants);
}
