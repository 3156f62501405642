import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import { type OnnxModel, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import { readerOf } from "../../../src/convert/import/operators/readers.js";
import { liftStateDict } from "../../../src/convert/open/lift.js";
import { InputError } from "../../../src/core/errors.js";
import type { DType, Tensor } from "../../../src/core/tensor.js";
import { GRAPH, STATE } from "../export/graphs.js";
import { replaceNode, withNodes } from "./graphs.js";

/** What a file leaves to ONNX's own rules: inputs that are left out, the order of nodes, casts of constants. */

const size = { height: 32, width: 16 };
const FOLDED = lowerToOnnx(GRAPH, STATE, { size, fold: true, opset: 11 });
const subject = "theirs.onnx";

function withoutBias(model: OnnxModel, wanted: (name: string) => boolean): OnnxModel {
  return withNodes(model, (nodes) =>
    nodes.map((node) =>
      node.opType === "Conv" && wanted(node.outputs[0] ?? "")
        ? { ...node, inputs: node.inputs.slice(0, 2) }
        : node,
    ),
  );
}

describe("an omitted bias", () => {
  it("is zeros, where all batch norms are folded", () => {
    const match = matchGraph(
      withoutBias(FOLDED, () => true),
      { subject },
    );
    expect(match.differences).toEqual([]);
    const { stateDict } = liftStateDict(match, { subject });
    const biases = [...stateDict].filter(([path]) => /bn\.bias$|gate\.fc\d\.bias$/.test(path));
    expect(biases.length).toBeGreaterThan(10);
    for (const [path, { data }] of biases)
      expect(
        Array.from(data as Float32Array).every((value) => value === 0),
        path,
      ).toBe(true);
  });

  it("is a batch norm that is missing, where others are there", () => {
    const kept = lowerToOnnx(GRAPH, STATE, { size, fold: false, opset: 11 });
    const lacking = replaceNode(kept, "conv1.bn", (node) =>
      onnxNode("conv1.bn", "Identity", node.inputs.slice(0, 1)),
    );
    const { differences } = matchGraph(lacking, { subject, graph: GRAPH });
    expect(differences.map(({ layer }) => layer)).toEqual(["conv1.bn"]);
  });
});

describe("nodes in any order", () => {
  const reversed = withNodes(FOLDED, (nodes) => nodes.toReversed());

  it("are put in that of their computation", () => {
    const { graph } = decodeOnnx(encodeOnnx(reversed), { subject });
    expect(matchGraph({ ...FOLDED, graph }, { subject, graph: GRAPH }).differences).toEqual([]);
    const known = new Set([...graph.initializers.keys(), ...graph.inputs.map(({ name }) => name)]);
    for (const { inputs, outputs } of graph.nodes) {
      for (const input of inputs) expect(known).toContain(input);
      for (const output of outputs) known.add(output);
    }
  });

  it("stay as they are where that is one", () => {
    const { graph } = decodeOnnx(encodeOnnx(FOLDED), { subject });
    expect(graph.nodes.map(({ name }) => name)).toEqual(FOLDED.graph.nodes.map(({ name }) => name));
  });

  it("that depend on themselves are refused", () => {
    const circle = withNodes(FOLDED, (nodes) =>
      nodes.map((node) => (node.outputs[0] === "conv1.relu" ? { ...node, inputs: ["conv1.relu"] } : node)),
    );
    expect(() => decodeOnnx(encodeOnnx(circle), { subject })).toThrow(InputError);
  });
});

describe("a constant that is cast", () => {
  /** TensorProto.DataType. */
  const CODES: Readonly<Partial<Record<DType, number>>> = {
    float32: 1,
    uint8: 2,
    int8: 3,
    int32: 6,
    int64: 7,
    bool: 9,
  };
  const cast = (tensor: Tensor, dtype: DType): readonly number[] | undefined => {
    const node = onnxNode("y", "Cast", ["x"], { to: { type: "int", value: CODES[dtype] ?? 0 } });
    const value = readerOf("Cast", "")?.({ node, inputs: [{ kind: "constant", tensor }], output: "y" });
    if (value?.kind !== "constant") return undefined;
    expect(value.tensor.dtype).toBe(dtype);
    return Array.from(value.tensor.data as ArrayLike<number | bigint>, Number);
  };
  const reals = (...values: readonly number[]): Tensor => ({
    dtype: "float32",
    shape: [values.length],
    data: Float32Array.from(values),
  });
  const wholes = (...values: readonly number[]): Tensor => ({
    dtype: "int64",
    shape: [values.length],
    data: BigInt64Array.from(values, BigInt),
  });

  it.each<[string, Tensor, DType, readonly number[] | undefined]>([
    ["towards zero", reals(0.5, -0.5, 1.9, -1.9), "int64", [0, 0, 1, -1]],
    ["around at the end of the type", wholes(300, -1, 2 ** 31), "uint8", [44, 255, 0]],
    ["around at the end of 32 bits", wholes(2 ** 31), "int32", [-(2 ** 31)]],
    ["as true but for zero", reals(0.25, 0, -0), "bool", [1, 0, 0]],
    ["from whole numbers", wholes(3), "float32", [3]],
    ["not at all where processors differ", reals(Number.NaN), "int64", undefined],
    ["not at all beyond the type", reals(3e9), "int32", undefined],
  ])("goes %s", (_how, tensor, dtype, expected) => {
    expect(cast(tensor, dtype)).toEqual(expected);
  });
});
