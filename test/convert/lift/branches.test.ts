import { describe, expect, it } from "vitest";
import { expand } from "../../../src/arch/expand.js";
import type { OnnxAttribute, OnnxModel, OnnxNode } from "../../../src/convert/formats/onnx/index.js";
import { liftStateDict, matchGraph } from "../../../src/convert/lift/index.js";
import { lowerToOnnx } from "../../../src/convert/lower/onnx/index.js";
import type { Tensor } from "../../../src/tensor.js";
import { float32, parametersFor, SMALL_SPEC } from "../lower/graphs.js";
import { anonymous, operator, replaceNode, withAttribute, withConstants } from "./graphs.js";

/** What the dynamo exporter of torch 2.1 writes: functions that choose by the rank of what they are given. */

const GRAPH = expand(SMALL_SPEC);
const STATE = parametersFor(GRAPH);
const SIZE = { height: 32, width: 16 };
const MODEL = lowerToOnnx(GRAPH, STATE, { size: SIZE, output: "both", fold: false, opset: 17 });
const SUBJECT = { subject: "theirs.onnx" };

const int64 = (...values: readonly number[]): Tensor => ({
  dtype: "int64",
  shape: values.length === 1 ? [] : [values.length],
  data: BigInt64Array.from(values, BigInt),
});
const list = (...values: readonly number[]): Tensor => ({ ...int64(...values), shape: [values.length] });
const input = ({ inputs }: OnnxNode): string => inputs[0] ?? "";

function branch(result: string, ...nodes: readonly OnnxNode[]): OnnxAttribute {
  const value = {
    name: "",
    inputs: [],
    outputs: [{ name: result }],
    nodes,
    initializers: new Map<string, Tensor>(),
  };
  return { type: "graph", value };
}

/** An `If` that hands `value` on where `condition` does not hold, and else what no network has. */
function unless(condition: string, value: string, output: string): OnnxNode {
  return operator("If", [condition], output, {
    then_branch: branch(`${output}.then`, operator("Tan", [value], `${output}.then`)),
    else_branch: branch(`${output}.else`, operator("Identity", [value], `${output}.else`)),
  });
}

/** Whether a value has another rank than 4, as `${name}.other`. */
function otherRank(value: string, name: string): readonly OnnxNode[] {
  return [
    operator("Shape", [value], `${name}.shape`),
    operator("Size", [`${name}.shape`], `${name}.rank`),
    operator("Equal", [`${name}.rank`, "four"], `${name}.same`),
    operator("Not", [`${name}.same`], `${name}.other`),
  ];
}

/** A convolution as `aten_convolution` has it: of images that may lack their batch, and transposed or not. */
function atenConvolution(node: OnnxNode): readonly OnnxNode[] {
  const [output = ""] = node.outputs;
  const batched = `${output}.batched`;
  return [
    ...otherRank(input(node), output),
    unless(`${output}.other`, input(node), batched),
    operator("If", ["no"], `${output}.sum`, {
      then_branch: branch("t", operator("ConvTranspose", [batched, ...node.inputs.slice(1)], "t")),
      else_branch: branch("e", { ...node, inputs: [batched, ...node.inputs.slice(1)], outputs: ["e"] }),
    }),
    unless(`${output}.other`, `${output}.sum`, output),
  ];
}

const convolutions = GRAPH.nodes.flatMap(({ name, op }) => (op.kind === "conv" ? [name] : []));
const BRANCHED = withConstants(
  convolutions.reduce((model, name) => replaceNode(model, name, atenConvolution), MODEL),
  { four: int64(4), no: { dtype: "bool", shape: [], data: Uint8Array.of(0) } },
);

/** An instance norm as PyTorch computes it: a batch norm by the statistics of one image of N·C channels. */
function asTrainingNorm(model: OnnxModel, to: readonly number[] = [1, 32, 8, 4]): OnnxModel {
  const changed = replaceNode(model, "conv2.0.IN", (node) => [
    operator("Tile", ["conv2.0.IN.weight", "two"], "weights"),
    operator("Tile", ["conv2.0.IN.bias", "two"], "biases"),
    operator("Reshape", [input(node), "merged"], "one"),
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
    ...{ two: list(2), merged: list(...to), apart: list(2, 16, 8, 4) },
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
          operator("Add", [input(node), "scaled"], "first"),
          { ...node, inputs: ["first", ...node.inputs.slice(1)] },
        ]),
        { nought: int64(0), alpha: float32([], [1]) },
      ),
    ],
  ])("%s", (_, model) => {
    const match = matchGraph(anonymous(model), { ...SUBJECT, graph: GRAPH });
    expect(match.differences).toEqual([]);
    const { stateDict, reparameterised } = liftStateDict(match, SUBJECT);
    expect(reparameterised).toEqual([]);
    for (const [path, tensor] of stateDict) expect(tensor, path).toEqual(STATE.get(path));
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
    const given = withConstants(model, { no: { dtype: "bool", shape: [], data: Uint8Array.of(0) } });
    const match = matchGraph(given, { ...SUBJECT, graph: GRAPH });
    expect(match.differences).toEqual([]);
    expect([...match.folded]).toEqual(["conv4.bn"]);
    expect(match.values.get("conv4.relu")).toBe("conv4.relu");
  });

  it("a batch norm of two images that are not one is none", () => {
    const { differences } = matchGraph(asTrainingNorm(MODEL, [2, 16, 4, 8]), { ...SUBJECT, graph: GRAPH });
    expect(differences.map(({ layer }) => layer)).toContain("conv2.0.IN");
  });

  it("the other branch where the condition says so", () => {
    const model = withConstants(BRANCHED, {
      no: { dtype: "bool", shape: [], data: Uint8Array.of(1) },
    });
    expect(() => matchGraph(model, { ...SUBJECT, graph: GRAPH })).toThrow(/another network of 0 Conv/);
  });
});
