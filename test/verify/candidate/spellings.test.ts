import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { float, int, ints, type OnnxNode, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { openVerification } from "../../../src/verify/open.js";
import { verify } from "../../../src/verify/verify.js";
import { anonymous } from "../../convert/import/graphs.js";
import { ALL } from "../../fixtures.js";
import { type TinyFamily, tinyCheckpoint } from "../../mutation/families.js";
import { attribute, floats, type OnnxEdit, replaced, scalar, wholes } from "../../mutation/onnx-edits.js";
import { convert, openReference, rewriteOnnx, SMALL } from "../../support/osnet.js";

/**
 * Ways in which a layer may be written that compute the same for every input, each with a twin that differs in one number: the
 * first passes in onnxruntime, the second is one fault at its layer. `TESTS=all` runs the twins too, and the right ones with
 * our names.
 */

interface Pair {
  readonly name: string;
  readonly layer: string;
  readonly right: OnnxEdit;
  readonly wrong: OnnxEdit;
  readonly family?: TinyFamily;
  /** Of twins whose graph is right, and not their numbers, that no runtime runs, or that are found at another layer. */
  readonly twin?: "numeric" | "structural" | "elsewhere";
  /** The operator set, if not 13. */
  readonly opset?: number;
}

/** The same nodes, with a number that is right and one that is not. */
function pair<T>(
  layer: string,
  name: string,
  [right, wrong]: readonly [T, T],
  edit: (number: T) => OnnxEdit,
  more: Pick<Pair, "family" | "twin" | "opset"> = {},
): Pair {
  return { name, layer, right: edit(right), wrong: edit(wrong), ...more };
}

type Constants = Readonly<Record<string, Tensor>>;

/** Nodes that compute `y`, as the node before them did of `x`. */
const at = (
  layer: string,
  nodes: (x: string, y: string, node: OnnxNode) => readonly OnnxNode[],
  constants: Constants = {},
): OnnxEdit => replaced(layer, (node) => nodes(node.inputs[0] ?? "", layer, node), constants);

/** Nodes behind a layer, which hand it on as `y`. */
const behind = (
  layer: string,
  nodes: (before: string, y: string) => readonly OnnxNode[],
  constants: Constants = {},
): OnnxEdit =>
  replaced(
    layer,
    (node) => [{ ...node, name: "before", outputs: ["before"] }, ...nodes("before", layer)],
    constants,
  );

const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);

const RELU = "conv3.0.conv2b.0.relu";
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

const ACTIVATIONS: readonly Pair[] = [
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
          onnxNode("a", "Add", [x, "one"]),
          onnxNode("b", "Mul", ["a", "up"]),
          onnxNode("c", "Mul", ["b", "down"]),
          onnxNode("d", "Sub", ["c", "one"]),
          { ...node, inputs: ["d", ...node.inputs.slice(1)], outputs: [y] },
        ],
        { one: scalar(1), up: scalar(2 ** k), down: scalar(2 ** -k) },
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
  pair("conv3.0.gate[2]", "a sigmoid, then Clip(0, 1)", [1, 0.5], (k) =>
    at(
      "conv3.0.gate[2].gate_activation",
      (x, y) => [onnxNode("s", "Sigmoid", [x]), onnxNode(y, "Clip", ["s", "zero", "k"])],
      { zero: scalar(0), k: scalar(k) },
    ),
  ),
];

/** What is handed on behind a ReLU; the twins make another shape, which no runtime takes behind it. */
const same = (
  name: string,
  edit: (isRight: boolean) => OnnxEdit,
  more: Pick<Pair, "twin"> = { twin: "structural" },
): Pair => pair(RELU, name, [true, false], edit, more);

const CHANNELS = 12;
const [HEIGHT, WIDTH] = [8, 4];

const PASSED_ON: readonly Pair[] = [
  same("Expand by ones", (isRight) =>
    behind(RELU, (x, y) => [onnxNode(y, "Expand", [x, "to"])], { to: wholes(1, 1, isRight ? 1 : 16, 1) }),
  ),
  same("Expand to its own shape", (isRight) =>
    behind(RELU, (x, y) => [
      onnxNode("to", "Shape", [isRight ? x : "maxpool"]),
      onnxNode("to.64", "Cast", ["to"], { to: int(7) }),
      onnxNode(y, "Expand", [x, "to.64"]),
    ]),
  ),
  same("Tile once", (isRight) =>
    behind(RELU, (x, y) => [onnxNode(y, "Tile", [x, "times"])], { times: wholes(1, 1, isRight ? 1 : 2, 1) }),
  ),
  same("Resize by 1", (isRight) =>
    behind(
      RELU,
      (x, y) => [
        onnxNode(y, "Resize", [x, "", "by"], {
          mode: { type: "string", value: "linear" },
          coordinate_transformation_mode: { type: "string", value: "half_pixel" },
        }),
      ],
      { by: floats(1, 1, isRight ? 1 : 2, 1) },
    ),
  ),
  same(
    "Gather of all channels",
    (isRight) =>
      behind(RELU, (x, y) => [onnxNode(y, "Gather", [x, "at"], { axis: int(1) })], {
        at: wholes(...upTo(CHANNELS).map((c) => (isRight || c > 1 ? c : 1 - c))),
      }),
    {},
  ),
  same(
    "Slice of all rows",
    (isRight) =>
      behind(RELU, (x, y) => [onnxNode(y, "Slice", [x, "from", "to", "axes", "by"])], {
        from: wholes(isRight ? 0 : -1),
        to: wholes(isRight ? HEIGHT : -100),
        axes: wholes(2),
        by: wholes(isRight ? 1 : -1),
      }),
    {},
  ),
  same("Split into one", (isRight) =>
    behind(RELU, (x, y) => [
      {
        ...onnxNode(y, "Split", [x], { axis: int(1) }),
        outputs: isRight ? [y] : [y, "other"],
      },
    ]),
  ),
  same("Concat of one", (isRight) =>
    behind(RELU, (x, y) => [onnxNode(y, "Concat", isRight ? [x] : [x, x], { axis: int(1) })]),
  ),
  same("Reshape to its own shape", (isRight) =>
    behind(RELU, (x, y) => [onnxNode(y, "Reshape", [x, "to"])], {
      to: isRight ? wholes(0, CHANNELS, -1, WIDTH) : wholes(0, CHANNELS, WIDTH, HEIGHT),
    }),
  ),
];

const WINDOWS: readonly Pair[] = [
  pair(
    "conv3.0.conv2b.0.conv2",
    "dilation between the pixels of 1×1 kernels",
    ["conv3.0.conv1.bn", "conv3.0.conv2b.0.bn"],
    (layer) => attribute(layer, "dilations", ints(2, 2)),
    { twin: "structural" },
  ),
  pair(
    "conv2.2.1",
    "a pool that rounds sizes up, where they are even",
    [true, false],
    (isRight) => (model) =>
      attribute(
        "conv2.2.1",
        "ceil_mode",
        int(1),
      )(isRight ? model : attribute("conv2.2.1", "strides", ints(3, 3))(model)),
    { twin: "structural" },
  ),
];

const PADS = "maxpool";

const PADDED: readonly Pair[] = [
  pair(
    PADS,
    "pads of all four axes in their order",
    [wholes(0, 1, 2, 3), wholes(0, 1, 3, 2)],
    (axes) =>
      at(
        PADS,
        (x, y, node) => [
          onnxNode("padded", "Pad", [x, "pads", "", "axes"]),
          {
            ...node,
            inputs: ["padded"],
            outputs: [y],
            attributes: new Map(node.attributes).set("pads", ints(0, 0, 0, 0)),
          },
        ],
        { pads: wholes(0, 0, 1, 1, 0, 0, 1, 1), axes },
      ),
    // Before operator set 18 there are no axes.
    { twin: "structural", opset: 18 },
  ),
  pair(
    PADS,
    "pads computed of ranks, as torch writes them",
    [1, 2],
    (rows) =>
      at(
        PADS,
        (x, y, node) => [
          onnxNode("shape", "Shape", [x]),
          onnxNode("rank", "Size", ["shape"]),
          onnxNode("all", "Mul", ["rank", "two"]),
          onnxNode("more", "Sub", ["all", "four"]),
          onnxNode("many", "Unsqueeze", ["more", "zero"]),
          onnxNode("zeros", "ConstantOfShape", ["many"], {
            value: { type: "tensor", value: wholes(0) },
          }),
          onnxNode("list", "Concat", ["pads", "zeros"], { axis: int(0) }),
          onnxNode("table", "Reshape", ["list", "pairs"]),
          onnxNode("turned", "Slice", ["table", "last", "first", "zero", "last"]),
          onnxNode("columns", "Transpose", ["turned"], { perm: ints(1, 0) }),
          onnxNode("eight", "Reshape", ["columns", "last"]),
          onnxNode("padded", "Pad", [x, "eight"]),
          {
            ...node,
            inputs: ["padded"],
            outputs: [y],
            attributes: new Map(node.attributes).set("pads", ints(0, 0, 0, 0)),
          },
        ],
        {
          two: { ...wholes(2), shape: [] },
          four: { ...wholes(4), shape: [] },
          zero: wholes(0),
          pads: wholes(1, 1, rows, 1),
          pairs: wholes(-1, 2),
          last: wholes(-1),
          first: wholes(-1000000),
        },
      ),
    { twin: "structural" },
  ),
];

const NORM = "conv2.0.IN";
const CHANNELS_IN = 32;

/** An instance norm of its parts: nodes that compute `n` of x, between what is done with γ and β. */
const norm = (
  name: string,
  numbers: readonly [number, number],
  nodes: (x: string) => readonly OnnxNode[],
  constants: (k: number) => Constants,
): Pair =>
  pair(
    NORM,
    name,
    numbers,
    (k) =>
      at(
        NORM,
        (x, y, { inputs: [, gamma = "", beta = ""] }) => [
          ...nodes(x),
          onnxNode("g", "Unsqueeze", [gamma, "axes"]),
          onnxNode("scaled", "Mul", ["n", "g"]),
          onnxNode("b", "Unsqueeze", [beta, "axes"]),
          onnxNode(y, "Add", ["scaled", "b"]),
        ],
        { axes: wholes(1, 2), ...constants(k) },
      ),
    { family: "ain", twin: "structural" },
  );

const mean = (x: string, y: string): OnnxNode => onnxNode(y, "ReduceMean", [x], { axes: ints(2, 3) });
const lastMean = (x: string, y: string): OnnxNode => onnxNode(y, "ReduceMean", [x], { axes: ints(-1) });
const EPSILON: readonly [number, number] = [1e-5, 1e-3];

const NORMS: readonly Pair[] = [
  norm(
    "an instance norm by E[x²] − μ²",
    EPSILON,
    (x) => [
      mean(x, "m"),
      onnxNode("c", "Sub", [x, "m"]),
      onnxNode("xx", "Mul", [x, x]),
      mean("xx", "mm"),
      onnxNode("m2", "Mul", ["m", "m"]),
      onnxNode("v", "Sub", ["mm", "m2"]),
      onnxNode("e", "Add", ["v", "k"]),
      onnxNode("d", "Sqrt", ["e"]),
      onnxNode("n", "Div", ["c", "d"]),
    ],
    (k) => ({ k: scalar(k) }),
  ),
  norm(
    "an instance norm by (v + ε)^−½",
    [-0.5, 0.5],
    (x) => [
      mean(x, "m"),
      onnxNode("c", "Sub", [x, "m"]),
      onnxNode("cc", "Mul", ["c", "c"]),
      mean("cc", "v"),
      onnxNode("e", "Add", ["v", "epsilon"]),
      onnxNode("d", "Pow", ["e", "k"]),
      onnxNode("n", "Mul", ["c", "d"]),
    ],
    (k) => ({ k: scalar(k), epsilon: scalar(1e-5) }),
  ),
  norm(
    "an instance norm by the mean of (x − μ) · x",
    EPSILON,
    (x) => [
      mean(x, "m"),
      onnxNode("c", "Sub", [x, "m"]),
      onnxNode("cx", "Mul", ["c", x]),
      mean("cx", "v"),
      onnxNode("e", "Add", ["v", "k"]),
      onnxNode("d", "Sqrt", ["e"]),
      onnxNode("n", "Div", ["c", "d"]),
    ],
    (k) => ({ k: scalar(k) }),
  ),
  ...(["planes", "rows"] as const).map((form) =>
    norm(
      form === "planes" ? "an instance norm of [N, C, H·W]" : "an instance norm of [N·C, H·W]",
      EPSILON,
      (x) => [
        onnxNode("p", "Reshape", [x, form]),
        lastMean("p", "m"),
        onnxNode("c", "Sub", ["p", "m"]),
        onnxNode("cc", "Mul", ["c", "c"]),
        lastMean("cc", "v"),
        onnxNode("e", "Add", ["v", "k"]),
        onnxNode("d", "Sqrt", ["e"]),
        onnxNode("q", "Div", ["c", "d"]),
        onnxNode("shape", "Shape", [x]),
        onnxNode("n", "Reshape", ["q", "shape"]),
      ],
      (k) => ({ k: scalar(k), planes: wholes(0, CHANNELS_IN, -1), rows: wholes(-1, 128) }),
    ),
  ),
  pair(
    NORM,
    "InstanceNormalization of [N, C, H·W], as torch exports a norm of groups",
    EPSILON,
    (k) =>
      at(
        NORM,
        (x, y, { inputs: [, gamma = "", beta = ""] }) => [
          onnxNode("p", "Reshape", [x, "to"]),
          onnxNode("q", "InstanceNormalization", ["p", "ones", "zeros"], { epsilon: float(k) }),
          onnxNode("shape", "Shape", [x]),
          onnxNode("n", "Reshape", ["q", "shape"]),
          onnxNode("g", "Unsqueeze", [gamma, "axes"]),
          onnxNode("scaled", "Mul", ["n", "g"]),
          onnxNode("b", "Unsqueeze", [beta, "axes"]),
          onnxNode(y, "Add", ["scaled", "b"]),
        ],
        {
          axes: wholes(1, 2),
          to: wholes(0, CHANNELS_IN, -1),
          ones: floats(...upTo(CHANNELS_IN).map(() => 1)),
          zeros: floats(...upTo(CHANNELS_IN).map(() => 0)),
        },
      ),
    { family: "ain", twin: "structural" },
  ),
];

const POOL = "conv3.0.gate[2].global_avgpool";

const STRIDED: readonly Pair[] = [
  pair(
    POOL,
    "as_strided of means, as torch exports a network with its channels last",
    [CHANNELS, CHANNELS - 1],
    (stride) =>
      behind(
        POOL,
        (x, y) => [
          onnxNode("shape", "Shape", ["images"]),
          onnxNode("batch", "Gather", ["shape", "zero"]),
          onnxNode("images.at", "Range", ["zero", "batch", "one"]),
          onnxNode("rows", "Mul", ["images.at", "stride"]),
          onnxNode("four", "Unsqueeze", ["rows", "axes"]),
          onnxNode("places", "Add", ["four", "channels"]),
          onnxNode("line", "Reshape", [x, "all"]),
          onnxNode(y, "Gather", ["line", "places"]),
        ],
        {
          zero: { ...wholes(0), shape: [] },
          one: { ...wholes(1), shape: [] },
          stride: { ...wholes(stride), shape: [] },
          axes: wholes(1, 2, 3),
          channels: { ...wholes(...upTo(CHANNELS)), shape: [1, CHANNELS, 1, 1] },
          all: wholes(-1),
        },
      ),
    { twin: "structural" },
  ),
];

/** A pooled map as a vector, and as a map again. */
const vectors = (
  name: string,
  nodes: (isRight: boolean) => readonly OnnxNode[],
  constants: (isRight: boolean) => Constants,
): Pair =>
  pair(
    POOL,
    name,
    [true, false],
    (isRight) =>
      behind(
        POOL,
        (x, y) =>
          [...nodes(isRight), onnxNode(y, "Reshape", ["vector", "map"])].map((node) =>
            node.inputs[0] === "x" ? { ...node, inputs: [x, ...node.inputs.slice(1)] } : node,
          ),
        { map: wholes(0, -1, 1, 1), ...constants(isRight) },
      ),
    { twin: "elsewhere" },
  );

const VECTORS: readonly Pair[] = [
  vectors(
    "Reshape to its channels, and not to one image",
    () => [onnxNode("vector", "Reshape", ["x", "to"])],
    (isRight) => ({ to: wholes(isRight ? 0 : 1, -1) }),
  ),
  vectors(
    "Reshape to the number of images, and not to one that depends on their pixels",
    (isRight) => [
      onnxNode("shape", "Shape", ["x"]),
      onnxNode("batch", "Gather", ["shape", "first"]),
      onnxNode("darkest", "ReduceMin", ["images"], { keepdims: int(0) }),
      onnxNode("isBlack", "Less", ["darkest", "black"]),
      onnxNode("chosen", "Where", ["isBlack", "one", "batch"]),
      onnxNode("to", "Concat", [isRight ? "batch" : "chosen", "rest"], { axis: int(0) }),
      onnxNode("vector", "Reshape", ["x", "to"]),
    ],
    () => ({ first: wholes(0), one: wholes(1), rest: wholes(-1), black: scalar(-2) }),
  ),
  vectors(
    "Flatten of [N, C, 1, 1], and not of [C, N, 1, 1]",
    (isRight) => [
      onnxNode("turned", "Transpose", ["x"], { perm: isRight ? ints(0, 2, 3, 1) : ints(1, 0, 2, 3) }),
      onnxNode("vector", "Flatten", ["turned"]),
    ],
    () => ({}),
  ),
  vectors(
    "Squeeze of both axes, and not of the first",
    () => [onnxNode("plain", "Squeeze", ["x", "axes"]), onnxNode("vector", "Reshape", ["plain", "to"])],
    (isRight) => ({ axes: isRight ? wholes(2, 3) : wholes(0, 3), to: wholes(0, -1) }),
  ),
];

const PRODUCT = "conv3.0.conv2b.0.bn";

const PRODUCTS: readonly Pair[] = [
  pair(
    "fc.1",
    "a matrix product and a product, of which neither overflows",
    [4, 124],
    (k) => (model) => {
      const node = model.graph.nodes.find(({ outputs }) => outputs[0] === "fc.1");
      const [, name = "", bias = ""] = node?.inputs ?? [];
      const weight = model.graph.initializers.get(name) as Tensor<"float32">;
      const [rows = 0, columns = 0] = weight.shape;
      const turned = Float32Array.from(
        weight.data,
        (_, at) => (weight.data[(at % rows) * columns + Math.floor(at / rows)] ?? 0) * 2 ** k,
      );
      return at(
        "fc.1",
        (x, y) => [
          onnxNode("product", "MatMul", [x, "matrix"]),
          onnxNode("scaled", "Mul", ["product", "factors"]),
          onnxNode(y, "Add", ["scaled", bias]),
        ],
        {
          matrix: { dtype: "float32", shape: [columns, rows], data: turned },
          factors: floats(...Array(rows).fill(2 ** -k)),
        },
      )(model);
    },
    { twin: "elsewhere" },
  ),
  pair(
    "fc.1",
    "weights in float64, and not what is computed of them",
    [true, false],
    (isRight) => (model) => {
      const node = model.graph.nodes.find(({ outputs }) => outputs[0] === "fc.1");
      const [, name = ""] = node?.inputs ?? [];
      return at(
        "fc.1",
        (x, y, { inputs }) => [
          onnxNode("wide", "Cast", [name], { to: int(11) }),
          // Nothing in float32.
          ...["twenty", "large"].map((name) => onnxNode(`${name}.64`, "Cast", [name], { to: int(11) })),
          onnxNode("more", "Add", ["twenty.64", "large.64"]),
          onnxNode("less", "Sub", ["more", "large.64"]),
          onnxNode("sum", "Add", ["wide", "less"]),
          onnxNode("w", "Cast", [isRight ? "wide" : "sum"], { to: int(1) }),
          { ...(node as OnnxNode), inputs: [x, "w", ...inputs.slice(2)], outputs: [y] },
        ],
        { twenty: scalar(20), large: scalar(2 ** 30) },
      )(model);
    },
    { twin: "elsewhere" },
  ),
  pair(
    "fc.1",
    "a Gemm of twice half its weights",
    [0.5, 0.25],
    (k) => (model) => {
      const name = model.graph.nodes.find(({ outputs }) => outputs[0] === "fc.1")?.inputs[1] ?? "";
      const weight = model.graph.initializers.get(name) as Tensor<"float32">;
      const half = { ...weight, data: weight.data.map((value) => value * k) };
      const initializers = new Map(model.graph.initializers).set(name, half);
      return attribute("fc.1", "alpha", float(2))({ ...model, graph: { ...model.graph, initializers } });
    },
    { twin: "numeric" },
  ),
  pair(
    PRODUCT,
    "products with a batch norm that the graph computes, as onnxoptimizer writes them",
    [1, 1.01],
    (k) => (model) => {
      const [, weight = "", bias = ""] =
        model.graph.nodes.find(({ outputs }) => outputs[0] === PRODUCT)?.inputs ?? [];
      const own = model.graph.initializers.get(weight) as Tensor<"float32">;
      return at(
        PRODUCT,
        (x, y, node) => [
          onnxNode("total", "Add", ["variance", "k"]),
          onnxNode("deviation", "Sqrt", ["total"]),
          onnxNode("by.channel", "Unsqueeze", ["deviation", "axes"]),
          onnxNode("w", "Div", ["twice", "by.channel"]),
          onnxNode("negative", "Sub", ["none", bias]),
          onnxNode("b", "Neg", ["negative"]),
          { ...node, inputs: [x, "w", "b"], outputs: [y] },
        ],
        {
          variance: floats(...upTo(own.shape[0] ?? 0).map(() => 3)),
          k: scalar(k),
          axes: wholes(1, 2, 3),
          twice: { ...own, data: own.data.map((value) => value * 2) },
          none: floats(0),
        },
      )(model);
    },
    { twin: "numeric" },
  ),
];

const PAIRS = [
  ...ACTIVATIONS,
  ...PASSED_ON,
  ...WINDOWS,
  ...PADDED,
  ...NORMS,
  ...STRIDED,
  ...VECTORS,
  ...PRODUCTS,
];

function written({ family = "osnet", opset = 13 }: Pair, edit: OnnxEdit, isNamed: boolean): Uint8Array {
  const bytes = convert(tinyCheckpoint(family), { opset });
  return rewriteOnnx(bytes, (model) => (isNamed ? edit(model) : anonymous(edit(model))));
}

async function faultsOf(row: Pair, bytes: Uint8Array): Promise<readonly string[]> {
  const reference = openReference(tinyCheckpoint(row.family ?? "osnet"));
  const opened = await openVerification({ name: "m.onnx", bytes }, reference, { size: SMALL });
  const { passed, faults } = await verify(opened);
  expect(passed).toBe(faults.length === 0);
  return faults.map(({ layer }) => layer);
}

describe("a layer in another spelling", () => {
  it.each(PAIRS.map((row) => [row.name, row] as const))(
    "%s is read, and its wrong twin found",
    async (_, row) => {
      expect(await faultsOf(row, written(row, row.right, false))).toEqual([]);
      const wrong = written(row, row.wrong, false);
      const { graph } = tinyCheckpoint(row.family ?? "osnet");
      if (row.twin !== "numeric") {
        const { differences } = matchGraph(decodeOnnx(wrong, { subject: "m.onnx" }), {
          subject: "m.onnx",
          graph,
        });
        const found = differences.map(({ layer }) => layer);
        if (row.twin === "elsewhere")
          expect(found.length > 0 ? found : await faultsOf(row, wrong)).not.toEqual([]);
        else expect(found).toEqual([row.layer]);
      }
      if ((ALL && row.twin === undefined) || row.twin === "numeric")
        expect(await faultsOf(row, wrong)).toEqual([row.layer]);
      if (!ALL || row.twin === "numeric") return;
      expect(await faultsOf(row, written(row, row.right, true))).toEqual([]);
    },
  );
});
