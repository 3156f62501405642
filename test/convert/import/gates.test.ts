import { describe, expect, it } from "vitest";
import type { OnnxModel, OnnxNode } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import { transposed } from "../../../src/convert/import/operators/constants.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { float32, GRAPH, STATE } from "../export/graphs.js";
import { expectExact } from "./expect-exact.js";
import { anonymous, inputOf, int64, ints, MODEL, operator, replaceNode, withConstants } from "./graphs.js";

/** Gates as little networks of vectors: [N, C] from the pool to the sigmoid, and back to [N, C, 1, 1] for the product. */

const SUBJECT = { subject: "theirs.onnx" };

const vectorOf = (name: string): string => `${name}.vector`;

/** How a step of a gate is written: from the name of its input to its result, as vectors. */
interface Spelling {
  readonly pool: (from: string, to: string) => readonly OnnxNode[];
  readonly linear: (from: string, to: string, matrix: string, bias: string) => readonly OnnxNode[];
  readonly back: (from: string, to: string) => readonly OnnxNode[];
  readonly product?: (inputs: readonly string[], to: string) => readonly OnnxNode[];
}

function einsum(equation: string, inputs: readonly string[], to: string): OnnxNode {
  return operator("Einsum", inputs, to, { equation: { type: "string", value: equation } });
}

const constants: Record<string, Tensor> = {
  pooled: int64(0, -1),
  pixels: int64(0, -1, 1, 1),
  rows: { ...int64(2), shape: [] },
  columns: { ...int64(3), shape: [] },
};
for (const [path, tensor] of STATE)
  if (/gate\.fc\d\.weight$/.test(path)) {
    const [rows = 0, columns = 0] = tensor.shape;
    constants[`${path}.matrix`] = { ...tensor, shape: [rows, columns] };
    constants[`${path}.turned`] = transposed({ ...tensor, shape: [rows, columns] });
  }

const gemm: Spelling["linear"] = (from, to, matrix, bias) => [
  operator("Gemm", [from, `${matrix}.matrix`, bias], to, { transB: { type: "int", value: 1 } }),
];
const matMul: Spelling["linear"] = (from, to, matrix, bias) => [
  operator("MatMul", [from, `${matrix}.turned`], `${to}.product`),
  operator("Add", [bias, `${to}.product`], to),
];
const unsqueeze: Spelling["back"] = (from, to) => [operator("Unsqueeze", [from], to, { axes: ints(2, 3) })];

const SPELLINGS: Readonly<Record<string, Spelling>> = {
  "ReduceMean, Gemm and Unsqueeze": {
    pool: (from, to) => [
      operator("ReduceMean", [from], to, { axes: ints(2, 3), keepdims: { type: "int", value: 0 } }),
    ],
    linear: gemm,
    back: unsqueeze,
  },
  "a sum as Einsum, divided by the number of pixels that the graph computes, and a product as Einsum": {
    pool: (from, to) => [
      einsum("nchw->nc", [from], `${to}.sum`),
      operator("Shape", [from], `${to}.sizes`),
      operator("Gather", [`${to}.sizes`, "rows"], `${to}.height`),
      operator("Gather", [`${to}.sizes`, "columns"], `${to}.width`),
      operator("Mul", [`${to}.height`, `${to}.width`], `${to}.count`),
      operator("Cast", [`${to}.count`], `${to}.divisor`, { to: { type: "int", value: 1 } }),
      operator("Div", [`${to}.sum`, `${to}.divisor`], to),
    ],
    linear: gemm,
    back: (from, to) => [operator("Identity", [from], to)],
    product: ([map = "", gate = ""], to) => [einsum("nchw,nc->nchw", [map, gate], to)],
  },
  "GlobalAveragePool, Flatten, MatMul and Reshape": {
    pool: (from, to) => [
      operator("GlobalAveragePool", [from], `${to}.pixel`),
      operator("Flatten", [`${to}.pixel`], to),
    ],
    linear: matMul,
    back: (from, to) => [operator("Reshape", [from, "pixels"], to)],
  },
  "GlobalAveragePool, Reshape, MatMul and Unsqueeze twice": {
    pool: (from, to) => [
      operator("GlobalAveragePool", [from], `${to}.pixel`),
      operator("Reshape", [`${to}.pixel`, "pooled"], to),
    ],
    linear: matMul,
    back: (from, to) => [
      operator("Unsqueeze", [from], `${to}.row`, { axes: ints(2) }),
      operator("Unsqueeze", [`${to}.row`], to, { axes: ints(3) }),
    ],
  },
};

/** The model with every gate written in this way. */
function spelled({ pool, linear, back, product }: Spelling, model = MODEL): OnnxModel {
  return GRAPH.gates.reduce(
    (changed, { layer }) => {
      const gate = layer.replace(/\.gate_activation$/, "");
      const module = gate.replace(/\[\d+\]$/, "");
      const layerOf = (name: string): string => vectorOf(`${gate}.${name}`);
      const fc = (name: string, from: string): readonly OnnxNode[] =>
        linear(layerOf(from), layerOf(name), `${module}.${name}.weight`, `${module}.${name}.bias`);
      const steps: Readonly<Record<string, (node: OnnxNode) => readonly OnnxNode[]>> = {
        global_avgpool: (node) => pool(inputOf(node), layerOf("global_avgpool")),
        fc1: () => fc("fc1", "global_avgpool"),
        relu: () => [operator("Relu", [layerOf("fc1")], layerOf("relu"))],
        fc2: () => fc("fc2", "relu"),
        gate_activation: () => [
          operator("Sigmoid", [layerOf("fc2")], layerOf("gate_activation")),
          ...back(layerOf("gate_activation"), layer),
        ],
      };
      const written = Object.entries(steps).reduce(
        (before, [name, change]) => replaceNode(before, `${gate}.${name}`, change),
        changed,
      );
      return product ? replaceNode(written, gate, ({ inputs }) => product(inputs, gate)) : written;
    },
    withConstants(model, constants),
  );
}

describe("gates of vectors", () => {
  it.each(Object.entries(SPELLINGS))("%s", (_, spelling) => {
    const match = matchGraph(anonymous(spelled(spelling)), SUBJECT);
    expect(match.differences).toEqual([]);
    expectExact(spelled(spelling), GRAPH, STATE);
  });

  it("are read where they are, two axes short", () => {
    const [spelling] = Object.values(SPELLINGS);
    const { values, readings } = matchGraph(spelled(spelling as Spelling), { ...SUBJECT, graph: GRAPH });
    const fc1 = values.get("conv2.0.gate[1].fc1") ?? "";
    expect(fc1).toBe("conv2.0.gate[1].fc1.vector");
    expect(readings.get(fc1)).toEqual({ isFlat: true });
  });

  it("say what they lack", () => {
    const [spelling] = Object.values(SPELLINGS);
    const hard = replaceNode(
      spelled(spelling as Spelling),
      "conv2.0.gate[2].gate_activation.vector",
      (node) => operator("HardSigmoid", node.inputs, node.outputs[0] ?? ""),
    );
    expect(matchGraph(anonymous(hard), { ...SUBJECT, graph: GRAPH }).differences).toEqual([
      { layer: "conv2.0.gate[2].gate_activation", stream: 2, found: "HardSigmoid", expected: "a sigmoid" },
    ]);
    const matrix = constants["conv2.0.gate.fc1.weight.matrix"] ?? float32([0], []);
    const other = float32(
      matrix.shape,
      Array.from(matrix.data as Float32Array, (value) => value + 1),
    );
    const own = withConstants(spelled(spelling as Spelling), { other });
    const parted = replaceNode(own, "conv2.0.gate[2].fc1.vector", (node) => ({
      ...node,
      inputs: node.inputs.with(1, "other"),
    }));
    expect(matchGraph(anonymous(parted), { ...SUBJECT, graph: GRAPH }).differences).toEqual([
      {
        layer: "conv2.0.gate[2].fc1",
        stream: 2,
        found: "weights of its own",
        expected: "those of conv2.0.gate[1].fc1",
        kind: "own-weights",
      },
    ]);
  });

  it("multiply from either side", () => {
    const model = GRAPH.gates.reduce(
      (changed, { layer }) =>
        replaceNode(changed, layer.replace(/\.gate_activation$/, ""), (node) => ({
          ...node,
          inputs: node.inputs.toReversed(),
        })),
      MODEL,
    );
    expect(matchGraph(anonymous(model), { ...SUBJECT, graph: GRAPH }).differences).toEqual([]);
  });
});
