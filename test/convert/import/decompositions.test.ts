import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import type { OnnxModel, OnnxNode } from "../../../src/convert/formats/onnx/model.js";
import { type GraphMatch, matchGraph } from "../../../src/convert/import/match.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { float32, GRAPH, STATE } from "../export/graphs.js";
import { anonymous, inputOf, ints, operator, replaceNode, withConstants } from "./graphs.js";

/** Operations of several operators that are not what belongs in their place: by what name, and for what reason. */

const MODEL = lowerToOnnx(GRAPH, STATE, { size: { height: 32, width: 16 }, fold: false });

const NUMBERS: Readonly<Record<string, Tensor>> = {
  ...Object.fromEntries(
    [0.044715, 0.5, 1, 1e-5, 2, 3, 6].map((value) => [String(value), float32([], [value])] as const),
  ),
  root2: float32([], [Math.SQRT2]),
  rootPi: float32([], [Math.sqrt(2 / Math.PI)]),
  zero: float32([], [0]),
  // Broadcasts along the width.
  row: float32([16], Array(16).fill(2)),
  vector: float32(
    [1, 16, 1, 1],
    Array.from({ length: 16 }, (_, at) => 1e-5 * at),
  ),
};

/** One step: its value, its operator, and what it reads, where `x` is the layer's input. */
type Step = readonly [value: string, opType: string, inputs: readonly string[], axes?: readonly number[]];

function written(layer: string, steps: readonly Step[]): GraphMatch {
  const nodes = (own: OnnxNode): readonly OnnxNode[] =>
    steps.map(([value, opType, inputs, axes], at) =>
      operator(
        opType,
        inputs.map((name) => (name === "x" ? inputOf(own) : name)),
        at === steps.length - 1 ? layer : value,
        axes ? { axes: ints(...axes) } : {},
      ),
    );
  const model: OnnxModel = withConstants(replaceNode(MODEL, layer, nodes), NUMBERS);
  return matchGraph(anonymous(model), { subject: "theirs.onnx", graph: GRAPH });
}

const NORM = "conv2.0.IN";
const steps: readonly Step[] = [
  ["mean", "ReduceMean", ["x"], [2, 3]],
  ["centred", "Sub", ["x", "mean"]],
  ["squared", "Mul", ["centred", "centred"]],
  ["variance", "ReduceMean", ["squared"], [2, 3]],
  ["stable", "Add", ["variance", "0.00001"]],
  ["deviation", "Sqrt", ["stable"]],
  ["normed", "Div", ["centred", "deviation"]],
];

/** The steps of an instance norm with some of them changed. */
function norm(changes: Readonly<Record<string, readonly Step[]>>): readonly Step[] {
  return steps.flatMap((step) => changes[step[0]] ?? [step]);
}

describe("what is nearly an operation says what is different", () => {
  it.each<readonly [part: string, layer: string, steps: readonly Step[]]>([
    [
      "a mean over other axes",
      NORM,
      norm({
        mean: [["mean", "ReduceMean", ["x"], [3]]],
        variance: [["variance", "ReduceMean", ["squared"], [3]]],
      }),
    ],
    ["a mean over other axes", NORM, norm({ variance: [["variance", "ReduceMean", ["squared"], [3]]] })],
    [
      "a mean of another value",
      NORM,
      norm({
        mean: [
          ["other", "Tanh", ["x"]],
          ["mean", "ReduceMean", ["other"], [2, 3]],
        ],
      }),
    ],
    [
      "an epsilon that is not one number",
      NORM,
      norm({ stable: [["stable", "Add", ["variance", "vector"]]] }),
    ],
    [
      "a computed epsilon",
      NORM,
      norm({
        stable: [
          ["epsilon", "Abs", ["variance"]],
          ["stable", "Add", ["variance", "epsilon"]],
        ],
      }),
    ],
    [
      "a weight that is not one number per channel",
      NORM,
      norm({
        normed: [
          ["scale", "Div", ["row", "deviation"]],
          ["normed", "Mul", ["centred", "scale"]],
        ],
      }),
    ],
    ["a power other than a square root", NORM, norm({ deviation: [["deviation", "Pow", ["stable", "3"]]] })],
    [
      "a constant other than 1",
      "conv2.0.gate[1].gate_activation",
      [
        ["negative", "Neg", ["x"]],
        ["power", "Exp", ["negative"]],
        ["sum", "Add", ["power", "2"]],
        ["inverse", "Reciprocal", ["sum"]],
      ],
    ],
  ])("%s", (part, layer, changed) => {
    const { differences } = written(layer, changed);
    expect(differences.map((each) => each.layer)).toEqual([layer]);
    expect(differences[0]?.found).toMatch(new RegExp(`\\w with ${part}$`));
  });

  it("says nothing if two parts differ, or if it is right", () => {
    expect(written(NORM, steps).differences).toEqual([]);
    const both = norm({
      variance: [["variance", "ReduceMean", ["squared"], [3]]],
      deviation: [["deviation", "Pow", ["stable", "3"]]],
    });
    expect(written(NORM, both).differences[0]?.found).not.toContain("with");
  });
});

const RELU = "conv1.relu";

describe("an activation that no OSNet has is one operator", () => {
  it.each<readonly [opType: string, steps: readonly Step[]]>([
    [
      "Gelu",
      [
        ["scaled", "Div", ["x", "root2"]],
        ["erf", "Erf", ["scaled"]],
        ["sum", "Add", ["erf", "1"]],
        ["product", "Mul", ["x", "sum"]],
        ["y", "Mul", ["product", "0.5"]],
      ],
    ],
    [
      "Gelu",
      [
        ["half", "Mul", ["x", "0.5"]],
        ["cube", "Pow", ["x", "3"]],
        ["part", "Mul", ["cube", "0.044715"]],
        ["whole", "Add", ["x", "part"]],
        ["scaled", "Mul", ["whole", "rootPi"]],
        ["tanh", "Tanh", ["scaled"]],
        ["sum", "Add", ["1", "tanh"]],
        ["y", "Mul", ["half", "sum"]],
      ],
    ],
    [
      "HardSigmoid",
      [
        ["sum", "Add", ["x", "3"]],
        ["clipped", "Clip", ["sum", "zero", "6"]],
        ["y", "Div", ["clipped", "6"]],
      ],
    ],
    [
      "HardSigmoid",
      [
        ["scaled", "Div", ["x", "6"]],
        ["sum", "Add", ["scaled", "0.5"]],
        ["y", "Clip", ["sum", "zero", "1"]],
      ],
    ],
    [
      "HardSwish",
      [
        ["sum", "Add", ["x", "3"]],
        ["clipped", "Clip", ["sum", "zero", "6"]],
        ["product", "Mul", ["x", "clipped"]],
        ["y", "Div", ["product", "6"]],
      ],
    ],
    [
      "Swish",
      [
        ["gate", "Sigmoid", ["x"]],
        ["y", "Mul", ["x", "gate"]],
      ],
    ],
    [
      "Mish",
      [
        ["softplus", "Softplus", ["x"]],
        ["tanh", "Tanh", ["softplus"]],
        ["y", "Mul", ["x", "tanh"]],
      ],
    ],
  ])("%s", (opType, activation) => {
    expect(written(RELU, activation).differences).toEqual([
      { layer: RELU, found: opType, expected: "a ReLU" },
    ]);
  });
});

describe("a division by what is nearly the L2 norm", () => {
  it.each<readonly [part: string | undefined, steps: readonly Step[]]>([
    [undefined, [["length", "ReduceL2", ["x"], [1]]]],
    ["a length over other axes", [["length", "ReduceL2", ["x"], [0, 1]]]],
    [
      "a length of at least 3",
      [
        ["norm", "ReduceL2", ["x"], [1]],
        ["length", "Max", ["norm", "3"]],
      ],
    ],
    [
      "the length of another value",
      [
        ["other", "Tanh", ["x"]],
        ["length", "ReduceL2", ["other"], [1]],
      ],
    ],
  ])("has %s", (part, length) => {
    const { outputs } = written("fc.2", [["y", "Relu", ["x"]]]);
    expect(outputs).toHaveLength(1);
    const model = replaceNode(MODEL, "fc.2", (own) => [
      { ...own, outputs: ["before"] },
      ...length.map(([value, opType, inputs, axes]) =>
        operator(
          opType,
          inputs.map((name) => (name === "x" ? "before" : name)),
          value,
          axes ? { axes: ints(...axes) } : {},
        ),
      ),
      operator("Div", ["before", "length"], "fc.2"),
    ]);
    const match = matchGraph(anonymous(withConstants(model, NUMBERS)), {
      subject: "theirs.onnx",
      graph: GRAPH,
    });
    expect(match.outputs.map((output) => [output.operations !== undefined, output.part])).toEqual([
      [part === undefined, part],
    ]);
  });
});
