import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import { int, ints, type OnnxModel, type OnnxNode, onnxNode } from "../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../src/convert/import/match.js";
import { decodeWeights } from "../../src/convert/open/checkpoint.js";
import type { Tensor } from "../../src/core/tensor.js";
import { anonymous } from "../convert/import/graphs.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { temporaryFolder } from "../support/folder.js";
import { convert } from "../support/osnet.js";
import { refusal, run } from "./command.js";

/** Models that compute more than the network: what a conversion refuses, keeps, and leaves out when it is told to. */

const MODEL = anonymous(
  decodeOnnx(convert(tinyCheckpoint("block"), { size: { height: 64, width: 32 } }), { subject: "m.onnx" }),
);
const [{ name: EMBEDDING } = { name: "" }] = MODEL.graph.outputs;

/** The file with more nodes behind its embedding, and other outputs. */
function behind(
  nodes: readonly OnnxNode[],
  outputs: readonly string[],
  constants: Readonly<Record<string, Tensor>> = {},
): Uint8Array {
  const { graph } = MODEL;
  const model: OnnxModel = {
    ...MODEL,
    graph: {
      ...graph,
      nodes: [...graph.nodes, ...nodes],
      outputs: outputs.map((name) => ({ name })),
      initializers: new Map([...graph.initializers, ...Object.entries(constants)]),
    },
  };
  return encodeOnnx(model);
}

const two: Tensor = { dtype: "float32", shape: [], data: Float32Array.of(2) };
const DOUBLED = behind([onnxNode("doubled", "Mul", [EMBEDDING, "two"])], ["doubled"], { two });
const NEGATED = behind([onnxNode("minus", "Neg", [EMBEDDING])], ["minus", EMBEDDING]);

describe("a model that computes more than the network", () => {
  it.each([
    ["onnx2onnx", DOUBLED],
    ["onnx2tfjs", DOUBLED],
    ["onnx2pth", DOUBLED],
    ["onnx2onnx", NEGATED],
  ] as const)("is not converted by %s without a word", async (command, bytes) => {
    const args = [command, "m.onnx", "-o", "out", "--no-verify"];
    expect(await refusal("osnet-convert", args, { "m.onnx": bytes })).toMatch(/--drop-extra/);
  });

  it("is converted with --drop-extra, which lists what was dropped", async () => {
    const folder = await temporaryFolder({ "m.onnx": NEGATED });
    const args = ["onnx2onnx", "m.onnx", "-o", "out.onnx", "--size", "64x32", "--drop-extra"];
    const { status, stdout } = await run("osnet-convert", args, { cwd: folder.path });
    expect(status).toBe(0);
    expect(stdout.toString()).toMatch(/dropped: .*minus/);
    const { graph } = decodeOnnx(await folder.read("out.onnx"), { subject: "out" });
    expect(graph.outputs.map(({ name }) => name)).toEqual(["features"]);
  });

  it("gives its weights where only another output has more", async () => {
    const extra = behind(
      [],
      [EMBEDDING, MODEL.graph.nodes.find(({ opType }) => opType === "Relu")?.outputs[0] ?? ""],
    );
    const folder = await temporaryFolder({ "m.onnx": extra });
    const { status } = await run("osnet-convert", ["onnx2npz", "m.onnx", "--no-verify"], {
      cwd: folder.path,
    });
    expect(status).toBe(0);
    expect(decodeWeights(await folder.read("m.npz"), { subject: "m", format: "npz" }).stateDict.size).toBe(
      // All but the classifier's.
      tinyCheckpoint("block").stateDict.size - 2,
    );
  });
});

describe("a division by the L2 norm", () => {
  const tiny: Tensor = { dtype: "float32", shape: [], data: Float32Array.of(1e-6) };
  const UNIT = behind(
    [
      onnxNode("length", "ReduceL2", [EMBEDDING], { axes: ints(1), keepdims: int(1) }),
      onnxNode("stable", "Add", ["length", "tiny"]),
      onnxNode("unit", "Div", [EMBEDDING, "stable"]),
    ],
    ["unit"],
    { tiny },
  );

  it("is kept by onnx2onnx, with what keeps the norm from being zero", async () => {
    const folder = await temporaryFolder({ "m.onnx": UNIT });
    const args = ["onnx2onnx", "m.onnx", "-o", "out.onnx", "--size", "64x32"];
    expect(await run("osnet-convert", args, { cwd: folder.path })).toMatchObject({ status: 0, stderr: "" });
    const model = decodeOnnx(await folder.read("out.onnx"), { subject: "out" });
    expect(matchGraph(model, { subject: "out" }).outputs).toMatchObject([
      {
        name: "features",
        operations: [
          { kind: "l2Normalize", floors: [{ of: "length", how: "sum", epsilon: Math.fround(1e-6) }] },
        ],
      },
    ]);
  });

  it("is noted where weights are written, and refused for layers models, which have none", async () => {
    const folder = await temporaryFolder({ "m.onnx": UNIT });
    const weights = await run("osnet-convert", ["onnx2npz", "m.onnx", "--no-verify"], { cwd: folder.path });
    expect(weights.stdout.toString()).toMatch(/dropped: l2Normalize/);
    const layers = ["onnx2tfjs", "m.onnx", "--tfjs-format", "layers", "--no-verify"];
    expect(await refusal("osnet-convert", layers, { "m.onnx": UNIT })).toMatch(/--drop-extra/);
  });
});
