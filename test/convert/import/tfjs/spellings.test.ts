import { describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../../src/convert/export/tfjs-layers-model.js";
import type { JsonObject } from "../../../../src/convert/formats/tfjs/json.js";
import type { TfjsAttribute, TfjsGraphModel, TfjsNode } from "../../../../src/convert/formats/tfjs/model.js";
import { matchTfjs, translateTfjs } from "../../../../src/convert/import/tfjs/translate.js";
import { tinyCheckpoint } from "../../../mutation/families.js";
import { SMALL } from "../../../support/osnet.js";

/** TensorFlow's ways to write a ReLU, or nothing, each with a twin that differs in one number: no finding, and one. */

const { graph, stateDict } = tinyCheckpoint("osnet");
const GRAPH = lowerToTfjs(graph, stateDict, { size: SMALL, fuse: false });
const LAYERS = lowerToTfjsLayers(graph, stateDict, { size: SMALL });
const RELU = "conv3.0.conv2b.0.relu";

const findings = (model: Parameters<typeof translateTfjs>[0]): readonly string[] =>
  matchTfjs(translateTfjs(model, "m"), { subject: "m", graph }).differences.map(({ layer }) => layer);

function node(
  name: string,
  op: string,
  inputs: readonly string[],
  attributes: Record<string, TfjsAttribute> = {},
) {
  return { name, op, inputs, attributes: new Map(Object.entries(attributes)) } satisfies TfjsNode;
}

/** The graph with other nodes for a ReLU, and the constants 0, `k` and `none`, a list of no numbers. */
function instead(k: number, by: (x: string, y: string) => readonly TfjsNode[]): TfjsGraphModel {
  const constant = (value: number) => ({
    tensor: { dtype: "float32", shape: [], data: Float32Array.of(value) } as const,
  });
  const nodes = GRAPH.nodes.flatMap((own) => (own.name === RELU ? by(own.inputs[0] ?? "", RELU) : [own]));
  const none = { tensor: { dtype: "int32", shape: [0], data: new Int32Array() } } as const;
  const constants = { k: constant(k), zero: constant(0), none };
  return {
    ...GRAPH,
    nodes: [...Object.keys(constants).map((name) => node(name, "Const", [])), ...nodes],
    weights: new Map([...GRAPH.weights, ...Object.entries(constants)]),
  };
}

const toFloat = { DstT: { type: "dtype", value: "DT_FLOAT" } } as const;

describe("TensorFlow's operators", () => {
  it.each<readonly [string, number, number, Parameters<typeof instead>[1]]>([
    [
      "SelectV2 by Greater",
      0,
      0.25,
      (x, y) => [node("c", "Greater", [x, "k"]), node(y, "SelectV2", ["c", x, "zero"])],
    ],
    [
      "Select by not LessEqual",
      0,
      0.25,
      (x, y) => [
        node("c", "LessEqual", [x, "k"]),
        node("n", "LogicalNot", ["c"]),
        node(y, "Select", ["n", x, "zero"]),
      ],
    ],
    [
      "a product with a comparison as a number",
      0,
      0.25,
      (x, y) => [
        node("c", "GreaterEqual", [x, "k"]),
        node("f", "Cast", ["c"], toFloat),
        node(y, "Mul", [x, "f"]),
      ],
    ],
    [
      "Maximum, IdentityN and a cast to float32",
      0,
      0.25,
      (x, y) => [
        node("m", "Maximum", [x, "k"]),
        node("i", "IdentityN", ["m"]),
        node(y, "Cast", ["i"], toFloat),
      ],
    ],
  ])("%s are a ReLU, or a finding", (_, right, wrong, by) => {
    expect(findings(instead(right, by))).toEqual([]);
    expect(findings(instead(wrong, by))).toEqual([RELU]);
  });
});

describe("a shape of the batch and constants, as Keras' Reshape and Flatten compute it", () => {
  const FLATTEN = "global_avgpool.flatten";
  const packed = (batch: (x: string) => readonly TfjsNode[]): TfjsGraphModel => {
    const whole = (value: number, shape: readonly number[] = []) => ({
      tensor: { dtype: "int32", shape, data: Int32Array.of(value) } as const,
    });
    const nodes = GRAPH.nodes.flatMap((own) => {
      const [x = ""] = own.inputs;
      if (own.name !== FLATTEN) return [own];
      return [
        ...batch(x),
        node("target", "Pack", ["batch", "columns"]),
        node(FLATTEN, "Reshape", [x, "target"]),
      ];
    });
    const columns = whole(stateDict.get("fc.0.weight")?.shape[1] ?? 0);
    const constants = { from: whole(0, [1]), to: whole(1, [1]), by: whole(1, [1]), zero: whole(0), columns };
    return {
      ...GRAPH,
      nodes: [...Object.keys(constants).map((name) => node(name, "Const", [])), ...nodes],
      weights: new Map([...GRAPH.weights, ...Object.entries(constants)]),
    };
  };

  it("is a flattening, and one that depends on the images themselves is none", () => {
    const ofShape = packed((x) => [
      node("shape", "Shape", [x]),
      node("batch", "StridedSlice", ["shape", "from", "to", "by"], {
        shrink_axis_mask: { type: "int", value: 1 },
      }),
    ]);
    const ofImages = packed((x) => [node("batch", "Max", [x, "zero"])]);
    const layers = [ofShape, ofImages].map((model) =>
      matchTfjs(translateTfjs(model, "m"), { subject: "m", graph }).outputs.map(({ layer }) => layer),
    );
    expect(layers).toEqual([["fc.2"], ["global_avgpool.flatten"]]);
  });
});

describe("A parameter that depends on the images", () => {
  const twice = { N: { type: "int", value: 2 } } as const;
  it.each<readonly [op: string, parameters: (computed: string) => readonly string[]]>([
    ["PadV2", (computed) => [computed, "zero"]],
    ["PadV2", (computed) => ["none", `^${computed}`]],
    ["Transpose", (computed) => [computed]],
    ["ReverseV2", (computed) => [computed]],
    ["GatherV2", (computed) => ["k", computed]],
    ["StridedSlice", (computed) => [computed, "none", "none"]],
    ["StridedSlice", (computed) => ["none", computed, "none"]],
    ["ConcatV2", (computed) => ["k", computed]],
  ])("is none of %s", (op, parameters) => {
    const { nodes } = translateTfjs(
      instead(0, (x, y) => [
        node("m", "Max", [x, "none"]),
        node("computed", "ConcatV2", ["m", "none", "zero"], twice),
        node(y, op, [x, ...parameters("computed")], op === "ConcatV2" ? twice : {}),
      ]),
      "m",
    ).graph;
    const [computed, written] = ["computed", RELU].map((name) => nodes.find((each) => each.name === name));
    expect(computed).toMatchObject({ opType: "Concat", domain: "" });
    expect(written).toMatchObject({ opType: op, domain: "tensorflow" });
  });
});

describe("The names of a reader's own constants", () => {
  it("are not those of weights", () => {
    const limit = { tensor: { dtype: "float32", shape: [], data: Float32Array.of(3e38) } } as const;
    const model = instead(0, (x, y) => [node(y, "Relu6", [x])]);
    const other = Object.fromEntries([`${RELU}#most`, `${RELU}^most`].map((name) => [name, limit]));
    expect(findings({ ...model, weights: new Map([...model.weights, ...Object.entries(other)]) })).toEqual([
      RELU,
    ]);
    const layers = layerInstead("Rescaling", { scale: 2 });
    const weights = new Map([...layers.weights, ...Object.entries({ [`${RELU}#0^scale`]: limit })]);
    expect(() => translateTfjs({ ...layers, weights }, "m")).toThrow(
      expect.objectContaining({ code: "format" }),
    );
  });
});

describe("What tfjs reads otherwise than TensorFlow", () => {
  const fused = lowerToTfjs(graph, stateDict, { size: SMALL });
  const text = (...value: readonly string[]): TfjsAttribute => ({ type: "strings", value });
  /** A node of an operator, within a block, with other attributes. */
  const edited = (model: TfjsGraphModel, op: string, attributes: Record<string, TfjsAttribute | null>) => {
    const own = model.nodes.find((each) => each.op === op && each.name.startsWith("conv3.0"));
    if (!own) throw new Error(`no ${op}`);
    const all = new Map<string, TfjsAttribute | null>([...own.attributes, ...Object.entries(attributes)]);
    const kept = [...all].filter((entry): entry is [string, TfjsAttribute] => entry[1] !== null);
    const node = { ...own, attributes: new Map(kept) };
    return { ...model, nodes: model.nodes.map((each) => (each === own ? node : each)) };
  };

  it("is a convolution's third fused operator, or an activation without a bias", () => {
    for (const steps of [["BiasAdd", "LeakyRelu", "Relu"], ["Relu"], ["BiasAdd", "Relu", "Relu"], []])
      expect(
        findings(edited(fused, "_FusedConv2D", { fused_ops: text(...steps) })),
        String(steps),
      ).not.toEqual([]);
    expect(findings(edited(fused, "_FusedConv2D", { num_args: { type: "int", value: 2 } }))).not.toEqual([]);
    expect(findings(edited(GRAPH, "Conv2D", { fused_ops: text("BiasAdd") }))).not.toEqual([]);
  });

  it("is a batch norm that does not say whether it trains: it does not", () => {
    const model = lowerToTfjs(graph, stateDict, { size: SMALL, fold: false, fuse: false });
    expect(findings(edited(model, "FusedBatchNormV3", { is_training: null }))).toEqual([]);
    expect(
      findings(edited(model, "FusedBatchNormV3", { is_training: { type: "bool", value: true } })),
    ).not.toEqual([]);
  });

  it("is a batch norm that does not give its ε: 0.001 in tfjs", () => {
    const model = lowerToTfjs(graph, stateDict, { size: SMALL, fold: false, fuse: false });
    const without = translateTfjs(edited(model, "FusedBatchNormV3", { epsilon: null }), "m");
    expect(matchTfjs(without, { subject: "m", graph }).differences).toMatchObject([
      { layer: "conv3.0.conv1.bn", found: "epsilon 0.001" },
    ]);
  });

  it("is an attribute of another type or in small letters, and an input too many", () => {
    expect(
      findings(edited(GRAPH, "Conv2D", { strides: { type: "floats", value: [1, 1, 1, 1] } })),
    ).not.toEqual([]);
    expect(findings(edited(GRAPH, "Conv2D", { data_format: { type: "string", value: "nchw" } }))).not.toEqual(
      [],
    );
    expect(
      findings(instead(0, (x, y) => [node("m", "Maximum", [x, "k", x]), node(y, "Relu", ["m"])])),
    ).toEqual([RELU]);
  });
});

interface Topology {
  readonly model_config: {
    readonly config: { readonly layers: { name: string; class_name: string; config: JsonObject }[] };
  };
}

/** The layers model with another layer for a ReLU. */
function layerInstead(className: string, config: JsonObject): typeof LAYERS {
  const topology = structuredClone(LAYERS.topology) as unknown as Topology;
  const layers = topology.model_config.config.layers;
  const at = layers.findIndex(({ name }) => name === RELU);
  const own = layers[at];
  if (!own) throw new Error(`no layer ${RELU}: ${layers.map(({ name }) => name).join(", ")}`);
  layers[at] = { ...own, class_name: className, config: { name: own.config.name ?? RELU, ...config } };
  return { ...LAYERS, topology: topology as unknown as JsonObject };
}

describe("Keras's layers", () => {
  it.each<readonly [string, JsonObject, JsonObject]>([
    ["LeakyReLU", { alpha: 0 }, {}],
    // tfjs does not read Keras 3's name for a slope, nor other than the maximum of a ReLU.
    ["LeakyReLU", { alpha: 0, negative_slope: null }, { negative_slope: 0 }],
    ["ReLU", { max_value: null, negative_slope: 0, threshold: 0 }, { max_value: 20 }],
    ["ReLU", {}, { max_value: 0 }],
    ["ReLU", {}, { negative_slope: 0.1 }],
    ["ReLU", {}, { any: 1 }],
    [
      "Activation",
      { activation: "relu", kernel_regularizer: {}, kernel_constraint: null },
      { activation: "relu", kernel_constraint: {} },
    ],
    ["Activation", { activation: "relu" }, { activation: { class_name: "relu", config: {} } }],
    ["Activation", { activation: "relu" }, { activation: "relu", constructor: 1 }],
    ["ELU", { alpha: 0 }, { alpha: 1 }],
    ["ThresholdedReLU", { theta: 0 }, { theta: 0.5 }],
  ])("%s of %j are a ReLU, and of %j a finding", (className, right, wrong) => {
    expect(findings(layerInstead(className, right))).toEqual([]);
    expect(findings(layerInstead(className, wrong))).toEqual([RELU]);
  });

  it("of no activation have none, whatever their configuration says", () => {
    expect(findings(layerInstead("Dropout", { rate: 0.5, activation: "relu" }))).toEqual([RELU]);
    const settings = (change: JsonObject) => {
      const topology = structuredClone(LAYERS.topology) as unknown as Topology;
      const conv = topology.model_config.config.layers.find(({ name }) => /conv3.*gate.*fc1/.test(name));
      Object.assign(conv?.config ?? {}, change);
      return { ...LAYERS, topology: topology as unknown as JsonObject };
    };
    expect(findings(settings({ activation: null }))).toEqual([]);
    const relu6: JsonObject = { class_name: "relu6", config: {} };
    for (const change of [
      { activation: relu6 },
      { data_format: "channelsFirst" },
      { padding: "SAME" },
      { strides: { type: "ndarray", value: 1 } },
    ])
      expect(findings(settings(change)), JSON.stringify(change)).not.toEqual([]);
  });

  it.each(["GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"])(
    "%s does nothing in evaluation: the ReLU is missing",
    (className) => {
      const { differences } = matchTfjs(translateTfjs(layerInstead(className, {}), "m"), {
        subject: "m",
        graph,
      });
      expect(differences).toMatchObject([{ layer: RELU, found: "nothing in its place" }]);
    },
  );
});
