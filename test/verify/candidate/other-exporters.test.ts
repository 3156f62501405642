import onnxProto from "onnx-proto";
import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import { float, int, ints, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import { encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { TfjsGraphModel } from "../../../src/convert/formats/tfjs/model.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import type { NamedBytes } from "../../../src/core/bytes.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { openVerification } from "../../../src/verify/open.js";
import type { Fault } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { withoutNames } from "../../mutation/candidates.js";
import {
  attribute,
  fedBy,
  floats,
  followed,
  gelu,
  multiplied,
  type OnnxEdit,
  operator,
  replaced,
  scalar,
  squared,
} from "../../mutation/onnx-edits.js";
import { SMALL, withTensor } from "../../support/osnet.js";
import { checkpoint, type Form, graph, judged, stateDict, written } from "./block-network.js";

/** Files whose layers have no names, so that they are found by structure, and files of ours that others have edited. */

const layersOf = (faults: readonly Fault[]): readonly string[] => faults.map(({ layer }) => layer);

const RELU = "conv2.0.conv1.relu";
const NORM = "conv2.0.conv3.bn";
const POOL = "conv2.1.1";

/** x − mean(x) over the batch, behind a value. */
const centred = (value: string): OnnxEdit =>
  followed(value, (before) => [
    onnxNode(`${value}.mean`, "ReduceMean", [before], { axes: ints(0) }),
    onnxNode(value, "Sub", [before, `${value}.mean`]),
  ]);

const shifted = (value: string, opType: "Add" | "Sub"): OnnxEdit =>
  followed(value, (before) => [onnxNode(value, opType, [before, `${value}.shift`])], {
    [`${value}.shift`]: scalar(0.1),
  });

/** A value as float16 (10) and as float32 (1) again. */
const narrowed = (value: string): OnnxEdit =>
  followed(value, (before) => [
    onnxNode(`${value}.half`, "Cast", [before], { to: int(10) }),
    onnxNode(value, "Cast", [`${value}.half`], { to: int(1) }),
  ]);

/** x/2 · (1 + tanh(√(2/π)(x + 0.044715x³))). */
const tanhGelu = (value: string): OnnxEdit =>
  replaced(
    value,
    ({ inputs: [x = ""] }) => [
      onnxNode(`${value}.cube`, "Pow", [x, `${value}.three`]),
      onnxNode(`${value}.part`, "Mul", [`${value}.cube`, `${value}.share`]),
      onnxNode(`${value}.sum`, "Add", [x, `${value}.part`]),
      onnxNode(`${value}.scaled`, "Mul", [`${value}.sum`, `${value}.root`]),
      onnxNode(`${value}.tanh`, "Tanh", [`${value}.scaled`]),
      onnxNode(`${value}.plus`, "Add", [`${value}.tanh`, `${value}.one`]),
      onnxNode(`${value}.product`, "Mul", [x, `${value}.plus`]),
      onnxNode(value, "Mul", [`${value}.product`, `${value}.half`]),
    ],
    {
      [`${value}.three`]: scalar(3),
      [`${value}.share`]: scalar(0.044715),
      [`${value}.root`]: scalar(Math.sqrt(2 / Math.PI)),
      [`${value}.one`]: scalar(1),
      [`${value}.half`]: scalar(0.5),
    },
  );

/** What was done, and the layers at one of which it must be found. */
const MISTAKES: readonly [says: string, edit: OnnxEdit, layers: readonly string[]][] = [
  ["a GELU at the end", gelu("fc.2"), ["fc.2"]],
  ["a GELU by tanh", tanhGelu(RELU), [RELU]],
  ["a squared ReLU", squared(RELU), [RELU]],
  ["a ReLU clipped at 6", clippedAt(RELU, 6), [RELU]],
  ["0.1 taken away", shifted(RELU, "Sub"), [RELU]],
  ["0.1 added to a batch norm", shifted(NORM, "Add"), [NORM, "conv2.0.add"]],
  ["a mean over the batch", centred(RELU), [RELU]],
  ["a mean over the batch behind a batch norm", centred(NORM), [NORM, "conv2.0.add"]],
  ["a factor behind a batch norm", multiplied(NORM, 2), [NORM, "conv2.0.add"]],
  ["a block's result times 2", multiplied("conv2.0", 2), ["conv2.0"]],
  ["a cast to float16 and back", narrowed(RELU), [RELU]],
  ["a cast of a block's result", narrowed("conv2.0"), ["conv2.0"]],
  ["a max pool that rounds up", attribute("maxpool", "ceil_mode", int(1)), ["maxpool"]],
  ["a max pool that skips pixels", attribute("maxpool", "dilations", ints(2, 2)), ["maxpool"]],
  ["a max pool without padding", attribute("maxpool", "pads", ints(0, 0, 0, 0)), ["maxpool"]],
  ["an average pool of other strides", attribute(POOL, "strides", ints(1, 1)), [POOL]],
  [
    "an average pool that counts its padding",
    (model) => attribute(POOL, "count_include_pad", int(1))(attribute(POOL, "pads", ints(1, 1, 1, 1))(model)),
    [POOL],
  ],
];

function clippedAt(value: string, most: number): OnnxEdit {
  return replaced(
    value,
    (own) => [
      {
        ...own,
        opType: "Clip",
        inputs: [...own.inputs.slice(0, 1), `${value}.least`, `${value}.most`],
      },
    ],
    { [`${value}.least`]: scalar(0), [`${value}.most`]: scalar(most) },
  );
}

const FORMS: readonly Form[] = [{}, { fold: false }, { names: true }, { names: true, fold: false }];

/** One form, the next in turn: the mutation suite has the same edits in all of them. */
function formOf(turn: number): Form {
  return FORMS[turn % FORMS.length] ?? {};
}

describe("one mistake is one fault, in every form of the file", () => {
  it.each(MISTAKES)("%s", async (name, edit, layers) => {
    const form = formOf(MISTAKES.findIndex(([says]) => says === name));
    const { passed, faults } = await judged(written(edit, form));
    expect([passed, faults.length], JSON.stringify(form)).toEqual([false, 1]);
    expect(layers).toContain(faults[0]?.layer);
  });

  it("a cast of the images to float16 is at the images", async () => {
    const edit = fedBy(
      [
        onnxNode("half", "Cast", ["images"], { to: int(10) }),
        onnxNode("whole", "Cast", ["half"], { to: int(1) }),
      ],
      "whole",
    );
    for (const form of [{}, { names: true, fold: false }])
      expect(layersOf((await judged(written(edit, form))).faults)).toEqual(["images"]);
  });
});

const GATE = "conv2.0.gate[2].gate_activation";

/** Other words for the same function. */
const SPELLINGS: readonly [says: string, edit: OnnxEdit][] = [
  ["LeakyRelu of slope 0", operator(RELU, "LeakyRelu", { alpha: float(0) })],
  ["Elu of factor 0", operator(RELU, "Elu", { alpha: float(0) })],
  ["ThresholdedRelu at 0", operator(RELU, "ThresholdedRelu", { alpha: float(0) })],
  [
    "PRelu of slopes 0",
    replaced("fc.2", (own) => [{ ...own, opType: "PRelu", inputs: [...own.inputs, "slope"] }], {
      slope: floats(0),
    }),
  ],
  ["a ReLU of a ReLU", followed("fc.2", (before) => [onnxNode("fc.2", "Relu", [before])])],
  [
    "times 2, times 1/2",
    followed(
      RELU,
      (before) => [onnxNode("twice", "Mul", [before, "two"]), onnxNode(RELU, "Mul", ["twice", "half"])],
      { two: scalar(2), half: scalar(0.5) },
    ),
  ],
  [
    "x + (x − x)",
    followed(NORM, (before) => [
      onnxNode("nothing", "Sub", [before, before]),
      onnxNode(NORM, "Add", [before, "nothing"]),
    ]),
  ],
  ["0 added", followed(NORM, (before) => [onnxNode(NORM, "Add", [before, "zero"])], { zero: scalar(0) })],
  [
    "a sigmoid in four operators",
    replaced(
      GATE,
      ({ inputs: [x = ""] }) => [
        onnxNode("minus", "Neg", [x]),
        onnxNode("power", "Exp", ["minus"]),
        onnxNode("plus", "Add", ["power", "one"]),
        onnxNode(GATE, "Div", ["one", "plus"]),
      ],
      { one: scalar(1) },
    ),
  ],
];

describe("other words for the same function are no fault, and not proven", () => {
  it.each(SPELLINGS)("%s", async (name, edit) => {
    const form = formOf(SPELLINGS.findIndex(([says]) => says === name));
    const { faults, proof } = await judged(written(edit, form));
    expect(faults, JSON.stringify(form)).toEqual([]);
    expect(proof?.status).toBe("sampled");
  });
});

describe("what the structure says is not lost", () => {
  it("where an osnet-convert file has unknown operators in the place of every gate", async () => {
    const edit: OnnxEdit = (model) =>
      graph.nodes
        .filter(({ op }) => op.kind === "scale")
        .reduce(
          (all, { name }) => followed(name, (before) => [onnxNode(name, "Mean", [before, before])])(all),
          model,
        );
    const { passed, faults } = await judged(written(edit, { names: true }));
    expect(passed).toBe(false);
    expect(faults.map(({ kind, layer }) => [kind, layer])).toEqual([["structure", "conv2.0.aggregate"]]);
  });

  it("where TensorFlow.js has another activation in a fused operator that the images do not reach", async () => {
    for (const step of ["Relu6", "LeakyRelu"]) {
      const { passed, faults } = await judged(fused("conv2.0.conv2b.1.relu", step));
      expect(passed).toBe(false);
      expect(layersOf(faults)).toEqual(["conv2.0.conv2b.1.relu"]);
    }
  });

  it("and of an operator that computes layers by itself: a limit no image reaches", async () => {
    const relu6 = graphModel((node) => (node.name === "conv2.0" ? { ...node, op: "Relu6" } : node));
    const { passed, faults } = await judged(relu6);
    expect([passed, layersOf(faults)]).toEqual([false, ["conv2.0"]]);
  });
});

type TfjsNode = TfjsGraphModel["nodes"][number];

function graphModel(edit: (node: TfjsNode) => TfjsNode): NamedBytes {
  const model = lowerToTfjs(graph, stateDict, { size: SMALL });
  const { json, shards } = encodeTfjs({ ...model, nodes: model.nodes.map(edit) });
  return { name: "model.json", bytes: json, beside: shards };
}

function fused(layer: string, step: string): NamedBytes {
  return graphModel((node) => {
    const steps = node.attributes.get("fused_ops");
    if (node.name !== layer || steps?.type !== "strings") return node;
    const value = steps.value.map((own) => (own === "Relu" ? step : own));
    return { ...node, attributes: new Map([...node.attributes, ["fused_ops", { ...steps, value }]]) };
  });
}

describe("outputs", () => {
  it("under the name of another result are faults", async () => {
    const exchange: OnnxEdit = (model) => {
      const other: Readonly<Record<string, string>> = { features: "logits", logits: "features" };
      const rename = (name: string): string => other[name] ?? name;
      return {
        ...model,
        graph: {
          ...model.graph,
          nodes: model.graph.nodes.map((node) => ({ ...node, outputs: node.outputs.map(rename) })),
          outputs: model.graph.outputs.toReversed(),
        },
      };
    };
    const honest = { output: "both" } as const;
    expect((await judged(written(undefined, honest))).passed).toBe(true);
    const { faults } = await judged(written(exchange, honest));
    expect(faults.map(({ kind }) => kind)).toEqual(["structure", "structure"]);
    expect(faults[0]?.explanation).toContain("logits");
  });
});

const G = "conv2.0.gate[2].relu";

/** A value quantised by one step and taken by another, which is a factor of their quotient where the images reach it. */
const rescaled = (value: string, steps: readonly [number, number]): OnnxEdit =>
  followed(
    value,
    (before) => [
      onnxNode(`${value}.integers`, "QuantizeLinear", [before, `${value}.step`, `${value}.zero`]),
      onnxNode(value, "DequantizeLinear", [`${value}.integers`, `${value}.other`, `${value}.zero`]),
    ],
    {
      [`${value}.step`]: scalar(steps[0]),
      [`${value}.other`]: scalar(steps[1]),
      [`${value}.zero`]: { dtype: "uint8", shape: [], data: Uint8Array.of(0) },
    },
  );

describe("quantising", () => {
  /** The hidden units of a gate give zeros for any images, whatever step they are quantised with. */
  const dead = withDeadGate();

  it("by one step and back by another is a fault, though no image reaches the gate", async () => {
    for (const form of [{ fold: false }, { names: true }] satisfies Form[]) {
      const model = lowerToOnnx(dead.graph, dead.stateDict, { size: SMALL, ...form });
      const edited = rescaled(G, [1, 2])(model);
      const bytes = encodeOnnx(form.names ? edited : withoutNames(edited));
      const report = await verify(
        await openVerification(
          { name: "m.onnx", bytes },
          { name: "w.pth", bytes: new Uint8Array(), checkpoint: dead },
        ),
      );
      expect([report.passed, report.proof?.status], JSON.stringify(form)).toEqual([false, "sampled"]);
      expect(report.faults.every(({ layer }) => layer.startsWith("conv2.0.gate["))).toBe(true);
    }
  });

  it("with the same step is a fault too: it would saturate where an image reaches the gate", async () => {
    const model = rescaled(G, [1, 1])(lowerToOnnx(dead.graph, dead.stateDict, { size: SMALL }));
    const report = await verify(
      await openVerification(
        { name: "m.onnx", bytes: encodeOnnx(withoutNames(model)) },
        { name: "w.pth", bytes: new Uint8Array(), checkpoint: dead },
      ),
    );
    expect(report.passed).toBe(false);
    expect(report.faults).toMatchObject([{ kind: "structure", layer: G }]);
    expect(report.faults[0]?.explanation).toContain("QuantizeLinear");
  });
});

describe("an operator with one number", () => {
  it.each([
    ["a product with 0.3", multiplied(NORM, 0.3)],
    ["a sum with 0.1", shifted(NORM, "Add")],
  ])("is named with it: %s", async (says, edit) => {
    const { passed, faults } = await judged(written(edit));
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ kind: "structure", explanation: expect.stringContaining(says) }]);
  });
});

describe("what follows from quantised activations is part of their fault", () => {
  const integer: OnnxEdit = (model) => {
    const { nodes, initializers } = model.graph;
    const bias = initializers.get("conv2.0.gate.fc2.bias");
    const size = bias?.data.length ?? 0;
    const zero: Tensor = { dtype: "int8", shape: [], data: Int8Array.of(0) };
    return {
      ...model,
      graph: {
        ...model.graph,
        nodes: [
          onnxNode("own.bias", "DequantizeLinear", ["whole", "step"]),
          ...nodes.flatMap((node) => {
            // No zero point of the lowest value stands for this ReLU.
            if (node.outputs[0] === G)
              return [
                onnxNode("integers", "QuantizeLinear", [node.inputs[0] ?? "", "step", "zero"]),
                onnxNode(G, "DequantizeLinear", ["integers", "step", "zero"]),
              ];
            const isOwn = node.outputs[0] === "conv2.0.gate[2].fc2";
            return isOwn ? { ...node, inputs: [...node.inputs.slice(0, 2), "own.bias"] } : node;
          }),
        ],
        initializers: new Map([
          ...initializers,
          ["whole", { dtype: "int32", shape: [size], data: new Int32Array(size).fill(9) }],
          ["step", scalar(0.125)],
          ["zero", zero],
        ]),
      },
    };
  };

  it("a ReLU left out, a bias in the steps of a stream, and all values behind", async () => {
    const { passed, faults } = await judged(written(integer));
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ kind: "structure" }]);
    expect(faults[0]?.explanation).toContain("QuantizeLinear");
    expect(faults[0]?.explanation).toContain(G);
    expect(faults[0]?.explanation).toMatch(/biases .*conv2\.0\.gate\[2\]\.fc2/);
  });
});

function withDeadGate(): Checkpoint {
  const path = "conv2.0.gate.fc1.bias";
  return {
    ...checkpoint,
    stateDict: withTensor(stateDict, path, ({ shape, data }) => ({
      dtype: "float32",
      shape,
      data: new Float32Array(data.length).fill(-1e4),
    })),
  };
}

describe("factors of a matrix product", () => {
  it.each([
    ["alpha", float(3), true],
    ["beta", float(0), false],
  ] as const)("%s is a fault of the linear layer: %j, names %s", async (name, value, names) => {
    const { passed, faults } = await judged(written(attribute("fc.1", name, value), { names }));
    expect(passed).toBe(false);
    expect(faults).toHaveLength(1);
    expect(faults[0]?.layer).toMatch(/^fc\.[01]$/);
    if (!names) expect(faults[0]?.explanation).toContain(name);
  });
});

/** The same file with two nodes that follow each other in a function of its own, without names. */
function withFunction(last: string): NamedBytes {
  const { name, bytes } = written(undefined, { names: true, fold: false });
  const model = onnxProto.onnx.ModelProto.toObject(onnxProto.onnx.ModelProto.decode(bytes as Uint8Array));
  const nodes: onnxProto.onnx.INodeProto[] = model.graph.node;
  const at = nodes.findIndex(({ output }) => output?.[0] === last);
  const body = nodes.slice(at - 1, at + 1).map((node) => ({ ...node, name: "" }));
  const own = body.flatMap(({ output }) => output ?? []);
  const input = [...new Set(body.flatMap((node) => node.input ?? []))].filter(
    (value) => !own.includes(value),
  );
  const opsetImport = [{ domain: "", version: 17 }];
  const domain = "own";
  nodes.splice(at - 1, 2, { opType: "Pair", domain, name: last, input, output: [last] });
  const changed = {
    ...model,
    irVersion: 8,
    opsetImport: [...model.opsetImport, { domain, version: 1 }],
    functions: [{ name: "Pair", domain, input, output: [last], node: body, opsetImport }],
  };
  return { name, bytes: onnxProto.onnx.ModelProto.encode(changed).finish() };
}

it.each(["fc.2", "conv1.relu"])("%s in a function of nodes without names is found", async (last) => {
  const { passed, faults, coverage } = await judged(withFunction(last));
  expect(faults).toEqual([]);
  expect([passed, coverage.missing]).toEqual([true, []]);
});

it("a window that is larger than its map is a fault, and is not run: onnxruntime would end the process", async () => {
  const model = lowerToOnnx(checkpoint.graph, checkpoint.stateDict, { size: "dynamic" });
  const large = new Map([
    ["kernel_shape", ints(32, 16)],
    ["strides", ints(16, 8)],
  ]);
  const nodes = model.graph.nodes.map((node) =>
    node.outputs[0] === "conv2.0.gate[1].global_avgpool"
      ? { ...node, opType: "AveragePool", inputs: node.inputs.slice(0, 1), attributes: large }
      : node,
  );
  const bytes = encodeOnnx({ ...model, graph: { ...model.graph, nodes } });
  const report = await verify(
    await openVerification(
      { name: "m.onnx", bytes },
      { name: "w.pth", bytes: new Uint8Array(), checkpoint },
      { size: SMALL },
    ),
  );
  expect(report.faults).toMatchObject([{ kind: "structure", layer: "conv2.0.gate[1].global_avgpool" }]);
  expect(JSON.stringify(report)).toContain("larger than its map");
});
