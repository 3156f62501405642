import { int, type OnnxModel, type OnnxNode, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { type OnnxEdit, scalar, wholes } from "../../mutation/onnx-edits.js";
import { at, type Constants, type Pair, pair, testPairs } from "./spelling-pairs.js";

/** Sums of streams and of pixels, and values that are computed several times, in other words (spelling-pairs.ts). */

const SUM = "conv2.0.aggregate";
const STREAMS = [1, 2, 3];
const GATED = STREAMS.map((stream) => `conv2.0.gate[${stream}]`);
const [CHANNELS, HEIGHT, WIDTH] = [8, 16, 8];

/** The sum of a block's streams by these nodes; the twins are not run, or not found at the sum alone. */
const sum = (
  name: string,
  numbers: readonly [number, number],
  nodes: readonly OnnxNode[],
  constants: (n: number) => Constants,
): Pair => pair(SUM, name, numbers, (n) => at(SUM, () => nodes, constants(n)), { twin: "elsewhere" });

/** All streams along a new axis, and their sum along another. */
const stacked = (name: string, axis: number, over: number, wrong: number): Pair =>
  sum(
    name,
    [over, wrong],
    [
      ...STREAMS.map((t) => onnxNode(`u${t}`, "Unsqueeze", [`conv2.0.gate[${t}]`, "new"])),
      onnxNode("stack", "Concat", ["u1", "u2", "u3"], { axis: int(axis) }),
      onnxNode(SUM, "ReduceSum", ["stack", "over"], { keepdims: int(0) }),
    ],
    (n) => ({ new: wholes(axis), over: wholes(n) }),
  );

/** All streams along an axis that there is, which a reshape splits, and their sum along the axis `over`. */
const joined = (
  name: string,
  axis: number,
  numbers: readonly [number, number],
  shape: (over: number) => Tensor,
): Pair =>
  sum(
    name,
    numbers,
    [
      onnxNode("all", "Concat", GATED, { axis: int(axis) }),
      onnxNode("five", "Reshape", ["all", "to"]),
      onnxNode(SUM, "ReduceSum", ["five", "over"], { keepdims: int(0) }),
    ],
    (over) => ({ to: shape(over), over: wholes(over) }),
  );

const SUMS: readonly Pair[] = [
  stacked("torch.stack(streams).sum(0), and not over the images", 0, 0, 1),
  stacked("torch.stack(streams, 1).sum(1), and not over the channels", 1, 1, 2),
  stacked("torch.stack(streams, -1).sum(-1), and not over the columns", -1, -1, -2),
  joined("torch.cat(streams, 1) in parts, and not every third channel", 1, [1, 2], (over) =>
    over === 1 ? wholes(0, 3, CHANNELS, HEIGHT, WIDTH) : wholes(0, CHANNELS, 3, HEIGHT, WIDTH),
  ),
  joined("torch.cat(streams) in parts, and not every third image", 0, [0, 1], (over) =>
    over === 0 ? wholes(3, -1, CHANNELS, HEIGHT, WIDTH) : wholes(-1, 3, CHANNELS, HEIGHT, WIDTH),
  ),
];

const POOL = "conv2.0.gate[2].global_avgpool";

const mean = (name: string, numbers: readonly [number, number], opType: string): Pair =>
  pair(
    POOL,
    name,
    numbers,
    (n) =>
      at(
        POOL,
        (x, y) => [
          onnxNode("sum", "ReduceSum", [x, "plane"], { keepdims: int(1) }),
          onnxNode(y, opType, ["sum", "n"]),
        ],
        { plane: wholes(2, 3), n: scalar(n) },
      ),
    { twin: "structural" },
  );

const MEANS: readonly Pair[] = [
  mean("a sum divided by the number of pixels", [HEIGHT * WIDTH, HEIGHT * WIDTH - 1], "Div"),
  mean("a sum times the inverse of it", [1 / (HEIGHT * WIDTH), 1 / HEIGHT], "Mul"),
  pair(
    POOL,
    "a sum divided by sizes of its map, and not of another",
    ["x", "images"],
    (of) =>
      at(
        POOL,
        (x, y) => [
          onnxNode("sum", "ReduceSum", [x, "plane"], { keepdims: int(1) }),
          onnxNode("shape", "Shape", [of === "x" ? x : of]),
          onnxNode("rows", "Gather", ["shape", "two"]),
          onnxNode("columns", "Gather", ["shape", "three"]),
          onnxNode("pixels", "Mul", ["rows", "columns"]),
          onnxNode("n", "Cast", ["pixels"], { to: int(1) }),
          onnxNode(y, "Div", ["sum", "n"]),
        ],
        { plane: wholes(2, 3), two: { ...wholes(2), shape: [] }, three: { ...wholes(3), shape: [] } },
      ),
    { twin: "structural" },
  ),
];

/** The layers of a block's conv1 once more, for its second stream, with other names and this factor on their first weight. */
function again(factor: number): OnnxEdit {
  return (model: OnnxModel): OnnxModel => {
    const { nodes, initializers } = model.graph;
    const own = nodes.filter(({ outputs: [output = ""] }) => output.startsWith("conv2.0.conv1."));
    const mine = new Set(own.flatMap(({ outputs }) => outputs));
    const constants = own.flatMap(({ inputs }) => inputs.filter((name) => initializers.has(name)));
    const copyOf = (name: string): string =>
      mine.has(name) || constants.includes(name) ? `${name}.again` : name;
    const copies = own.map((node) => ({
      ...node,
      name: "",
      inputs: node.inputs.map(copyOf),
      outputs: node.outputs.map(copyOf),
    }));
    const end = nodes.indexOf(own.at(-1) as OnnxNode);
    const reader = "conv2.0.conv2b.0.conv1";
    return {
      ...model,
      graph: {
        ...model.graph,
        nodes: [...nodes.slice(0, end + 1), ...copies, ...nodes.slice(end + 1)].map((node) =>
          node.outputs.includes(reader) ? { ...node, inputs: node.inputs.map(copyOf) } : node,
        ),
        initializers: new Map([
          ...initializers,
          ...constants.map((name) => {
            const tensor = initializers.get(name) as Tensor<"float32">;
            const data = tensor.data.map((value, i) => (i === 0 ? value * factor : value));
            return [copyOf(name), { ...tensor, data }] as const;
          }),
        ]),
      },
    };
  };
}

const COPIES: Pair = pair(
  "conv2.0.conv2b.0.conv1",
  "a layer that is computed once for each stream",
  [1, 1.001],
  again,
  {
    twin: "structural",
  },
);

const [SHORTCUT, MAIN, RESIDUAL] = ["conv2.0.downsample.bn", "conv2.0.conv3.bn", "conv2.0.add"];

/** Convolutions without their biases, whose sum is added to theirs, as TensorFlow's optimiser writes it. */
function biasesBehind(factor: number): OnnxEdit {
  return (model: OnnxModel): OnnxModel => {
    const { nodes, initializers } = model.graph;
    const biasOf = (output: string): Tensor<"float32"> =>
      initializers.get(
        nodes.find(({ outputs }) => outputs[0] === output)?.inputs[2] ?? "",
      ) as Tensor<"float32">;
    const [a, b] = [MAIN, SHORTCUT].map((output) => biasOf(output).data);
    const data = Float32Array.from(a ?? [], (value, at) => factor * (value + (b?.[at] ?? 0)));
    return {
      ...model,
      graph: {
        ...model.graph,
        nodes: nodes.flatMap((node) => {
          const [output = ""] = node.outputs;
          if (output === MAIN || output === SHORTCUT) return { ...node, inputs: node.inputs.slice(0, 2) };
          if (output !== RESIDUAL) return node;
          return [
            { ...node, name: "bare", outputs: ["bare"] },
            onnxNode(RESIDUAL, "Add", ["biases", "bare"]),
          ];
        }),
        initializers: new Map(initializers).set("biases", {
          dtype: "float32",
          shape: [data.length, 1, 1],
          data,
        }),
      },
    };
  };
}

const BIASES: Pair = pair(
  MAIN,
  "the sum of two convolutions' biases behind their sum",
  [1, 1.001],
  biasesBehind,
  { twin: "numeric" },
);

testPairs(COPIES, BIASES, ...SUMS, ...MEANS);
