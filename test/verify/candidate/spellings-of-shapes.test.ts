import { dtypeToCode, int, ints, type OnnxNode, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { DType } from "../../../src/core/tensor.js";
import { attribute, floats, type OnnxEdit, scalar, wholes } from "../../mutation/onnx-edits.js";
import { at, behind, type Constants, type Pair, pair, testPairs, upTo } from "./spelling-pairs.js";

/** Values in other shapes and orders, windows and padding, in other words (spelling-pairs.ts). */

const RELU = "conv2.0.conv2b.0.relu";

/** What is handed on behind a ReLU; the twins make another shape, which no runtime takes behind it. */
const same = (
  name: string,
  edit: (isRight: boolean) => OnnxEdit,
  more: Pick<Pair, "twin"> = { twin: "structural" },
): Pair => pair(RELU, name, [true, false], edit, more);

const CHANNELS = 8;
const [HEIGHT, WIDTH] = [16, 8];

const PASSED_ON: readonly Pair[] = [
  same("Expand by ones", (isRight) =>
    behind(RELU, (x, y) => [onnxNode(y, "Expand", [x, "to"])], { to: wholes(1, 1, isRight ? 1 : 32, 1) }),
  ),
  same("Expand to its own shape", (isRight) =>
    behind(RELU, (x, y) => [
      onnxNode("to", "Shape", [isRight ? x : "conv1.relu"]),
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
    "conv2.0.conv2b.0.conv2",
    "dilation between the pixels of 1×1 kernels",
    ["conv2.0.conv1.bn", "conv2.0.conv2b.0.bn"],
    (layer) => attribute(layer, "dilations", ints(2, 2)),
    { twin: "structural" },
  ),
  pair(
    "conv2.1.1",
    "a pool that rounds sizes up, where they are even",
    [true, false],
    (isRight) => (model) =>
      attribute(
        "conv2.1.1",
        "ceil_mode",
        int(1),
      )(isRight ? model : attribute("conv2.1.1", "strides", ints(3, 3))(model)),
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

const POOL = "conv2.0.gate[2].global_avgpool";

/** Means as torch's `as_strided` takes them from a line of all, by places that are cast to a type and back. */
const strided = (stride: number, type: DType = "int64"): OnnxEdit =>
  behind(
    POOL,
    (x, y) => [
      onnxNode("shape", "Shape", ["images"]),
      onnxNode("batch", "Gather", ["shape", "zero"]),
      onnxNode("images.at", "Range", ["zero", "batch", "one"]),
      onnxNode("rows", "Mul", ["images.at", "stride"]),
      onnxNode("cast", "Cast", ["rows"], { to: int(dtypeToCode(type)) }),
      onnxNode("back", "Cast", ["cast"], { to: int(dtypeToCode("int64")) }),
      onnxNode("four", "Unsqueeze", ["back", "axes"]),
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
  );

const STRIDED: readonly Pair[] = [
  pair(
    POOL,
    "as_strided of means, as torch exports a network with its channels last",
    [CHANNELS, CHANNELS - 1],
    (stride) => strided(stride),
    { twin: "structural" },
  ),
  // float32 has no odd places above 2^24.
  pair<DType>(
    POOL,
    "as_strided by places of 64 bits",
    ["int64", "float32"],
    (type) => strided(CHANNELS, type),
    {
      twin: "structural",
    },
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
    "Reshape to the number of images as a list, and not to that of channels",
    () => [
      onnxNode("shape", "Shape", ["x"]),
      onnxNode("number", "Gather", ["shape", "place"]),
      onnxNode("list", "Reshape", ["number", "rest"]),
      onnxNode("to", "Concat", ["list", "rest"], { axis: int(0) }),
      onnxNode("vector", "Reshape", ["x", "to"]),
    ],
    (isRight) => ({ place: { ...wholes(isRight ? 0 : 1), shape: [] }, rest: wholes(-1) }),
  ),
  vectors(
    "Gather of the only row and column, and not of a channel",
    (isRight) => [
      onnxNode("row", "Gather", ["x", "first"], { axis: int(isRight ? 2 : 1) }),
      onnxNode("vector", "Gather", ["row", "first"], { axis: int(2) }),
    ],
    () => ({ first: { ...wholes(0), shape: [] } }),
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

const MEANS: readonly Pair[] = [
  pair(
    POOL,
    "a mean over a map's pixels in a line, as `x.view(n, c, -1).mean(2)`",
    [2, 1],
    (axis) =>
      at(
        POOL,
        (x, y) => [
          onnxNode("line", "Reshape", [x, "to"]),
          onnxNode("vector", "ReduceMean", ["line"], { axes: ints(axis), keepdims: int(0) }),
          onnxNode(y, "Reshape", ["vector", "map"]),
        ],
        { to: wholes(0, CHANNELS, -1), map: wholes(-1, CHANNELS, 1, 1) },
      ),
    { twin: "elsewhere" },
  ),
];

const LINES: readonly Pair[] = [
  pair(
    POOL,
    "means over one axis after another, as `x.mean(-1).mean(-1)`",
    [-1, -2],
    (axis) =>
      at(
        POOL,
        (x, y) => [
          onnxNode("rows", "ReduceMean", [x], { axes: ints(-1), keepdims: int(0) }),
          onnxNode("vector", "ReduceMean", ["rows"], { axes: ints(axis), keepdims: int(0) }),
          onnxNode(y, "Reshape", ["vector", "map"]),
        ],
        { map: wholes(-1, CHANNELS, 1, 1) },
      ),
    { twin: "elsewhere" },
  ),
  pair(
    POOL,
    "a global pool of a map's pixels in a line, as `F.adaptive_avg_pool1d(x.flatten(2), 1)`",
    ["GlobalAveragePool", "GlobalMaxPool"],
    (opType) =>
      at(
        POOL,
        (x, y) => [
          onnxNode("line", "Reshape", [x, "to"]),
          onnxNode("pooled", opType, ["line"]),
          onnxNode("vector", "Squeeze", ["pooled", "last"]),
          onnxNode(y, "Reshape", ["vector", "map"]),
        ],
        { to: wholes(0, CHANNELS, -1), last: wholes(2), map: wholes(-1, CHANNELS, 1, 1) },
      ),
    { twin: "elsewhere" },
  ),
];

const TAIL: Pair = pair(
  "fc.1",
  "a linear layer as a convolution of one pixel, flattened last",
  [0, 1],
  (padding) => (model) =>
    [
      at("global_avgpool.flatten", (x, y) => [onnxNode(y, "Identity", [x])]),
      at(
        "fc.1",
        (x, y, { inputs: [, weight = "", bias = ""] }) => [
          onnxNode("kernel", "Reshape", [weight, "four"]),
          onnxNode(y, "Conv", [x, "kernel", bias], { pads: ints(padding, padding, padding, padding) }),
        ],
        { four: wholes(0, 0, 1, 1) },
      ),
      at("features", (x, y) => [onnxNode(y, "Flatten", [x])]),
    ].reduce((edited, edit) => edit(edited), model),
  { twin: "elsewhere" },
);

const PRODUCT = "conv2.0.gate[2]";

const EXPANDED: readonly Pair[] = [
  pair(
    PRODUCT,
    "a gate that is repeated over the map it multiplies, as `gate.expand_as(x)`",
    [true, false],
    (isRight) =>
      at(PRODUCT, (x, y, { inputs: [, gate = ""] }) => [
        onnxNode("shape", "Shape", [isRight ? x : "images"]),
        onnxNode("repeated", "Expand", [gate, "shape"]),
        onnxNode(y, "Mul", [x, "repeated"]),
      ]),
    { twin: "elsewhere" },
  ),
];

/** Nodes that repeat a gate over the map that it multiplies. */
const repeated = (
  name: string,
  numbers: readonly [number, number],
  nodes: (gate: string) => readonly OnnxNode[],
  constants: (n: number) => Constants,
): Pair =>
  pair(
    PRODUCT,
    name,
    numbers,
    (n) =>
      at(
        PRODUCT,
        (x, y, { inputs: [, gate = ""] }) => [...nodes(gate), onnxNode(y, "Mul", [x, "repeated"])],
        constants(n),
      ),
    { twin: "elsewhere" },
  );

const REPEATED: readonly Pair[] = [
  ...EXPANDED,
  repeated(
    "a gate that is repeated by `gate.expand(-1, -1, h, w)`, and not to other channels",
    [-1, 2 * CHANNELS],
    (gate) => [
      onnxNode("rank", "Shape", ["sizes"]),
      onnxNode("ones", "ConstantOfShape", ["rank"], { value: { type: "tensor", value: wholes(1) } }),
      onnxNode("none", "Mul", ["ones", "minus"]),
      onnxNode("isKept", "Equal", ["sizes", "none"]),
      onnxNode("to", "Where", ["isKept", "ones", "sizes"]),
      onnxNode("repeated", "Expand", [gate, "to"]),
    ],
    (n) => ({ sizes: wholes(-1, n, HEIGHT, WIDTH), minus: { ...wholes(-1), shape: [] } }),
  ),
  repeated(
    "a gate that is repeated by `gate.repeat(1, 1, h, w)`, and not its channels",
    [1, 2],
    (gate) => [onnxNode("repeated", "Tile", [gate, "times"])],
    (n) => ({ times: wholes(1, n, HEIGHT, WIDTH) }),
  ),
];

testPairs(...LINES, TAIL, ...MEANS, ...REPEATED, ...PASSED_ON, ...WINDOWS, ...PADDED, ...STRIDED, ...VECTORS);
