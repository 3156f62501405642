import { describe, expect, it } from "vitest";
import { lowerToOnnx, type OnnxOptions } from "../../../src/convert/export/onnx.js";
import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import {
  float,
  int,
  ints,
  type OnnxAttribute,
  type OnnxModel,
  type OnnxNode,
  onnxNode,
  text,
} from "../../../src/convert/formats/onnx/model.js";
import type { JsonObject } from "../../../src/convert/formats/tfjs/json.js";
import type { TfjsModel } from "../../../src/convert/formats/tfjs/model.js";
import type { Document } from "../../../src/convert/open/open-file.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { type Finding, proveDocument } from "../../../src/verify/proof/index.js";
import { checkpointOf } from "./seeds.js";

/** Tricks that leave a file looking right: each of them must lose the proof, and say where. */

const checkpoint = checkpointOf("osnet_x0_25.pth");
const { graph, stateDict } = checkpoint;

function proved(document: Document): Finding | string {
  return proveDocument(document, graph, stateDict);
}

/** A model of ours with its graph changed. */
function onnx(
  change: (graph: OnnxModel["graph"]) => Partial<OnnxModel["graph"]>,
  options: OnnxOptions = {},
  rest: Partial<OnnxModel> = {},
): Finding | string {
  const model = lowerToOnnx(graph, stateDict, options);
  return proved({
    format: "onnx",
    model: { ...model, ...rest, graph: { ...model.graph, ...change(model.graph) } },
  });
}

function nodeOf(
  change: (node: OnnxNode) => Partial<OnnxNode>,
  output: string,
  options: OnnxOptions = {},
): Finding | string {
  return onnx(
    ({ nodes }) => ({
      nodes: nodes.map((node) => (node.outputs[0] === output ? { ...node, ...change(node) } : node)),
    }),
    options,
  );
}

/** With nodes between a value and all that read it. */
function between(
  value: string,
  nodes: (from: string, to: string) => readonly OnnxNode[],
  constants: Record<string, Tensor> = {},
  options: OnnxOptions = {},
): Finding | string {
  const inner = "inner";
  return onnx(
    (own) => ({
      nodes: [
        ...own.nodes.map((node) => (node.outputs[0] === value ? { ...node, outputs: [inner] } : node)),
        ...nodes(inner, value),
      ],
      initializers: new Map([...own.initializers, ...Object.entries(constants)]),
    }),
    options,
  );
}

function scalar(value: number): Tensor<"float32"> {
  return { dtype: "float32", shape: [], data: Float32Array.of(value) };
}

function whole(...values: readonly bigint[]): Tensor<"int64"> {
  return { dtype: "int64", shape: [values.length], data: BigInt64Array.from(values) };
}

const withAttribute = (name: string, value: OnnxAttribute) => (node: OnnxNode) => ({
  attributes: new Map([...node.attributes, [name, value]]),
});

describe("an ONNX file", () => {
  const unfolded = { fold: false };
  const relu = "conv2.0.conv1.relu";
  const conv = "conv2.0.conv1.bn";

  it.each<[string, Finding | string, string]>([
    [
      "a clip that no picture reaches",
      between(relu, (x, y) => [onnxNode(y, "Clip", [x, "", "most"])], { most: scalar(1e9) }),
      "Clip",
    ],
    [
      "a clip by attributes",
      between(relu, (x, y) => [onnxNode(y, "Clip", [x], { max: float(1e9) })]),
      "Clip",
    ],
    [
      "a cast there and back",
      between(relu, (x, y) => [
        onnxNode("half", "Cast", [x], { to: int(10) }),
        onnxNode(y, "Cast", ["half"], { to: int(1) }),
      ]),
      "to = 10",
    ],
    [
      "a dropout in training mode",
      between(relu, (x, y) => [onnxNode(y, "Dropout", [x, "", "on"])]),
      "Dropout",
    ],
    [
      "a pad by one",
      between(relu, (x, y) => [onnxNode(y, "Pad", [x, "by"])], { by: whole(0n, 0n, 0n, 1n, 0n, 0n, 0n, 0n) }),
      "Pad",
    ],
    [
      "a pad that gives and takes",
      between(relu, (x, y) => [onnxNode(y, "Pad", [x, "by"])], {
        by: whole(0n, 0n, 1n, 0n, 0n, 0n, -1n, 0n),
      }),
      "Pad",
    ],
    [
      "quantised and back",
      between(
        relu,
        (x, y) => [onnxNode("q", "QuantizeLinear", [x, "s"]), onnxNode(y, "DequantizeLinear", ["q", "s"])],
        { s: scalar(1e-3) },
      ),
      "DequantizeLinear",
    ],
    ["a ReLU of another domain", nodeOf(() => ({ domain: "com.microsoft" }), relu), "com.microsoft.Relu"],
    ["SAME padding", nodeOf(withAttribute("auto_pad", text("SAME_UPPER")), conv), "auto_pad"],
    ["dilation", nodeOf(withAttribute("dilations", ints(2, 2)), conv), "dilations"],
    ["an attribute that no one knows", nodeOf(withAttribute("activation", text("Relu")), conv), "activation"],
    ["a pool that rounds up", nodeOf(withAttribute("ceil_mode", int(1)), "maxpool"), "ceil_mode"],
    [
      "a batch norm in training mode",
      nodeOf(withAttribute("training_mode", int(1)), conv, unfolded),
      "training_mode",
    ],
    ["a batch norm by pixel", nodeOf(withAttribute("spatial", int(0)), conv, unfolded), "spatial"],
    [
      "a batch norm of other outputs",
      nodeOf(({ outputs }) => ({ outputs: [...outputs, "mean", "variance"] }), conv, unfolded),
      "3 outputs",
    ],
    [
      "a mean over the batch",
      nodeOf(withAttribute("axes", ints(0, 3)), "conv2.0.gate[1].global_avgpool", { opset: 13 }),
      "ReduceMean",
    ],
    [
      "a mean of no axes",
      nodeOf(() => ({ attributes: new Map([["keepdims", int(1)]]) }), "conv2.0.gate[1].global_avgpool", {
        opset: 13,
      }),
      "ReduceMean",
    ],
    ["half of a product", nodeOf(withAttribute("alpha", float(0.5)), "fc.1"), "alpha"],
    ["a stream with itself", nodeOf(({ inputs: [a = ""] }) => ({ inputs: [a, a] }), "conv2.0.gate[2]"), ""],
    [
      "an optional input left out",
      nodeOf(({ inputs: [x = "", w = ""] }) => ({ inputs: [x, w, ""] }), conv),
      "inputs",
    ],
    [
      "weights that a caller may replace",
      onnx(({ inputs, initializers }) => ({
        inputs: [...inputs, { name: [...initializers.keys()][3] ?? "", dtype: "float32" }],
      })),
      "not constants",
    ],
    ["an output that is the input", onnx(() => ({ outputs: [{ name: "images" }] })), "input"],
    [
      "one more output",
      onnx(({ outputs, nodes }) => ({
        nodes: [...nodes, onnxNode("twice", "Add", ["features", "features"])],
        outputs: [...outputs, { name: "twice" }],
      })),
      "twice",
    ],
    ["a name for two values", nodeOf(() => ({ outputs: [relu] }), "conv2.0.conv2a.conv1"), "two values"],
    [
      "images of whole numbers",
      onnx(({ inputs: [input] }) => ({ inputs: [{ name: input?.name ?? "", dtype: "uint8" }] })),
      "float32",
    ],
    [
      "a reshape to two images",
      between("global_avgpool", (x, y) => [onnxNode(y, "Reshape", [x, "to"])], {
        to: whole(2n, 512n, 1n, 1n),
      }),
      "Reshape",
    ],
    ["local functions", onnx(() => ({}), {}, { inlined: 1 }), "functions"],
    ["operators of long ago", onnx(() => ({}), {}, { opset: 6 }), "operator sets"],
    [
      "a norm by a large least value",
      between(
        "features",
        (x, y) => [
          onnxNode("n", "ReduceL2", [x], { axes: ints(1) }),
          onnxNode("c", "Clip", ["n", "least"]),
          onnxNode(y, "Div", [x, "c"]),
        ],
        { least: scalar(10) },
        { opset: 13 },
      ),
      "Div",
    ],
  ])("with %s is not proven", (_what, finding, reason) => {
    expect(finding).toBeTypeOf("string");
    expect(finding).toContain(reason);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, 1e-42, -0])(
    "with the constant %s for another is not proven",
    (value) => {
      const finding = onnx(({ initializers }) => {
        const name = "conv2.0.gate.fc2.bias";
        const tensor = initializers.get(name);
        const data = Float32Array.from(tensor?.data as Float32Array);
        data[0] = value;
        return {
          initializers: new Map([
            ...initializers,
            [name, { dtype: "float32", shape: tensor?.shape ?? [], data }],
          ]),
        };
      });
      expect(finding).toContain("constant");
    },
  );

  it("is proven with what changes nothing: names, order, passing on, a norm at the end", () => {
    const shuffled = onnx(({ nodes }) => ({
      nodes: nodes.toReversed().map((node) => ({ ...node, name: "same" })),
    }));
    expect(shuffled).toMatchObject({ outputs: [{ layer: "fc.2" }] });
    const passed = between(relu, (x, y) => [
      onnxNode("i", "Identity", [x]),
      onnxNode(y, "Cast", ["i"], { to: int(1) }),
    ]);
    expect(passed).toMatchObject({ outputs: [{ layer: "fc.2" }] });
    const normalised = between("features", (x, y) => [
      onnxNode(y, "LpNormalization", [x], { axis: int(1), p: int(2) }),
    ]);
    expect(normalised).toMatchObject({ outputs: [{ layer: "fc.2", tail: "L2-normalised" }] });
  });
});

describe("a TensorFlow.js model", () => {
  const size = { height: 64, width: 32 };
  const layers = lowerToTfjsLayers(graph, stateDict, { size, fold: false });
  const model = lowerToTfjs(graph, stateDict, { size });

  /** A layers model with its topology changed as text. */
  const rewritten = (from: string, to: string): TfjsModel => {
    const before = JSON.stringify(layers.topology);
    const after = before.replace(from, to);
    expect(after).not.toBe(before);
    return { ...layers, topology: JSON.parse(after) as JsonObject };
  };
  const withNode = (name: string, attribute: string, value: JsonObject | boolean): TfjsModel => ({
    ...model,
    nodes: model.nodes.map((node) =>
      node.name === name
        ? {
            ...node,
            attributes: new Map([
              ...node.attributes,
              [attribute, typeof value === "boolean" ? { type: "bool", value } : { type: "other", value }],
            ]),
          }
        : node,
    ),
  });

  it("with a third term in a sum of an instance norm is not proven", () => {
    const { graph: network, stateDict: weights } = checkpointOf("osnet_ain_x0_25.pth");
    const normed = lowerToTfjsLayers(network, weights, { size, fold: false });
    const finding = (topology: JsonObject): Finding | string =>
      proveDocument({ format: "tfjs", model: { ...normed, topology } }, network, weights);
    expect(finding(normed.topology)).toMatchObject({ outputs: [{ layer: "fc.2" }] });
    const text = JSON.stringify(normed.topology);
    for (const [term, layer] of [
      ["conv1.bn-opposite", "centered"],
      ["conv1.bn-energy", "excess"],
      ["conv1.bn-correction", "corrected"],
    ]) {
      const sum = `["${term}",0,0,{}]]`;
      expect(text.split(sum), layer).toHaveLength(2);
      expect(finding(JSON.parse(text.replace(sum, `["${term}",0,0,{}],${sum}`)))).toContain("conv1.bn");
    }
  });

  it.each<[string, TfjsModel]>([
    [
      "a batch norm called in training mode",
      rewritten('[["conv1.conv",0,0,{}]]', '[["conv1.conv",0,0,{"training":true}]]'),
    ],
    ["an activation within a convolution", rewritten('"activation":"linear"', '"activation":"relu6"')],
    ["dilation", rewritten('"dilation_rate":[1,1]', '"dilation_rate":[2,2]')],
    ["another input", rewritten('"input_layers":[["images",0,0]]', '"input_layers":[["conv1.conv",0,0]]')],
    ["a layer that no one knows", rewritten('"class_name":"Activation"', '"class_name":"ThresholdedReLU"')],
    ["transposed weights", withNode("fc.2", "transpose_b", true)],
    ["an attribute that no one knows", withNode("conv1.relu", "scale", {})],
    ["a second signature", { ...model, metadata: { ...model.metadata, signature: {} } }],
    [
      "a node whose name hides another",
      {
        ...model,
        nodes: [...model.nodes, { name: "fc.2\n", op: "Relu", inputs: ["fc.2"], attributes: new Map() }],
      },
    ],
  ])("with %s is not proven", (_what, changed) => {
    expect(proved({ format: "tfjs", model })).toMatchObject({ outputs: [{ layer: "fc.2" }] });
    expect(proved({ format: "tfjs", model: changed })).toBeTypeOf("string");
  });
});
