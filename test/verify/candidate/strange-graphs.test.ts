import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import { IMAGENET } from "../../../src/convert/export/options.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import {
  int,
  type OnnxAttribute,
  type OnnxGraph,
  type OnnxModel,
  type OnnxNode,
  onnxNode,
  text,
} from "../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import {
  anonymous,
  int64,
  ints,
  replaceNode,
  withAttribute,
  withConstants,
  withNodes,
} from "../../convert/import/graphs.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { followed, type OnnxEdit, operator } from "../../mutation/onnx-edits.js";
import { SMALL, withTensor, withValues } from "../../support/osnet.js";

/** Graphs as nobody exports them: each mistake in one is one finding at its layer, and what is none is read. */

const CHECKPOINT = tinyCheckpoint("block");

function judged(edit: (model: OnnxModel) => OnnxModel, fold = true): Promise<ParityReport> {
  const model = edit(lowerToOnnx(CHECKPOINT.graph, CHECKPOINT.stateDict, { size: SMALL, fold }));
  return openVerification(
    { name: "m.onnx", bytes: encodeOnnx(anonymous(model)) },
    { name: "w.pth", bytes: new Uint8Array(), checkpoint: CHECKPOINT },
    { images: { source: "test", tensor: seededImages(0, 2, 64, 32) } },
  ).then(verify);
}

async function findings(...edit: Parameters<typeof judged>): Promise<readonly string[]> {
  const { passed, faults } = await judged(...edit);
  expect(passed).toBe(faults.length === 0);
  return faults.map(({ kind, layer, explanation }) => `${kind} ${layer}: ${explanation}`);
}

const RELU = "conv2.0.conv2c.0.relu";

/** The ReLU of a layer behind an `If`, whose other branch has an absolute value. */
function branching(
  conditionOf: readonly OnnxNode[] | ((x: string) => readonly OnnxNode[]),
  constants: Readonly<Record<string, Tensor>>,
  layer = RELU,
): (model: OnnxModel) => OnnxModel {
  return (model) =>
    withConstants(
      replaceNode(model, layer, ({ inputs: [x = ""], outputs: [y = ""] }) => {
        const condition = typeof conditionOf === "function" ? conditionOf(x) : conditionOf;
        const branch = (opType: string): OnnxGraph => ({
          name: opType,
          inputs: [],
          outputs: [{ name: `${opType}.y` }],
          nodes: [onnxNode(`${opType}.y`, opType, [x])],
          initializers: new Map(),
        });
        return [
          ...condition,
          onnxNode(y, "If", ["condition"], {
            then_branch: { type: "graph", value: branch("Abs") },
            else_branch: { type: "graph", value: branch("Relu") },
          }),
        ];
      }),
      constants,
    );
}

describe("an If", () => {
  it("whose condition is not decided beforehand is one finding, at its layer", async () => {
    const edit = branching([onnxNode("condition", "GreaterOrEqual", ["one", "two"])], {
      one: int64(1),
      two: int64(2),
    });
    expect(await findings(edit)).toEqual([`structure ${RELU}: found If, expected a ReLU`]);
  });

  it("that depends on the images is refused inside a branch that is taken", async () => {
    const edit = (model: OnnxModel): OnnxModel =>
      withConstants(
        replaceNode(model, RELU, ({ inputs: [x = ""], outputs: [y = ""] }) => {
          const graph = (nodes: readonly OnnxNode[], output: string): OnnxAttribute => ({
            type: "graph",
            value: { name: output, inputs: [], outputs: [{ name: output }], nodes, initializers: new Map() },
          });
          const inner = onnxNode("inner", "If", ["first"], {
            then_branch: graph([onnxNode("a", "Abs", [x])], "a"),
            else_branch: graph([onnxNode("n", "Neg", [x])], "n"),
          });
          const taken = [
            onnxNode("first", "Greater", ["one.0", "zero"]),
            inner,
            onnxNode("kept", "Relu", [x]),
          ];
          return [
            onnxNode("one.0", "ReduceMax", ["images"], { keepdims: int(0) }),
            onnxNode(y, "If", ["yes"], {
              then_branch: graph(taken, "kept"),
              else_branch: graph([onnxNode("r", "Relu", [x])], "r"),
            }),
          ];
        }),
        {
          yes: { dtype: "bool", shape: [1], data: Uint8Array.of(1) },
          zero: { dtype: "float32", shape: [], data: Float32Array.of(0) },
        },
      );
    await expect(judged(edit)).rejects.toMatchObject({ code: "unsupported" });
  });

  it("is decided by the axes that a vector has, and not by those that it had", async () => {
    const layer = "conv2.0.gate[1].relu";
    const condition = (x: string): readonly OnnxNode[] => [
      onnxNode("vector", "Flatten", [x]),
      onnxNode("part", "Relu", ["vector"]),
      onnxNode("map", "Unsqueeze", ["part", "axes"]),
      onnxNode("shape", "Shape", ["map"]),
      onnxNode("rank", "Size", ["shape"]),
      onnxNode("condition", "Equal", ["rank", "four"]),
    ];
    const axes: Tensor = { dtype: "int64", shape: [2], data: BigInt64Array.of(2n, 3n) };
    const edit = branching(condition, { axes, four: { ...int64(4), shape: [] } }, layer);
    expect(await findings(edit)).toEqual([expect.stringContaining(`structure ${layer}: found Abs`)]);
  });

  it("is decided by whole numbers of 64 bits as they are", async () => {
    const numbers = (second: bigint): Readonly<Record<string, Tensor>> => ({
      one: { dtype: "int64", shape: [1], data: BigInt64Array.of(2n ** 53n + 1n) },
      two: { dtype: "int64", shape: [1], data: BigInt64Array.of(second) },
    });
    const condition = [onnxNode("condition", "Equal", ["one", "two"])];
    expect(await findings(branching(condition, numbers(2n ** 53n)))).toEqual([]);
    expect(await findings(branching(condition, numbers(2n ** 53n + 1n)))).toEqual([
      expect.stringContaining(`structure ${RELU}: found Abs, expected a ReLU`),
    ]);
  });
});

describe("a weight that a graph multiplies by a number", () => {
  const times =
    (factor: number) =>
    (model: OnnxModel): OnnxModel => {
      const conv = model.graph.nodes.find(({ outputs }) => outputs[0] === "conv2.0.conv3.bn");
      const [x = "", weight = "", ...rest] = conv?.inputs ?? [];
      const scaled = withNodes(model, (nodes) =>
        nodes.flatMap((node) =>
          node === conv
            ? [onnxNode("scaled", "Mul", [weight, "factor"]), { ...node, inputs: [x, "scaled", ...rest] }]
            : node,
        ),
      );
      return withConstants(scaled, {
        factor: { dtype: "float32", shape: [], data: Float32Array.of(factor) },
      });
    };

  it("is the product", async () => {
    expect(await findings(times(1))).toEqual([]);
    expect(await findings(times(1.5))).toEqual([expect.stringMatching(/^weights conv2\.0\.conv3\.bn: /)]);
  });
});

describe("images with height and width exchanged", () => {
  it("are a finding before the network", async () => {
    const edit = (model: OnnxModel): OnnxModel =>
      withNodes(model, (nodes) => [
        onnxNode("turned", "Transpose", ["images"], { perm: ints(0, 1, 3, 2) }),
        ...nodes.map((node) => ({
          ...node,
          inputs: node.inputs.map((name) => (name === "images" ? "turned" : name)),
        })),
      ]);
    expect(await findings(edit)).toEqual([
      expect.stringMatching(/^structure images: found Transpose before the network/),
    ]);
  });
});

describe("padding of another kind", () => {
  const padded =
    (layer: string, mode: string, value?: number) =>
    (model: OnnxModel): OnnxModel =>
      withConstants(
        replaceNode(model, layer, (node) => {
          const [x = "", ...rest] = node.inputs;
          const inputs = [x, "paddings", ...(value === undefined ? [] : ["value"])];
          return [
            onnxNode("padded", "Pad", inputs, { mode: text(mode) }),
            withAttribute({ ...node, inputs: ["padded", ...rest] }, "pads", ints(0, 0, 0, 0)),
          ];
        }),
        {
          paddings: int64(0, 0, 1, 1, 0, 0, 1, 1),
          ...(value === undefined
            ? {}
            : { value: { dtype: "float32", shape: [], data: Float32Array.of(value) } }),
        },
      );

  it("is one finding", async () => {
    expect(await findings(padded("maxpool", "constant", 0.1))).toEqual([
      expect.stringMatching(/^structure maxpool: found padding before it/),
    ]);
    expect(await findings(padded("conv2.0.conv2b.0.bn", "edge"))).toEqual([
      expect.stringMatching(/^structure conv2\.0\.conv2b\.0\.conv2: found Pad \(edge\) before it/),
    ]);
  });
});

describe("a batch norm in training mode", () => {
  it("is one finding, and its missing constants are not", async () => {
    const edit = (model: OnnxModel): OnnxModel =>
      replaceNode(model, "conv2.0.conv2b.0.bn", (node) => withAttribute(node, "training_mode", int(1)));
    expect(await findings(edit, false)).toEqual([
      expect.stringMatching(/^structure conv2\.0\.conv2b\.0\.bn: found a batch norm in training mode/),
    ]);
  });
});

describe("an output of whole numbers", () => {
  it("is a finding, and no error", async () => {
    const edit = (model: OnnxModel): OnnxModel => {
      const more = withNodes(model, (nodes) => [
        ...nodes,
        onnxNode("best", "ArgMax", [model.graph.outputs[0]?.name ?? ""], { axis: int(1) }),
      ]);
      return {
        ...more,
        graph: { ...more.graph, outputs: [...more.graph.outputs, { name: "best", dtype: "int64" }] },
      };
    };
    expect(await findings(edit)).toEqual([
      expect.stringContaining("found ArgMax between the layer and the output"),
    ]);
  });
});

describe("weights that cannot be seen, and are zeros in the file", () => {
  it("are proven for the images within which they cannot be seen", async () => {
    const path = "conv2.0.conv2b.1.conv1.weight";
    const checkpoint = tinyCheckpoint("block", (weights) =>
      withTensor(weights, path, (tensor) => withValues(tensor, { 0: 1e-41 })),
    );
    const { graph, stateDict } = checkpoint;
    for (const [keepDenormals, within] of [
      [false, 256],
      [true, undefined],
    ] as const) {
      const model = lowerToOnnx(graph, stateDict, { size: SMALL, fold: false, keepDenormals });
      const { proof } = await openVerification(
        { name: "m.onnx", bytes: encodeOnnx(model) },
        { name: "w.pth", bytes: new Uint8Array(), checkpoint },
        { images: { source: "test", tensor: seededImages(0, 2, 64, 32) } },
      ).then(verify);
      expect([proof?.status, proof?.within]).toEqual(["proven", within]);
      expect(proof?.grounds[0]).toContain(within ? "for images within ±256" : "for every finite input");
    }
  });
});

describe("half precision in which small numbers are raised, as onnxconverter-common does", () => {
  it("passes, with variances that are smaller than any that float16 has", async () => {
    const path = "fc.1.running_var";
    const checkpoint = tinyCheckpoint("osnet", (weights) =>
      withTensor(weights, path, (tensor) => ({
        ...tensor,
        data: new Float32Array(tensor.data.length).fill(1e-12),
      })),
    );
    const model = lowerToOnnx(checkpoint.graph, checkpoint.stateDict, {
      size: SMALL,
      fold: false,
      dtype: "float16",
    });
    const initializers = new Map(
      [...model.graph.initializers].map(([name, tensor]) => {
        if (tensor.dtype !== "float16" || !name.startsWith("fc.1")) return [name, tensor] as const;
        // 2^-23: the float16 that is nearest to 1e-7.
        const raised = Array.from(tensor.data as Uint16Array, (bits) =>
          (bits & 0x7fff) < 2 ? (bits & 0x8000) | 2 : bits,
        );
        return [name, { ...tensor, data: Uint16Array.from(raised) }] as const;
      }),
    );
    const { passed, faults } = await openVerification(
      { name: "m.onnx", bytes: encodeOnnx({ ...model, graph: { ...model.graph, initializers } }) },
      { name: "w.pth", bytes: new Uint8Array(), checkpoint },
      { images: { source: "test", tensor: seededImages(0, 2, 64, 32) } },
    ).then(verify);
    expect([passed, faults]).toEqual([true, []]);
  });
});

describe("an osnet-convert file with an added normalisation of pixels", () => {
  it("is given pixels, as any other file is", async () => {
    const { mean, deviation } = IMAGENET;
    const byChannel = (values: readonly number[]): Tensor => ({
      dtype: "float32",
      shape: [1, 3, 1, 1],
      data: Float32Array.from(values),
    });
    const model = withNodes(lowerToOnnx(CHECKPOINT.graph, CHECKPOINT.stateDict, { size: SMALL }), (nodes) => [
      onnxNode("white", "Div", ["images", "most"]),
      onnxNode("less", "Sub", ["white", "mean"]),
      onnxNode("normal", "Div", ["less", "deviation"]),
      ...nodes.map((node) => ({
        ...node,
        inputs: node.inputs.map((name) => (name === "images" ? "normal" : name)),
      })),
    ]);
    const constants = {
      most: byChannel([255, 255, 255]),
      mean: byChannel(mean),
      deviation: byChannel(deviation),
    };
    const { passed, faults } = await openVerification(
      { name: "m.onnx", bytes: encodeOnnx(withConstants(model, constants)) },
      { name: "w.pth", bytes: new Uint8Array(), checkpoint: CHECKPOINT },
      { images: { source: "test", tensor: seededImages(0, 2, 64, 32) } },
    ).then(verify);
    expect([passed, faults]).toEqual([true, []]);
  });
});

describe("an operator after a layer with several readers, in a file with osnet-convert's names", () => {
  it("is one finding, at the layer", async () => {
    const reads = "conv2.0.conv1.relu";
    const model = withNodes(lowerToOnnx(CHECKPOINT.graph, CHECKPOINT.stateDict, { size: SMALL }), (nodes) =>
      nodes.flatMap((node) =>
        node.outputs[0] === reads
          ? [node, onnxNode("rounded", "Round", [reads])]
          : { ...node, inputs: node.inputs.map((name) => (name === reads ? "rounded" : name)) },
      ),
    );
    const { passed, faults } = await openVerification(
      { name: "m.onnx", bytes: encodeOnnx(model) },
      { name: "w.pth", bytes: new Uint8Array(), checkpoint: CHECKPOINT },
      { images: { source: "test", tensor: seededImages(0, 2, 64, 32) } },
    ).then(verify);
    expect([passed, faults.map(({ kind, layer }) => `${kind} ${layer}`)]).toEqual([
      false,
      [`structure ${reads}`],
    ]);
    expect(faults[0]?.explanation).toContain("found Round after it, expected none");
  });
});

describe("operators after a layer that all streams read", () => {
  const layer = "conv2.0.conv1.relu";
  const pool = (opType: string): OnnxEdit =>
    followed(layer, (before) => [
      onnxNode(layer, opType, [before], {
        kernel_shape: ints(3, 3),
        strides: ints(1, 1),
        pads: ints(1, 1, 1, 1),
      }),
    ]);
  const [height, width] = [SMALL.height / 4, SMALL.width / 4];

  it.each<readonly [string, OnnxEdit, string]>([
    ["a max pool", pool("MaxPool"), "a max pool"],
    ["an average pool", pool("AveragePool"), "an average pool"],
    [
      "a shuffle of channels",
      followed(
        layer,
        (before) => [
          onnxNode("grouped", "Reshape", [before, "groups"]),
          onnxNode("shuffled", "Transpose", ["grouped"], { perm: ints(0, 2, 1, 3, 4) }),
          onnxNode(layer, "Reshape", ["shuffled", "whole"]),
        ],
        { groups: int64(-1, 2, 4, height, width), whole: int64(-1, 8, height, width) },
      ),
      "Reshape and Transpose and Reshape",
    ],
    [
      "an exchange of height and width",
      followed(
        layer,
        (before) => [
          onnxNode("turned", "Reshape", [before, "lying"]),
          onnxNode(layer, "Transpose", ["turned"], { perm: ints(0, 1, 3, 2) }),
        ],
        { lying: int64(-1, 8, width, height) },
      ),
      "Reshape and Transpose",
    ],
  ])("are one finding: %s", async (_, edit, what) => {
    for (const fold of [true, false])
      expect((await findings(edit, fold)).map((each) => each.replace(/ to \[.*?\]/g, ""))).toEqual([
        `structure ${layer}: found ${what} after it, expected none`,
      ]);
  });

  it("are one finding beside another window, at the layer that has it", async () => {
    const edit = followed("conv1.relu", (before) => [
      onnxNode("conv1.relu", "MaxPool", [before], {
        kernel_shape: ints(3, 3),
        strides: ints(1, 1),
        pads: ints(1, 1, 1, 1),
      }),
    ]);
    expect(await findings(edit)).toEqual([
      "structure maxpool: found stride [1, 1], and a max pool after it, expected stride [2, 2], and none",
    ]);
  });
});

describe("a transposed convolution", () => {
  /** The same weights in the order that ConvTranspose takes: channels exchanged, and each kernel turned if it is to compute the same. */
  const transposed =
    (layer: string, turns: boolean): OnnxEdit =>
    (model) => {
      const { nodes, initializers } = model.graph;
      const own = nodes.find(({ outputs }) => outputs.includes(layer));
      const weight = initializers.get(own?.inputs[1] ?? "");
      if (!own || !weight) throw new Error(`no ${layer}`);
      const [rows = 1, columns = 1, height = 1, width = 1] = weight.shape;
      const isGrouped = columns === 1 && rows > 1;
      const size = height * width;
      const data = Float32Array.from({ length: weight.data.length }, (_, at) => {
        const tap = turns ? size - 1 - (at % size) : at % size;
        const [out, into] = isGrouped
          ? [Math.floor(at / size), 0]
          : [Math.floor(at / size) % rows, Math.floor(at / size / rows)];
        return Number(weight.data[(out * columns + into) * size + tap]);
      });
      const shape = isGrouped ? weight.shape : [columns, rows, height, width];
      const changed = withConstants(model, { turned: { dtype: "float32", shape, data } });
      return replaceNode(changed, layer, (node) => [
        {
          ...node,
          opType: "ConvTranspose",
          inputs: [node.inputs[0] ?? "", "turned", ...node.inputs.slice(2)],
        },
      ]);
    };

  it.each(["conv2.0.conv1.bn", "conv2.0.conv2a.bn", "conv2.0.gate[2].fc1"])(
    "of every pixel is read as the convolution that it is, in the place of %s",
    async (layer) => {
      const { passed, faults, proof } = await judged(transposed(layer, true));
      expect(faults).toEqual([]);
      expect([passed, proof?.status]).toEqual([true, "sampled"]);
    },
  );

  it("has other weights where its kernels are not turned", async () => {
    const found = await findings(transposed("conv2.0.conv2a.bn", false));
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(/^weights conv2\.0\.conv2a\.bn: .*the kernel is rotated by 180°/);
  });

  it("of larger maps is another operator, at its layer", async () => {
    expect(await findings(transposed("conv1.bn", true))).toEqual([
      "structure conv1.conv: found ConvTranspose, expected a convolution",
    ]);
  });
});

describe("one operator before several layers is one finding", () => {
  it("a weight that is computed, of a gate that all streams share", async () => {
    const path = "conv2.0.gate.fc2.weight";
    const edit: OnnxEdit = (model) => {
      const initializers = new Map(model.graph.initializers);
      const weight = initializers.get(path);
      if (!weight) throw new Error(`no ${path}`);
      initializers.delete(path);
      initializers.set("own", weight);
      const nodes = [onnxNode(path, "Relu", ["own"]), ...model.graph.nodes];
      return { ...model, graph: { ...model.graph, nodes, initializers } };
    };
    const { faults } = await judged(edit);
    expect(faults).toMatchObject([{ layer: "conv2.0.gate[1].fc2", streams: [1, 2, 3], kind: "structure" }]);
    expect(faults[0]?.explanation).toContain("a Conv whose weights are computed");
  });

  it("a pool of a part of the map in the global pool's place", async () => {
    const edit = operator("global_avgpool", "AveragePool", { kernel_shape: ints(4, 2), strides: ints(1, 1) });
    expect(await findings(edit)).toEqual([
      "structure global_avgpool: found an average pool, expected a global average pool",
    ]);
  });
});
