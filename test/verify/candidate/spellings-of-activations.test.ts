import { float, int, ints, type OnnxNode, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { floats, type OnnxEdit, replaced, scalar } from "../../mutation/onnx-edits.js";
import { at, behind, type Pair, pair, testPairs, upTo } from "./spelling-pairs.js";

/** Activations, and what has no effect behind one, in other words (spelling-pairs.ts). */

const RELU = "conv2.0.conv2b.0.relu";
const relu = <T>(name: string, numbers: readonly [T, T], edit: (number: T) => OnnxEdit): Pair =>
  pair(RELU, name, numbers, edit);

const double = (value: number): Tensor => ({
  dtype: "float64",
  shape: [],
  data: Float64Array.of(value),
});

/** Products of a value with constants, one after the other. */
function chain(x: string, y: string, factors: readonly string[]): readonly OnnxNode[] {
  return factors.map((factor, index) =>
    onnxNode(index === factors.length - 1 ? y : `product.${index}`, "Mul", [
      index === 0 ? x : `product.${index - 1}`,
      factor,
    ]),
  );
}

const SIGMOID = "conv2.0.gate[2].gate_activation";
const sigmoid = (
  name: string,
  numbers: readonly [number, number],
  nodes: (x: string, y: string) => readonly OnnxNode[],
): Pair =>
  pair(
    SIGMOID,
    name,
    numbers,
    (k) => at(SIGMOID, nodes, { k: scalar(k), half: scalar(0.5), one: scalar(1) }),
    {
      twin: "structural",
    },
  );

const SIGMOIDS: readonly Pair[] = [
  sigmoid("½ + tanh(x / 2) / 2", [0.5, 0.25], (x, y) => [
    onnxNode("a", "Mul", [x, "k"]),
    onnxNode("b", "Tanh", ["a"]),
    onnxNode("c", "Mul", ["b", "half"]),
    onnxNode(y, "Add", ["half", "c"]),
  ]),
  sigmoid("(1 + tanh(x / 2)) / 2", [2, 3], (x, y) => [
    onnxNode("a", "Mul", [x, "half"]),
    onnxNode("b", "Tanh", ["a"]),
    onnxNode("c", "Add", ["b", "one"]),
    onnxNode(y, "Div", ["c", "k"]),
  ]),
];

/** A stream and its gate in one quotient. */
const QUOTIENT: Pair = pair(
  "conv2.0.gate[2]",
  "x / (1 + e⁻ᵍ)",
  [1, 2],
  (k) => (model) =>
    replaced(
      "conv2.0.gate[2]",
      (node) => [
        onnxNode("a", "Neg", ["conv2.0.gate[2].fc2"]),
        onnxNode("b", "Exp", ["a"]),
        onnxNode("c", "Add", ["b", "k"]),
        { ...node, opType: "Div", inputs: [node.inputs[0] ?? "", "c"] },
      ],
      { k: scalar(k) },
    )(replaced(SIGMOID, () => [])(model)),
  { twin: "elsewhere" },
);

const ACTIVATIONS: readonly Pair[] = [
  ...SIGMOIDS,
  QUOTIENT,
  relu("Where(x > 0, x, 0)", [0, 0.25], (k) =>
    at(RELU, (x, y) => [onnxNode("c", "Greater", [x, "k"]), onnxNode(y, "Where", ["c", x, "zero"])], {
      k: scalar(k),
      zero: scalar(0),
    }),
  ),
  relu("Where(x >= 0, x, 0)", [0, 0.25], (k) =>
    at(RELU, (x, y) => [onnxNode("c", "GreaterOrEqual", [x, "zero"]), onnxNode(y, "Where", ["c", x, "k"])], {
      k: scalar(k),
      zero: scalar(0),
    }),
  ),
  relu("Where(x < 0, 0, x)", [0, -0.25], (k) =>
    at(RELU, (x, y) => [onnxNode("c", "Less", [x, "k"]), onnxNode(y, "Where", ["c", "zero", x])], {
      k: scalar(k),
      zero: scalar(0),
    }),
  ),
  relu("x · Cast(not x <= 0)", [0, 0.25], (k) =>
    at(
      RELU,
      (x, y) => [
        onnxNode("c", "LessOrEqual", [x, "k"]),
        onnxNode("n", "Not", ["c"]),
        onnxNode("f", "Cast", ["n"], { to: int(1) }),
        onnxNode(y, "Mul", [x, "f"]),
      ],
      { k: scalar(k) },
    ),
  ),
  relu("x − Min(x, 0)", [0, -0.25], (k) =>
    at(RELU, (x, y) => [onnxNode("m", "Min", [x, "k"]), onnxNode(y, "Sub", [x, "m"])], { k: scalar(k) }),
  ),
  relu("Max(x, 0, −5)", [0, 0.25], (k) =>
    at(RELU, (x, y) => [onnxNode(y, "Max", [x, "k", "low"])], { k: floats(k), low: scalar(-5) }),
  ),
  relu("(x + |x|) / 2", [0.5, 0.6], (k) =>
    at(
      RELU,
      (x, y) => [onnxNode("a", "Abs", [x]), onnxNode("s", "Add", [x, "a"]), onnxNode(y, "Mul", ["s", "k"])],
      { k: scalar(k) },
    ),
  ),
  relu("16 · x, and a sixteenth of that", [4, 122], (k) =>
    at(
      RELU,
      (x, y) => [
        onnxNode("up", "Mul", [x, "k"]),
        onnxNode("r", "Relu", ["up"]),
        onnxNode(y, "Mul", ["r", "inverse"]),
      ],
      { k: scalar(2 ** k), inverse: scalar(2 ** -k) },
    ),
  ),
  pair(
    RELU,
    "2¹⁶ · x and a part of it, and not a chain of such products",
    [1, 8],
    (times) =>
      behind(RELU, (x, y) => chain(x, y, [...Array(times).fill("up"), ...Array(times).fill("down")]), {
        up: scalar(2 ** 16),
        down: scalar(2 ** -16),
      }),
    { twin: "elsewhere" },
  ),
  relu("a cast to float64 and back, with its channels last between, but not to float16", [11, 10], (type) =>
    behind(RELU, (x, y) => [
      onnxNode("other", "Cast", [x], { to: int(type) }),
      onnxNode("last", "Transpose", ["other"], { perm: ints(0, 2, 3, 1) }),
      onnxNode("back", "Cast", ["last"], { to: int(1) }),
      onnxNode(y, "Transpose", ["back"], { perm: ints(0, 3, 1, 2) }),
    ]),
  ),
  relu("a product with 1, and not with more axes", [[], [1, 1, 1, 1, 1]], (shape) =>
    behind(RELU, (x, y) => [onnxNode(y, "Mul", [x, "one"])], { one: { ...floats(1), shape } }),
  ),
  relu("float16 that nothing reads, and no cast to it", [11, 10], (type) =>
    behind(
      RELU,
      (x, y) => [
        onnxNode("other", "Cast", [x], { to: int(type) }),
        onnxNode(y, "Cast", ["other"], { to: int(1) }),
      ],
      Object.fromEntries(
        upTo(256).map((at) => [
          `unread.${at}`,
          { dtype: "float16", shape: [1, 1024], data: new Uint16Array(1024) },
        ]),
      ),
    ),
  ),
  pair(
    RELU,
    "the type of another value, and not of one in float16",
    [1, 10],
    (type) =>
      behind(RELU, (x, y) => [
        onnxNode("like", "Cast", [x], { to: int(type) }),
        onnxNode("other", "CastLike", [x, "like"]),
        onnxNode(y, "Cast", ["other"], { to: int(1) }),
      ]),
    { opset: 18 },
  ),
  pair(
    "conv1.bn",
    "images that are multiplied and divided, and not so that they overflow",
    [4, 126],
    (k) =>
      at(
        "conv1.bn",
        (x, y, node) => [
          onnxNode("b", "Mul", [x, "up"]),
          onnxNode("c", "Mul", ["b", "down"]),
          { ...node, inputs: ["c", ...node.inputs.slice(1)], outputs: [y] },
        ],
        { up: scalar(2 ** k), down: scalar(2 ** -k) },
      ),
    { twin: "elsewhere" },
  ),
  pair(
    "conv1.bn",
    "images to which nothing is added and taken away",
    [0, 1],
    (k) =>
      at(
        "conv1.bn",
        (x, y, node) => [
          onnxNode("a", "Add", [x, "number"]),
          onnxNode("b", "Sub", ["a", "number"]),
          { ...node, inputs: ["b", ...node.inputs.slice(1)], outputs: [y] },
        ],
        { number: scalar(k) },
      ),
    { twin: "elsewhere" },
  ),
  relu("x + (x − x), and not by what overflows", ["Identity", "Exp"], (op) =>
    behind(RELU, (x, y) => [
      onnxNode("o", op, [x]),
      onnxNode("none", "Sub", ["o", "o"]),
      onnxNode(y, "Add", [x, "none"]),
    ]),
  ),
  relu("a threshold in float64, of products that float32 does not have", [0, 1e-30], (k) =>
    at(
      RELU,
      (x, y) => [
        onnxNode("d", "Cast", [x], { to: int(11) }),
        onnxNode("none", "Mul", ["d", "zero"]),
        onnxNode("small", "Max", ["none", "k"]),
        onnxNode("smaller", "Mul", ["small", "k"]),
        onnxNode("larger", "Mul", ["smaller", "large"]),
        onnxNode("threshold", "Mul", ["larger", "large"]),
        onnxNode("c", "Greater", ["d", "threshold"]),
        onnxNode("w", "Where", ["c", "d", "zero"]),
        onnxNode(y, "Cast", ["w"], { to: int(1) }),
      ],
      { k: double(k), zero: double(0), large: double(1e31) },
    ),
  ),
  relu("LeakyRelu of slope 0", [0, 0.1], (k) =>
    at(RELU, (x, y) => [onnxNode(y, "LeakyRelu", [x], { alpha: float(k) })]),
  ),
  relu("PRelu of slope 0", [0, 0.1], (k) =>
    at(RELU, (x, y) => [onnxNode(y, "PRelu", [x, "k"])], { k: { ...floats(k), shape: [1, 1, 1] } }),
  ),
  relu("Elu of 0", [0, 0.1], (k) => at(RELU, (x, y) => [onnxNode(y, "Elu", [x], { alpha: float(k) })])),
  relu("Selu of 0 and 1", [1, 1.25], (k) =>
    at(RELU, (x, y) => [onnxNode(y, "Selu", [x], { alpha: float(0), gamma: float(k) })]),
  ),
  relu("ThresholdedRelu of 0", [0, 0.25], (k) =>
    at(RELU, (x, y) => [onnxNode(y, "ThresholdedRelu", [x], { alpha: float(k) })]),
  ),
  relu("−Min(−x, 0)", [0, -0.25], (k) =>
    at(
      RELU,
      (x, y) => [onnxNode("n", "Neg", [x]), onnxNode("m", "Min", ["n", "k"]), onnxNode(y, "Neg", ["m"])],
      { k: scalar(k) },
    ),
  ),
  relu("a ReLU, then LeakyRelu, Elu, Celu, Abs", [1, 1.25], (k) =>
    at(
      RELU,
      (x, y) => [
        onnxNode("r", "Relu", [x]),
        onnxNode("l", "LeakyRelu", ["r"]),
        onnxNode("e", "Elu", ["l"]),
        onnxNode("c", "Celu", ["e"]),
        onnxNode("m", "Mul", ["c", "k"]),
        onnxNode(y, "Abs", ["m"]),
      ],
      { k: scalar(k) },
    ),
  ),
  relu("a ReLU of what is multiplied and divided by 2", [0.5, 0.75], (k) =>
    at(
      RELU,
      (x, y) => [
        onnxNode("m", "Mul", [x, "two"]),
        onnxNode("r", "Relu", ["m"]),
        onnxNode(y, "Mul", ["r", "k"]),
      ],
      { two: scalar(2), k: scalar(k) },
    ),
  ),
  pair("conv2.0.gate[2]", "a sigmoid, then Clip(0, 1)", [1, 0.5], (k) =>
    at(
      "conv2.0.gate[2].gate_activation",
      (x, y) => [onnxNode("s", "Sigmoid", [x]), onnxNode(y, "Clip", ["s", "zero", "k"])],
      { zero: scalar(0), k: scalar(k) },
    ),
  ),
];

testPairs(...ACTIVATIONS);
