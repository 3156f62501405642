import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import type { OnnxModel, OnnxNode } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import { withoutBranches } from "../../../src/convert/import/passes.js";
import { onnxruntimeBackend } from "../../../src/verify/backends/onnxruntime.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { float32, GRAPH, STATE } from "../export/graphs.js";
import { branch, branched, HOLDS_NOT } from "./branched.js";
import { expectExact } from "./expect-exact.js";
import { inputOf, int64, operator, replaceNode, withAttribute, withConstants } from "./graphs.js";

/** What the dynamo exporter of torch 2.1 writes: functions that choose by the rank of what they are given. */

const SIZE = { height: 32, width: 16 };
const MODEL = lowerToOnnx(GRAPH, STATE, { size: SIZE, output: "both", fold: false, opset: 17 });
const SUBJECT = { subject: "theirs.onnx" };

const BRANCHED = branched(MODEL);

/** An instance norm as PyTorch computes it: a batch norm by the statistics of one image of N·C channels. */
function asTrainingNorm(model: OnnxModel, to: readonly number[] = [1, 32, 8, 4]): OnnxModel {
  const changed = replaceNode(model, "conv2.0.IN", (node) => [
    operator("Tile", ["conv2.0.IN.weight", "two"], "weights"),
    operator("Tile", ["conv2.0.IN.bias", "two"], "biases"),
    operator("Reshape", [inputOf(node), "merged"], "one"),
    withAttribute(
      operator("BatchNormalization", ["one", "weights", "biases", "means", "means"], "normed", {
        epsilon: { type: "float", value: 1e-5 },
      }),
      "training_mode",
      { type: "int", value: 1 },
    ),
    operator("Reshape", ["normed", "apart"], "again"),
    // In place, the exporter says, and so reshapes what it has reshaped.
    operator("Reshape", ["again", "merged"], "to"),
    operator("Reshape", ["to", "apart"], "conv2.0.IN"),
  ]);
  return withConstants(changed, {
    ...{ two: int64(2), merged: int64(...to), apart: int64(2, 16, 8, 4) },
    means: float32([32], Array<number>(32).fill(0)),
  });
}

describe("matchGraph reads what an exporter lets the runtime choose", () => {
  it.each<[string, OnnxModel]>([
    ["branches that the rank decides", BRANCHED],
    ["an instance norm as a batch norm of one image", asTrainingNorm(MODEL)],
    [
      "a sum that begins with alpha times 0",
      withConstants(
        replaceNode(MODEL, "conv2.0.aggregate", (node) => [
          operator("Mul", ["nought", "alpha"], "scaled"),
          operator("Add", [inputOf(node), "scaled"], "first"),
          { ...node, inputs: ["first", ...node.inputs.slice(1)] },
        ]),
        { nought: { ...int64(0), shape: [] }, alpha: float32([], [1]) },
      ),
    ],
  ])("%s", (_, model) => {
    expectExact(model, GRAPH, STATE);
  });

  it("and finds the values that are outputs of the branches' own node", () => {
    const { values, folded } = matchGraph(BRANCHED, { ...SUBJECT, graph: GRAPH });
    expect(folded.size).toBe(0);
    expect(values.get("conv1.conv")).toBe("conv1.conv.sum");
    expect(values.get("conv1.relu")).toBe("conv1.relu");
  });

  it("what is inside a branch is no value of the file", () => {
    const norms = MODEL.graph.nodes.filter(({ outputs }) => outputs[0] === "conv4.bn");
    const model = replaceNode(
      replaceNode(MODEL, "conv4.bn", () => []),
      "conv4.relu",
      () => [
        operator("If", ["no"], "conv4.relu", {
          then_branch: branch("t", operator("Tan", ["conv4.conv"], "t")),
          else_branch: branch("e", ...norms, operator("Relu", ["conv4.bn"], "e")),
        }),
      ],
    );
    const given = withConstants(model, { no: HOLDS_NOT });
    const match = matchGraph(given, { ...SUBJECT, graph: GRAPH });
    expect(match.differences).toEqual([]);
    expect([...match.folded]).toEqual(["conv4.bn"]);
    expect(match.values.get("conv4.relu")).toBe("conv4.relu");
  });

  it("a batch norm over two different images is not a batch norm of one", () => {
    const { differences } = matchGraph(asTrainingNorm(MODEL, [2, 16, 4, 8]), { ...SUBJECT, graph: GRAPH });
    expect(differences.map(({ layer }) => layer)).toContain("conv2.0.IN");
  });

  it("the other branch where the condition says so", () => {
    const model = withConstants(BRANCHED, { no: { ...HOLDS_NOT, data: Uint8Array.of(1) } });
    // Transposed convolutions of every pixel, which are convolutions without the paddings and strides of the others.
    const { differences } = matchGraph(model, { ...SUBJECT, graph: GRAPH });
    expect(differences[0]).toMatchObject({
      layer: "conv1.conv",
      found: expect.stringContaining("stride [1, 1]"),
    });
  });

  it("and says so where only the run decides", () => {
    const { graph } = BRANCHED;
    const initializers = new Map(graph.initializers);
    initializers.delete("no");
    const nodes = [operator("Tan", ["images"], "no"), ...graph.nodes];
    const model = { ...BRANCHED, graph: { ...graph, nodes, initializers } };
    expect(() => matchGraph(model, { ...SUBJECT, graph: GRAPH })).toThrow(
      /^theirs\.onnx: found another network of 0 Conv, .*, with \d+ data-dependent If nodes, expected an OSNet/,
    );
  });
});

describe("withoutBranches", () => {
  /** The last ReLU of a network inside branches inside each other, where names are those of other values. */
  const nested = (...inner: readonly OnnxNode[]): OnnxModel => {
    const model = replaceNode(MODEL, "conv4.relu", (node) => [
      operator("If", ["no"], "conv4.relu", {
        then_branch: branch("x", operator("Tan", [inputOf(node)], "x")),
        else_branch: branch(
          "y",
          operator("Identity", [inputOf(node)], "x"),
          operator("If", ["no"], "y", {
            then_branch: branch("t", operator("Tan", ["x"], "t")),
            else_branch: branch("r", ...inner, operator("Relu", ["x"], "r")),
          }),
        ),
      }),
    ]);
    return withConstants(model, { no: HOLDS_NOT });
  };
  const runs = async (model: OnnxModel) => {
    // Optimised, the two would be fused otherwise, and round otherwise.
    const options = { optimised: false };
    const outputs = model.graph.outputs.map(({ name }, index) => ({ name, index }));
    const loaded = onnxruntimeBackend({ bytes: encodeOnnx(model) }, model, [], "theirs.onnx").load(
      outputs,
      options,
    );
    const [result] = await loaded.run(seededImages(0, 2, 32, 16));
    await loaded.release();
    return result;
  };

  /** What the runtime decides, as numbers. */
  const decisions = async (model: OnnxModel | undefined): Promise<readonly number[]> => {
    if (!model) return [];
    const names = model.graph.outputs.map(({ name }) => name);
    const found: number[] = [];
    const backend = onnxruntimeBackend({ bytes: encodeOnnx(model) }, model, names, "theirs.onnx");
    for await (const { tensor } of backend.run(seededImages(0, 2, 32, 16))) found.push(...tensor.data);
    return found;
  };

  it.each<[string, OnnxModel]>([
    ["of every convolution", BRANCHED],
    ["inside each other", nested()],
    [
      "of several nodes without names",
      withConstants(
        replaceNode(MODEL, "conv4.relu", (node) => [
          operator("If", ["no"], "conv4.relu", {
            then_branch: branch("t", operator("Tan", [inputOf(node)], "t")),
            else_branch: branch(
              "e",
              operator("Identity", [inputOf(node)], "a"),
              operator("Identity", ["a"], "b"),
              operator("Relu", ["b"], "e"),
            ),
          }),
        ]),
        { no: HOLDS_NOT },
      ),
    ],
  ])("the same network, for matching and for a runtime: %s", async (_, model) => {
    const { model: flat, conditions } = withoutBranches(model, "theirs.onnx");
    expect(await decisions(conditions?.model)).toEqual(
      [...(conditions?.values ?? [])].map(([, isTrue]) => Number(isTrue)),
    );
    // Neither branches, nor what they were chosen by.
    const left = flat.graph.nodes.filter(({ opType }) => ["If", "Equal", "Not", "Size"].includes(opType));
    expect(left).toEqual([]);
    expectExact(flat, GRAPH, STATE);
    expect(await runs(flat)).toEqual(await runs(model));
  });

  it("has what was inside as values of its own", () => {
    const { model: flat } = withoutBranches(BRANCHED, "theirs.onnx");
    const { values } = matchGraph(flat, { ...SUBJECT, graph: GRAPH });
    const computed = new Set(flat.graph.nodes.flatMap(({ outputs }) => outputs));
    for (const value of values.values()) expect(computed).toContain(value);
  });

  it("is the model itself where nothing is decided beforehand; a graph that stays inside a branch is refused", () => {
    expect(withoutBranches(MODEL, "theirs.onnx").model).toBe(MODEL);
    const open = operator("If", ["maybe"], "z", {
      then_branch: branch("z1", operator("Tan", ["x"], "z1")),
      else_branch: branch("z2", operator("Relu", ["x"], "z2")),
    });
    const model = nested(operator("Cast", ["x"], "maybe"), open);
    expect(() => withoutBranches(model, "theirs.onnx")).toThrow(
      expect.objectContaining({ problem: expect.objectContaining({ code: "unsupported" }) }),
    );
  });
});
