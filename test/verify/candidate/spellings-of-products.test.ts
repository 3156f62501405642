import { float, int, ints, type OnnxNode, onnxNode, text } from "../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { attribute, floats, scalar, wholes } from "../../mutation/onnx-edits.js";
import { at, type Constants, type Pair, pair, testPairs, upTo } from "./spelling-pairs.js";

/** Norms, products and their constants, in other words (spelling-pairs.ts). */

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

const BATCH_NORM = "conv2.0.conv2b.0.bn";
const vectorOf = (values: Tensor): Tensor => ({ ...values, shape: [values.data.length, 1, 1] }) as Tensor;

/** (x − μ) / √(σ² + ε) · γ + β, operator by operator. */
const BATCH_NORMS: readonly Pair[] = [
  pair(
    BATCH_NORM,
    "a batch norm as four operators",
    EPSILON,
    (k) => (model) => {
      const { nodes, initializers } = model.graph;
      const [, ...names] = nodes.find(({ outputs }) => outputs[0] === BATCH_NORM)?.inputs ?? [];
      const [gamma, beta, mean, variance] = names.map((name) => initializers.get(name) as Tensor);
      const root = Float32Array.from(variance?.data as Float32Array, (value) => Math.sqrt(value + k));
      return at(
        BATCH_NORM,
        (x, y) => [
          onnxNode("c", "Sub", [x, "mean"]),
          onnxNode("n", "Div", ["c", "root"]),
          onnxNode("s", "Mul", ["n", "gamma"]),
          onnxNode(y, "Add", ["s", "beta"]),
        ],
        {
          mean: vectorOf(mean as Tensor),
          root: vectorOf({ ...(variance as Tensor<"float32">), data: root }),
          gamma: vectorOf(gamma as Tensor),
          beta: vectorOf(beta as Tensor),
        },
      )(model);
    },
    { twin: "numeric", fold: false },
  ),
];

/** A layer as an Einsum of its inputs by the right equation, and by another. */
const einsum = (layer: string, right: string, wrong: string): Pair =>
  pair(
    layer,
    right,
    [right, wrong],
    (equation) =>
      at(layer, (_, y, { inputs: [a = "", b = "", c] }) => [
        onnxNode(c === undefined ? y : "sum", "Einsum", [a, b], { equation: text(equation) }),
        ...(c === undefined ? [] : [onnxNode(y, "Add", ["sum", c])]),
      ]),
    { twin: layer === "fc.0" ? "elsewhere" : "structural", fold: false },
  );

const EINSUMS: readonly Pair[] = [
  einsum("fc.0", "bi,oi->bo", "bi,oj->bo"),
  einsum("conv2.0.gate[2]", "nchw,ncij->nchw", "nchw,ndij->nchw"),
];

const NORMS: readonly Pair[] = [
  ...EINSUMS,
  ...BATCH_NORMS,
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

const PRODUCT = "conv2.0.conv2b.0.bn";

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

testPairs(...NORMS, ...PRODUCTS);
