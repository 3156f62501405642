import { describe, expect, it } from "vitest";
import { lowerToOnnx, type OnnxOptions } from "../../../src/convert/export/onnx.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import {
  int,
  ints,
  type OnnxGraph,
  type OnnxModel,
  onnxNode,
} from "../../../src/convert/formats/onnx/model.js";
import { serializeModel } from "../../../src/convert/formats/onnx/wire.js";
import type { Difference } from "../../../src/convert/import/differences.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import { concatenate } from "../../../src/core/bytes.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { onnxruntimeBackend } from "../../../src/verify/backends/onnxruntime.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { anonymous } from "../../convert/import/graphs.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { fedBy, followed, type OnnxEdit, replaced, scalar, wholes } from "../../mutation/onnx-edits.js";
import { SMALL } from "../../support/osnet.js";

/** Graphs that overflow, wrap around or never end on other images than the report's. */

const CHECKPOINT = tinyCheckpoint("block");

const edited = (edit: OnnxEdit, options: OnnxOptions = {}): OnnxModel =>
  anonymous(
    edit(lowerToOnnx(CHECKPOINT.graph, CHECKPOINT.stateDict, { size: SMALL, opset: 17, ...options })),
  );

function judged(model: OnnxModel): Promise<ParityReport> {
  return openVerification(
    { name: "m.onnx", bytes: encodeOnnx(model) },
    { name: "w.pth", bytes: new Uint8Array(), checkpoint: CHECKPOINT },
    { images: { source: "test", tensor: seededImages(0, 2, 64, 32) } },
  ).then(verify);
}

const differences = (model: OnnxModel): readonly Difference[] =>
  matchGraph(model, { subject: "m", graph: CHECKPOINT.graph }).differences;

it("a Loop is one finding, and is not run", async () => {
  const truth: Tensor = { dtype: "bool", shape: [], data: Uint8Array.of(1) };
  const body: OnnxGraph = {
    name: "body",
    inputs: [
      { name: "round", dtype: "int64", shape: [] },
      { name: "before", dtype: "bool", shape: [] },
      { name: "x", dtype: "float32" },
    ],
    outputs: [
      { name: "after", dtype: "bool", shape: [] },
      { name: "y", dtype: "float32" },
    ],
    nodes: [onnxNode("after", "Identity", ["before"]), onnxNode("y", "Identity", ["x"])],
    initializers: new Map(),
  };
  const endless = edited(
    followed(
      "maxpool",
      (before) => [
        onnxNode("maxpool", "Loop", ["", "truth", before], { body: { type: "graph", value: body } }),
      ],
      { truth },
    ),
  );
  const { passed, layers, faults } = await judged(endless);
  expect({ passed, layers }).toEqual({ passed: false, layers: [] });
  expect(faults).toMatchObject([{ layer: "maxpool", kind: "structure" }]);
});

it.each([
  [1, 0.0009, 0],
  [3, 0.0009, 1],
  [40, 1e-7, 1],
])("an L2 norm with %d floors of %d: %d fault", async (count, epsilon, found) => {
  const tail = followed(
    "features",
    (before) => [
      onnxNode("norm.0", "ReduceL2", [before], { axes: ints(1) }),
      ...Array.from({ length: count }, (_, index) =>
        onnxNode(`norm.${index + 1}`, "Add", [`norm.${index}`, "epsilon"]),
      ),
      onnxNode("features", "Div", [before, `norm.${count}`]),
    ],
    { epsilon: scalar(epsilon) },
  );
  expect((await judged(edited(tail))).faults).toHaveLength(found);
});

it("sums of many sums before a quantisation are read in a moment", () => {
  const zero: Tensor = { dtype: "uint8", shape: [], data: Uint8Array.of(0) };
  const sums = followed(
    "conv1.relu",
    (before) => [
      ...Array.from({ length: 6 }, (_, index) =>
        onnxNode(`sum.${index}`, "Sum", Array(40).fill(index === 0 ? before : `sum.${index - 1}`)),
      ),
      onnxNode("quantised", "QuantizeLinear", ["sum.5", "scale", "zero"]),
      onnxNode("conv1.relu", "DequantizeLinear", ["quantised", "scale", "zero"]),
    ],
    { scale: scalar(0.1), zero },
  );
  expect(differences(edited(sums))).not.toEqual([]);
});

it.each([
  ["INT64", 7, 0],
  ["UINT8", 2, 1],
  ["FLOAT16", 10, 1],
])("a number of images that is cast to %s: code %d", (_, code, found) => {
  const cast = replaced(
    "global_avgpool.flatten",
    ({ inputs: [x = ""], outputs: [y = ""] }) => [
      onnxNode("shape", "Shape", [x]),
      onnxNode("rows", "Gather", ["shape", "first"]),
      onnxNode("narrow", "Cast", ["rows"], { to: int(code) }),
      onnxNode("wide", "Cast", ["narrow"], { to: int(7) }),
      onnxNode("target", "Concat", ["wide", "rest"], { axis: int(0) }),
      onnxNode(y, "Reshape", [x, "target"]),
    ],
    { first: wholes(0), rest: wholes(-1) },
  );
  expect(differences(edited(cast)).length > 0).toBe(found > 0);
});

it("whole numbers that wrap around make no ReLU", () => {
  const relu = "conv2.0.conv2c.0.relu";
  const mask = (factor: number): OnnxEdit =>
    replaced(
      relu,
      ({ inputs: [x = ""] }) => [
        onnxNode("is", "Greater", [x, "zero"]),
        onnxNode("one", "Cast", ["is"], { to: int(6) }),
        onnxNode("large", "Mul", ["one", "factor"]),
        onnxNode("larger", "Mul", ["large", "factor"]),
        onnxNode("float", "Cast", [factor === 0 ? "one" : "larger"], { to: int(1) }),
        onnxNode("factor.x", "Min", ["float", "unit"]),
        onnxNode(relu, "Mul", [x, "factor.x"]),
      ],
      {
        zero: scalar(0),
        unit: scalar(1),
        factor: { dtype: "int32", shape: [], data: Int32Array.of(factor) },
      },
    );
  expect(differences(edited(mask(0)))).toEqual([]);
  expect(differences(edited(mask(65536)))).toMatchObject([{ layer: relu }]);
});

it("whole numbers that no double has make no ReLU", () => {
  const relu = "conv2.0.conv2c.0.relu";
  const large = (value: bigint): Tensor => ({ dtype: "int64", shape: [], data: BigInt64Array.of(value) });
  const mask = replaced(
    relu,
    ({ inputs: [x = ""] }) => [
      onnxNode("is", "Less", [x, "zero"]),
      onnxNode("number", "Where", ["is", "odd", "none"]),
      onnxNode("equal", "Equal", ["number", "even"]),
      onnxNode(relu, "Where", ["equal", "zero", x]),
    ],
    { zero: scalar(0), none: large(0n), odd: large(2n ** 53n + 1n), even: large(2n ** 53n) },
  );
  expect(differences(edited(mask))).toMatchObject([{ layer: relu }]);
});

describe("in half precision", () => {
  const half: OnnxOptions = { dtype: "float16" };

  it("large factors before the network are a finding", () => {
    const steps = (factor: number): OnnxEdit =>
      fedBy(
        [onnxNode("larger", "Mul", ["images", "times"]), onnxNode("again", "Mul", ["larger", "by"])],
        "again",
        { times: scalar(factor), by: scalar(1.5 / factor) },
      );
    const { preprocess } = matchGraph(edited(steps(2 ** 14), half), {
      subject: "m",
      graph: CHECKPOINT.graph,
    });
    expect(preprocess?.unknown).not.toEqual([]);
    const single = matchGraph(edited(steps(2 ** 14)), { subject: "m", graph: CHECKPOINT.graph });
    expect(single.preprocess?.unknown).toEqual([]);
  });

  it("a factor and its inverse are a finding, where the values between them may overflow", () => {
    const relu = "conv2.0.conv2c.0.relu";
    const factors = followed(
      relu,
      (before) => [
        onnxNode("large", "Mul", [before, "factor"]),
        onnxNode("narrow", "Cast", ["large"], { to: int(10) }),
        onnxNode("wide", "Cast", ["narrow"], { to: int(1) }),
        onnxNode(relu, "Mul", ["wide", "inverse"]),
      ],
      { factor: scalar(2 ** 11), inverse: scalar(2 ** -11) },
    );
    expect(differences(edited(factors, half))).toMatchObject([{ layer: relu }]);
  });

  it("inputs alone round the images of both sides", async () => {
    const { passed, faults } = await judged(edited((model) => model, { ioDtype: "float16" }));
    expect({ passed, faults }).toEqual({ passed: true, faults: [] });
  });
});

it("a model of several inputs is refused before it runs", async () => {
  const model = edited((whole) => whole);
  const { graph } = model;
  const other = { name: "gallery", dtype: "float32", shape: ["people", 8] } as const;
  await expect(judged({ ...model, graph: { ...graph, inputs: [...graph.inputs, other] } })).rejects.toThrow(
    /"gallery", expected one input/,
  );
});

it("shapes that a file states of its values, and that they do not have, are named as the reason of a failure", async () => {
  const CPU = "onnxruntime";
  const model: OnnxModel = {
    irVersion: 7,
    opset: 13,
    customOpsets: new Map(),
    producer: { name: "", version: "" },
    metadata: new Map(),
    graph: {
      name: "g",
      inputs: [{ name: "x", dtype: "float32", shape: ["n", 3, 4, 2] }],
      outputs: [{ name: "y", dtype: "float32", shape: ["n", 3] }],
      nodes: [
        onnxNode("pool", "GlobalAveragePool", ["x"]),
        onnxNode("sizes", "Shape", ["pool"]),
        onnxNode("batch", "Gather", ["sizes", "first"]),
        onnxNode("target", "Concat", ["batch", "rest"], { axis: int(0) }),
        onnxNode("flat", "Reshape", ["pool", "target"]),
        onnxNode("y", "MatMul", ["flat", "matrix"]),
      ],
      initializers: new Map<string, Tensor>([
        ["first", wholes(0)],
        ["rest", wholes(-1)],
        ["matrix", { dtype: "float32", shape: [3, 3], data: new Float32Array(9) }],
      ]),
    },
  };
  const dim = [1, 3, 1, 1].map((dimValue) => ({ dimValue }));
  const valueInfo = [{ name: "pool", type: { tensorType: { elemType: 1, shape: { dim } } } }];
  const bytes = concatenate([encodeOnnx(model), serializeModel({ graph: { valueInfo } }, 64)]);
  const run = (file: Uint8Array) =>
    onnxruntimeBackend({ bytes: file }, model, [], "m.onnx", CPU)
      .load([{ name: "y", index: 0 }], {})
      .run(seededImages(0, 2, 4, 2));
  await expect(run(bytes)).rejects.toMatchObject({
    problem: { code: "tensor", remedy: expect.stringContaining("value_info") },
  });
  await expect(run(encodeOnnx(model))).resolves.toHaveLength(1);
});
