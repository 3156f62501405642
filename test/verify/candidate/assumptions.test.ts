import { describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { dtypeToCode, int, type OnnxNode, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import { encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { TfjsAttribute } from "../../../src/convert/formats/tfjs/model.js";
import type { DType, Tensor } from "../../../src/core/tensor.js";
import { tfjsBackend } from "../../../src/verify/backends/tfjs.js";
import { withComputed } from "../../../src/verify/candidate/assumptions.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { anonymous, replaceNode, withConstants } from "../../convert/import/graphs.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { convert, openReference, rewriteOnnx, SMALL } from "../../support/osnet.js";

/** Arithmetic in a graph that runtimes and a reader of graphs could do in two ways. */

const checkpoint = tinyCheckpoint("block");
const RELU = "conv2.0.conv2b.0.relu";

const CONVERTED = convert(checkpoint);

function fileOf(
  nodes: (x: string, y: string) => readonly OnnxNode[],
  constants: Readonly<Record<string, Tensor>> = {},
): Uint8Array {
  return rewriteOnnx(CONVERTED, (model) =>
    anonymous(
      withConstants(
        replaceNode(model, RELU, ({ inputs: [x = ""] }) => nodes(x, RELU)),
        constants,
      ),
    ),
  );
}

async function judged(...edit: Parameters<typeof fileOf>): Promise<ParityReport> {
  return verify(
    await openVerification({ name: "m.onnx", bytes: fileOf(...edit) }, openReference(checkpoint), {
      size: SMALL,
    }),
  );
}

const cast = (y: string, x: string, dtype: DType): OnnxNode =>
  onnxNode(y, "Cast", [x], { to: int(dtypeToCode(dtype)) });
const floats = (...values: readonly number[]): Tensor<"float32"> => ({
  dtype: "float32",
  shape: [values.length],
  data: Float32Array.from(values),
});
const doubles = (...values: readonly number[]): Tensor => ({
  dtype: "float64",
  shape: [],
  data: Float64Array.from(values),
});
const whole = (value: bigint): Tensor => ({ dtype: "int64", shape: [1], data: BigInt64Array.of(value) });

/** A ReLU of x times the constant `c`, which is a ReLU of x if that is 1. */
const timesC = (x: string, y: string): readonly OnnxNode[] => [
  onnxNode("product", "Mul", [x, "c"]),
  onnxNode(y, "Relu", ["product"]),
];

describe("a constant that is computed in the graph", () => {
  it("may be what it was read as", async () => {
    const quotient = [onnxNode("c", "Div", ["a", "b"])];
    const report = await judged((x, y) => [...quotient, ...timesC(x, y)], { a: floats(3), b: floats(3) });
    expect(report).toMatchObject({ passed: true, faults: [] });
  });

  it("may be bfloat16 on the way, which onnxruntime does not output", async () => {
    const casts = [cast("narrow", "a", "bfloat16"), cast("c", "narrow", "float32")];
    const report = await judged((x, y) => [...casts, ...timesC(x, y)], { a: floats(1) });
    expect(report).toMatchObject({ passed: true, faults: [] });
  });

  it.each<[string, readonly OnnxNode[], Readonly<Record<string, Tensor>>]>([
    [
      "a quotient of lists of floats",
      [
        onnxNode("a", "Concat", ["three"], { axis: int(0) }),
        onnxNode("b", "Concat", ["two"], { axis: int(0) }),
        onnxNode("whole", "Div", ["a", "b"]),
        cast("c", "whole", "float32"),
      ],
      { three: floats(3), two: floats(2) },
    ],
    [
      "a whole number that no double has",
      [cast("large", "whole", "float32"), onnxNode("c", "Mul", ["large", "small"])],
      { whole: whole(2n ** 60n + 2n ** 36n + 1n), small: floats(2 ** -60) },
    ],
    [
      "an attribute beyond the whole numbers of doubles",
      [
        onnxNode("whole", "Constant", [], { value_int: int(2 ** 62) }),
        cast("large", "whole", "float32"),
        onnxNode("c", "Mul", ["large", "small"]),
      ],
      { small: floats(2 ** -63) },
    ],
  ])("and is another number in the runtime is refused: %s", async (_, nodes, constants) => {
    await expect(judged((x, y) => [...nodes, ...timesC(x, y)], constants)).rejects.toMatchObject({
      code: "unsupported",
      message: expect.stringMatching(/^m\.onnx: found the constant ".*", whose values in onnxruntime/),
    });
  });
});

describe("a number of the network that follows from sizes", () => {
  /** [N, C, 1, k], where k is 1 for a few images and 0 for many, and the size of its last axis as a factor. */
  const tiled = (x: string): readonly OnnxNode[] => [
    onnxNode("pooled", "GlobalAveragePool", [x]),
    onnxNode("sizes", "Shape", [x]),
    onnxNode("count", "Slice", ["sizes", "zero", "one", "zero"]),
    onnxNode("left", "Sub", ["eight", "count"]),
    onnxNode("many", "Max", ["left", "zero"]),
    onnxNode("k", "Min", ["many", "one"]),
    onnxNode("times", "Concat", ["ones", "k"], { axis: int(0) }),
    onnxNode("tiled", "Tile", ["pooled", "times"]),
  ];
  const size = (of: string): readonly OnnxNode[] => [
    onnxNode("shape", "Shape", [of]),
    onnxNode("size", "Gather", ["shape", "three"]),
    cast("c", "size", "float32"),
  ];
  const constants = {
    ...{ zero: whole(0n), one: whole(1n), eight: whole(8n), three: { ...whole(3n), shape: [] } },
    ones: { dtype: "int64", shape: [3], data: BigInt64Array.of(1n, 1n, 1n) },
    zeros: { ...floats(0, 0), shape: [1, 2, 1] },
    both: { dtype: "int64", shape: [2], data: BigInt64Array.of(0n, 2n) },
  } as const;

  it.each<[string, (x: string) => readonly OnnxNode[]]>([
    ["a sum's", (x) => [...tiled(x), onnxNode("sum", "Add", ["pooled", "tiled"]), ...size("sum")]],
    [
      "an Expand's",
      (x) => [
        ...tiled(x),
        onnxNode("to", "Shape", ["tiled"]),
        onnxNode("wide", "Expand", ["pooled", "to"]),
        onnxNode("active", "Relu", ["wide"]),
        ...size("active"),
      ],
    ],
    [
      "a constant's, squeezed by axes that follow from sizes",
      (x) => [
        ...tiled(x).slice(1, 6),
        onnxNode("end", "Add", ["one", "k"]),
        onnxNode("axes", "Slice", ["both", "zero", "end"]),
        onnxNode("squeezed", "Squeeze", ["zeros", "axes"]),
        onnxNode("rank", "Shape", ["squeezed"]),
        onnxNode("size", "Size", ["rank"]),
        cast("c", "size", "float32"),
      ],
    ],
    ["a pooled map's, though it is 1", (x) => [...tiled(x).slice(0, 1), ...size("pooled")]],
  ])("is not taken for a constant: %s", async (_, nodes) => {
    const { faults } = await judged((x, y) => [...nodes(x), ...timesC(x, y)], constants);
    expect(faults[0]).toMatchObject({ kind: "structure", layer: RELU });
  });
});

it("a reference model is asked for its constants too", async () => {
  const whole = onnxNode("whole", "Constant", [], { value_int: int(2 ** 62) });
  const bytes = fileOf(
    (x, y) => [
      whole,
      cast("large", "whole", "float32"),
      onnxNode("c", "Mul", ["large", "small"]),
      ...timesC(x, y),
    ],
    { small: floats(2 ** -63) },
  );
  const verification = await openVerification(
    { name: "m.onnx", bytes: CONVERTED },
    { name: "r.onnx", bytes },
    { size: SMALL },
  );
  await expect(verify(verification)).rejects.toMatchObject({
    code: "unsupported",
    problem: { subject: "r.onnx" },
  });
});

/** What is always true of x, to a reader that rounds otherwise than the runtime, and then chooses the ReLU. */
const ifTrue = (x: string, y: string): readonly OnnxNode[] => [
  onnxNode("active", "Relu", [x]),
  onnxNode(y, "Where", ["truth", "active", x]),
];

describe("a truth about an activation", () => {
  it.each<[string, (x: string) => readonly OnnxNode[], Readonly<Record<string, Tensor>>]>([
    [
      "by whole numbers that are dequantised",
      (x) => [
        onnxNode("positive", "Greater", [x, "zero"]),
        cast("bits", "positive", "uint8"),
        onnxNode("taken", "DequantizeLinear", ["bits", "two", "none"]),
        cast("given", "positive", "float32"),
        onnxNode("truth", "Equal", ["taken", "given"]),
      ],
      {
        zero: floats(0),
        two: { ...floats(2), shape: [] },
        none: { dtype: "uint8", shape: [], data: Uint8Array.of(0) },
      },
    ],
    [
      "by factors that float32 does not have",
      (x) => [
        cast("wide", x, "float64"),
        onnxNode("product", "Mul", ["wide", "factor"]),
        onnxNode("sum", "Add", ["wide", "wide"]),
        onnxNode("truth", "Equal", ["product", "sum"]),
      ],
      { factor: doubles(2 * (1 + 2 ** -40)) },
    ],
    [
      "by quotients that round to one",
      (x) => [onnxNode("quotient", "Div", [x, "near"]), onnxNode("truth", "Equal", ["quotient", x])],
      { near: floats(1 - 2 ** -24) },
    ],
  ])("is not read as one if the runtime computes another: %s", async (_, nodes, constants) => {
    const { faults } = await judged((x, y) => [...nodes(x), ...ifTrue(x, y)], constants);
    expect(faults[0]).toMatchObject({ kind: "structure" });
  });
});

describe("what is calculated from a size", () => {
  it("is not compared with −1, which it may be for another number of images", async () => {
    const list = (...values: readonly number[]): Tensor => ({
      dtype: "int64",
      shape: [values.length],
      data: BigInt64Array.from(values, BigInt),
    });
    const { faults } = await judged(
      (x, y) => [
        onnxNode("shape", "Shape", ["images"]),
        onnxNode("count", "Gather", ["shape", "first"]),
        onnxNode("less", "Sub", ["count", "six"]),
        onnxNode("sizes", "Concat", ["six", "six", "less", "less"], { axis: int(0) }),
        onnxNode("equal", "Equal", ["sizes", "wanted"]),
        onnxNode("target", "Where", ["equal", "turned", "kept"]),
        onnxNode("same", "Reshape", [x, "target"]),
        onnxNode(y, "Relu", ["same"]),
      ],
      {
        first: list(0),
        six: list(6),
        wanted: list(8, 8, -1, -1),
        turned: list(0, 0, 8, 16),
        kept: list(0, 0, 16, 8),
      },
    );
    expect(faults[0]).toMatchObject({ kind: "structure" });
  });
});

describe("a Dropout", () => {
  it("whose training mode is computed from no sizes is one in training", async () => {
    const mode: Tensor = { dtype: "bool", shape: [1], data: Uint8Array.of(1) };
    const { passed } = await judged(
      (x, y) => [
        onnxNode("mode", "ConstantOfShape", ["sizes"], { value: { type: "tensor", value: mode } }),
        onnxNode("dropped", "Dropout", [x, "ratio", "mode"]),
        onnxNode(y, "Relu", ["dropped"]),
      ],
      {
        sizes: { dtype: "int64", shape: [0], data: new BigInt64Array() },
        ratio: { ...floats(0.5), shape: [] },
      },
    );
    expect(passed).toBe(false);
  });
});

describe("a constant that is computed in a graph model", () => {
  const listOf = (size: number): ReadonlyMap<string, TfjsAttribute> => {
    const tensor = { dtype: "DT_FLOAT", tensorShape: { dim: [{ size: String(size) }] } };
    return new Map<string, TfjsAttribute>([
      ["dtype", { type: "dtype", value: "DT_FLOAT" }],
      ["value", { type: "other", value: { tensor } }],
    ]);
  };
  const images = seededImages(0, 1, SMALL.height, SMALL.width);
  const model = lowerToTfjs(checkpoint.graph, checkpoint.stateDict, { size: SMALL });
  const files = encodeTfjs({
    ...model,
    nodes: [
      ...model.nodes,
      { name: "one", op: "Const", inputs: [], attributes: listOf(1) },
      { name: "c", op: "Neg", inputs: ["one"], attributes: new Map() },
      { name: "two", op: "Const", inputs: [], attributes: listOf(2) },
      { name: "roots", op: "Rsqrt", inputs: ["two"], attributes: new Map() },
    ],
    weights: new Map([
      ...model.weights,
      ["one", { tensor: floats(1) }],
      ["two", { tensor: floats(0.25, 1 / 3) }],
    ]),
  });
  const backend = tfjsBackend(
    "tfjs-cpu",
    { files, outputs: 1, tapped: { files, input: "images" }, nodes: new Map([["one", "one"]]) },
    "model.json",
  );
  const run = async (computed: Tensor, name = "c", tolerance = 2 ** -20): Promise<void> => {
    const checked = withComputed(backend, new Map([[name, computed]]), "model.json", tolerance);
    for await (const _ of checked.run(images));
  };

  it("may be what it was read as", () => run(floats(-1)));

  it("may be a list that the runtime rounds otherwise", async () => {
    const [close, other] = [
      floats(2, Math.sqrt(3) * (1 + 2 ** -22)),
      floats(2, Math.sqrt(3) * (1 + 2 ** -18)),
    ];
    await run(close, "roots");
    await expect(run(close, "roots", 0)).rejects.toMatchObject({ code: "unsupported" });
    await expect(run(other, "roots")).rejects.toMatchObject({ code: "unsupported" });
  });

  it.each([1, -1 - 2 ** -23])("and is another number in the runtime is refused: %s", (number) =>
    expect(run(floats(number))).rejects.toMatchObject({
      code: "unsupported",
      message: expect.stringContaining('the constant "c", whose values in tfjs-cpu differ from those'),
    }),
  );
});
