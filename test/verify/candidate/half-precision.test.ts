import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import { int, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import { encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { StateDict, Tensor } from "../../../src/core/tensor.js";
import { castFloat, toFloat32 } from "../../../src/core/tensor-cast.js";
import type { Verification } from "../../../src/verify/candidate/candidate.js";
import { openVerification } from "../../../src/verify/open.js";
import { verify } from "../../../src/verify/verify.js";
import { withoutNames } from "../../mutation/candidates.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { followed, type OnnxEdit } from "../../mutation/onnx-edits.js";
import { convert, openFixture, openReference, rewriteOnnx, SMALL, withTensor } from "../../support/osnet.js";

describe("a float16 model", () => {
  it("passes where gates are below float16's normal range and streams are large, and is not called proven", async () => {
    const opened = openFixture();
    // Gates of about 3e-8, which float16 shows as 0 or 6e-8; a runtime that computes in float32 multiplies by 3e-8.
    const change = (path: string, to: (value: number) => number) => (stateDict: StateDict) =>
      withTensor(stateDict, path, ({ shape, data }) => ({
        dtype: "float32",
        shape,
        data: Float32Array.from(data as Float32Array, to),
      }));
    const stateDict = [
      change("conv4.1.gate.fc2.weight", () => 0),
      change("conv4.1.gate.fc2.bias", () => -17.3),
      change("conv4.1.conv2a.bn.weight", (value) => 300 * value),
    ].reduce((changed, apply) => apply(changed), opened.stateDict);
    const bytes = encodeOnnx(lowerToOnnx(opened.graph, stateDict, { size: SMALL, dtype: "float16" }));
    const checkpoint = { ...opened, stateDict };
    const report = await verify(
      await openVerification(
        { name: "half.onnx", bytes },
        { name: "w.pth", bytes: new Uint8Array(), checkpoint },
      ),
    );
    const gate = report.gates.find(({ block, stream }) => block === "conv4.1" && stream === 1);
    expect(gate?.max).toBeLessThan(2e-7);
    expect(report.faults).toEqual([]);
    expect(report.weights).toMatchObject({ compared: 316, folded: 80 });
    expect(report.weights?.rounded).toBeGreaterThan(300);
    expect(report.proof).toMatchObject({
      status: "sampled",
      grounds: [`${report.weights?.rounded} of 316 constants have fewer bits than the checkpoint's`],
    });
  });
});

it.each([true, false])("a checkpoint of float16 is converted to float16, folded: %j", async (fold) => {
  const tiny = openFixture();
  const stateDict = new Map(
    [...tiny.stateDict].map(([path, tensor]) => [
      path,
      tensor.dtype === "float32" ? castFloat(tensor, "float16", path) : tensor,
    ]),
  );
  const checkpoint = { ...tiny, stateDict };
  const bytes = convert(checkpoint, { dtype: "float16", fold });
  const { passed, faults } = await verify(
    await openVerification({ name: "half.onnx", bytes }, openReference(checkpoint), { size: SMALL }),
  );
  expect({ passed, faults }).toEqual({ passed: true, faults: [] });
});

it.each([
  ["conv2.0.conv1.relu", "structure"],
  ["fc.2", "structure"],
])("a float16 model that casts %s to bfloat16 and back is a fault there", async (layer, kind) => {
  const checkpoint = tinyCheckpoint("block");
  const bytes = rewriteOnnx(convert(checkpoint, { dtype: "float16" }), (model) =>
    followed(layer, (before) => [
      onnxNode("bfloat16", "Cast", [before], { to: int(16) }),
      onnxNode(layer, "Cast", ["bfloat16"], { to: int(10) }),
    ])({ ...model, metadata: new Map() }),
  );
  const { faults } = await verify(
    await openVerification({ name: "half.onnx", bytes }, openReference(checkpoint), { size: SMALL }),
  );
  expect(faults).toMatchObject([{ layer, kind }]);
});

describe("a float16 model whose batch norms are products and sums", () => {
  const checkpoint = tinyCheckpoint("block");
  const LAYER = "conv2.0.conv2b.0.bn";
  /** @param off what the factors of one layer are multiplied by */
  const apart = (off: number): Uint8Array =>
    rewriteOnnx(convert(checkpoint, { dtype: "float16", fold: false }), (model) => {
      const { nodes, initializers } = model.graph;
      const constants = new Map(initializers);
      const write = (name: string, data: Float32Array): string => {
        const vector = { dtype: "float32", shape: [data.length, 1, 1], data } as const;
        constants.set(name, castFloat(vector, "float16", name));
        return name;
      };
      const changed = nodes.flatMap((node) => {
        const [[x = "", ...names], [y = ""]] = [node.inputs, node.outputs];
        if (node.opType !== "BatchNormalization" || y.startsWith("fc")) return node;
        const [gamma, beta, mean, variance] = names.map(
          (name) => toFloat32(initializers.get(name) as Tensor, name).data,
        );
        const scale = (gamma ?? new Float32Array()).map(
          (value, at) => (value / Math.sqrt((variance?.[at] ?? 0) + 1e-5)) * (y === LAYER ? off : 1),
        );
        const shift = scale.map((value, at) => (beta?.[at] ?? 0) - (mean?.[at] ?? 0) * value);
        return [
          onnxNode(`${y}.product`, "Mul", [x, write(`${y}.scale`, scale)]),
          onnxNode(y, "Add", [`${y}.product`, write(`${y}.shift`, shift)]),
        ];
      });
      return withoutNames({ ...model, graph: { ...model.graph, nodes: changed, initializers: constants } });
    });

  it.each([
    [1, []],
    [1.05, [LAYER]],
  ])("passes, and fails where one has other factors: times %f", async (off, layers) => {
    const file = { name: "half.onnx", bytes: apart(off) };
    const { faults } = await verify(await openVerification(file, openReference(checkpoint)));
    expect(faults.map(({ layer }) => layer)).toEqual(layers);
  });
});

describe("a float16 model with some operators in float32, as converters keep them", () => {
  const checkpoint = tinyCheckpoint("block");
  const LAYER = "conv2.0.conv2b.0.relu";
  const kept = (wrong?: string): Uint8Array =>
    rewriteOnnx(convert(checkpoint, { dtype: "float16" }), (model) =>
      withoutNames({
        ...model,
        graph: {
          ...model.graph,
          nodes: model.graph.nodes.flatMap((node) => {
            const [[x = ""], [y = ""]] = [node.inputs, node.outputs];
            if (!["Relu", "MaxPool", "Sigmoid"].includes(node.opType)) return node;
            return [
              onnxNode(`${y}.wide`, "Cast", [x], { to: int(1) }),
              {
                ...node,
                opType: y === wrong ? "LeakyRelu" : node.opType,
                inputs: [`${y}.wide`],
                outputs: [`${y}.result`],
              },
              onnxNode(y, "Cast", [`${y}.result`], { to: int(10) }),
            ];
          }),
        },
      }),
    );

  it.each([
    [undefined, []],
    [LAYER, [LAYER]],
  ])("passes, and an activation that is another does not: %s", async (wrong, layers) => {
    const bytes = kept(wrong);
    const opened = await openVerification({ name: "m.onnx", bytes }, openReference(checkpoint));
    const { passed, faults } = await verify(opened);
    expect(faults.map(({ layer }) => layer)).toEqual(layers);
    expect(passed).toBe(wrong === undefined);
  });
});

describe("a model whose products alone are in float32", () => {
  const checkpoint = tinyCheckpoint("block");
  const opened = (edit: OnnxEdit): Promise<Verification> =>
    openVerification(
      { name: "m.onnx", bytes: rewriteOnnx(convert(checkpoint), edit) },
      openReference(checkpoint),
    );
  /** Rounds what products read, or what copies of them do that nothing reads. */
  const rounded =
    (reader: "product" | "copy", isRounded: (layer: string) => boolean = () => true): OnnxEdit =>
    (model) =>
      withoutNames({
        ...model,
        graph: {
          ...model.graph,
          nodes: model.graph.nodes.flatMap((node) => {
            const [[x = "", ...others], [y = ""]] = [node.inputs, node.outputs];
            if (!["Conv", "Gemm"].includes(node.opType) || !isRounded(y)) return node;
            const product = { ...node, inputs: [`${y}.wide`, ...others] };
            return [
              onnxNode(`${y}.half`, "Cast", [x], { to: int(10) }),
              onnxNode(`${y}.wide`, "Cast", [`${y}.half`], { to: int(1) }),
              ...(reader === "product" ? [product] : [{ ...product, outputs: [`${y}.copy`] }, node]),
            ];
          }),
        },
      });

  it("is in half precision, and passes", async () => {
    const verification = await opened(rounded("product"));
    expect(verification.candidate.precision).toBe("float16");
    const { passed, faults, proof } = await verify(verification);
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
    expect(proof?.status).toBe("sampled");
  });

  it("is not if only one product is, or copies that nothing reads", async () => {
    const one = await opened(rounded("product", (layer) => layer.startsWith("conv2.0.conv1")));
    expect(one.candidate.precision).toBeUndefined();
    expect(one.candidate.structure).toHaveLength(1);
    const copies = await opened(rounded("copy"));
    expect(copies.candidate.precision).toBeUndefined();
  });
});

describe.each(["float16", "bfloat16"] as const)("weights stored in %s", (dtype) => {
  const checkpoint = tinyCheckpoint("block");
  const reference = openReference(checkpoint);
  const narrowed = {
    ...checkpoint,
    stateDict: new Map(
      [...checkpoint.stateDict].map(([path, tensor]) => [
        path,
        tensor.dtype === "float32" ? castFloat(tensor, dtype, path) : tensor,
      ]),
    ),
  };
  /** Every constant as a cast of one in fewer bits. */
  const cast: OnnxEdit = (model) => {
    const { nodes, initializers } = model.graph;
    const floats = [...initializers].filter(([, tensor]) => tensor.dtype === "float32");
    return {
      ...model,
      graph: {
        ...model.graph,
        nodes: [
          ...floats.map(([name]) => onnxNode(name, "Cast", [`${name}.half`], { to: int(1) })),
          ...nodes,
        ],
        initializers: new Map([
          ...[...initializers].filter(([, tensor]) => tensor.dtype !== "float32"),
          ...floats.map(([name, tensor]) => [`${name}.half`, castFloat(tensor, dtype, name)] as const),
        ]),
      },
    };
  };

  it("pass in an ONNX file that casts them, and in a checkpoint", async () => {
    const bytes = rewriteOnnx(convert(checkpoint), cast);
    for (const candidate of [
      { name: "m.onnx", bytes },
      { name: "m.onnx", bytes: rewriteOnnx(bytes, withoutNames) },
      openReference(narrowed, "narrow.pth"),
    ]) {
      const { passed, faults, weights } = await verify(await openVerification(candidate, reference));
      expect(faults).toEqual([]);
      expect(passed).toBe(true);
      expect(weights?.rounded).toBeGreaterThan(40);
    }
  });

  it("are one fault of the reference where the candidate has them unrounded", async () => {
    for (const candidate of [
      { name: "m.onnx", bytes: convert(checkpoint) },
      openReference(checkpoint, "a.pth"),
    ]) {
      const { passed, faults } = await verify(await openVerification(candidate, openReference(narrowed)));
      expect(passed).toBe(false);
      expect(faults).toMatchObject([
        {
          kind: "weights",
          explanation: expect.stringContaining(`the candidate's, rounded to ${dtype}`),
        },
      ]);
    }
  });
});

describe("a gate's weight that an operator hands on, in a file of ours", () => {
  const checkpoint = tinyCheckpoint("block");
  const path = "conv2.0.gate.fc1.weight";
  const passedOn = (change: (value: number) => number): Uint8Array =>
    rewriteOnnx(convert(checkpoint), (model) => {
      const initializers = new Map(model.graph.initializers);
      const weight = initializers.get(path);
      if (!weight) throw new Error(`no ${path}`);
      initializers.delete(path);
      const data = Float32Array.from(weight.data as Float32Array, change);
      initializers.set("shared", { dtype: "float32", shape: weight.shape, data });
      const nodes = [onnxNode(path, "Identity", ["shared"]), ...model.graph.nodes];
      return { ...model, graph: { ...model.graph, nodes, initializers } };
    });
  const judged = async (bytes: Uint8Array) =>
    verify(await openVerification({ name: "m.onnx", bytes }, openReference(checkpoint)));

  it("is compared", async () => {
    expect((await judged(passedOn((value) => value))).faults).toEqual([]);
    const { passed, faults } = await judged(passedOn((value) => value * 1.5));
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer: "conv2.0.gate[1].fc1", kind: "weights" }]);
    expect(faults[0]?.explanation).toContain("values differ");
  });
});

it("a weight that is handed on to a gate which is dead on all images is compared, whatever bears its name", async () => {
  const tiny = tinyCheckpoint("block");
  const path = "conv2.0.gate.fc2.weight";
  const dead = {
    ...tiny,
    stateDict: withTensor(tiny.stateDict, "conv2.0.gate.fc1.bias", ({ shape }) => ({
      dtype: "float32",
      shape,
      data: new Float32Array(shape[0] ?? 1).fill(-1e4),
    })),
  };
  const bytes = rewriteOnnx(convert(dead), (model) => {
    const { nodes, initializers } = model.graph;
    const weight = initializers.get(path);
    if (!weight) throw new Error(`no ${path}`);
    const data = Float32Array.from(weight.data as Float32Array, (value) => -7 * value);
    return {
      ...model,
      graph: {
        ...model.graph,
        nodes: [
          onnxNode("handed.on", "Identity", ["another"]),
          ...nodes.map((node) => ({
            ...node,
            inputs: node.inputs.map((name) => (name === path ? "handed.on" : name)),
          })),
        ],
        // The right one stays in the file, and nothing reads it.
        initializers: new Map([
          ...initializers,
          ["another", { dtype: "float32", shape: weight.shape, data }] as const,
        ]),
      },
    };
  });
  const { passed, faults } = await verify(
    await openVerification({ name: "m.onnx", bytes }, openReference(dead)),
  );
  expect(passed).toBe(false);
  expect(faults).toMatchObject([{ layer: "conv2.0.gate[1].fc2", kind: "weights" }]);
});

describe("folded weights in half precision that are all a little off", () => {
  const small = tinyCheckpoint("block");
  const { graph, stateDict } = small;
  const reference = openReference(small);
  const folded = /\.bn\.folded\.weight$|^fc\.1\.folded\.weight$/;

  it.each([
    [1, 0, folded, 0],
    [1.002, 0, folded, 1],
    [0.9985, 0, folded, 1],
    // Each value is within the tolerance of folding in half precision, but not all of them together.
    [1, 0.001, folded, 1],
    [1, 0.002, /^conv2\.0\.conv3\.bn\.folded/, 1],
  ])("× %d ± %d, as another exporter's file", async (factor, spread, weights, count) => {
    const model = lowerToOnnx(graph, stateDict, { size: SMALL, dtype: "float16" });
    const initializers = new Map(
      [...model.graph.initializers].map(([name, tensor]) => {
        if (!weights.test(name)) return [name, tensor];
        const { data, shape } = toFloat32(tensor, name);
        const size = data.length / (shape[0] ?? 1);
        const scaled = data.map((value, at) => {
          const sign = Math.floor(at / size) % 2 === 0 ? 1 : -1;
          return value * (factor + sign * spread);
        });
        const times = { dtype: "float32", shape, data: scaled } as const;
        return [name, castFloat(times, "float16", name)];
      }),
    );
    const bytes = encodeOnnx({ ...model, metadata: new Map(), graph: { ...model.graph, initializers } });
    const { passed, faults } = await verify(await openVerification({ name: "m.onnx", bytes }, reference));
    expect([passed, faults.length]).toEqual([count === 0, count]);
    if (count > 0)
      expect(faults[0]).toMatchObject({
        kind: "weights",
        explanation: expect.stringContaining(spread === 0 ? "on average" : "roundings"),
      });
  });

  it("by one step each, in a TensorFlow.js model of float16 weights", async () => {
    const model = lowerToTfjs(graph, stateDict, { size: SMALL, quantize: "float16" });
    const { json, shards } = encodeTfjs(model);
    const judge = async (beside: typeof shards) =>
      verify(await openVerification({ name: "model.json", bytes: json, beside }, reference));
    expect((await judge(shards)).passed).toBe(true);
    const { weightsManifest } = JSON.parse(new TextDecoder().decode(json));
    const entries: readonly { name: string; shape: number[]; dtype: string; quantization?: object }[] =
      weightsManifest[0].weights;
    let offset = 0;
    const moved = new Map([...shards].map(([name, bytes]) => [name, bytes.slice()]));
    const [shard] = moved.values();
    if (!shard || moved.size !== 1) throw new Error("one shard");
    const view = new DataView(shard.buffer, shard.byteOffset);
    for (const { name, shape, quantization } of entries) {
      const count = shape.reduce((product, size) => product * size, 1);
      const size = quantization ? 2 : 4;
      // One more in the bits of a float16 is one step farther from 0.
      if (quantization && folded.test(name))
        for (let at = offset; at < offset + count * size; at += size)
          view.setUint16(at, view.getUint16(at, true) + 1, true);
      offset += count * size;
    }
    const { passed, faults } = await judge(moved);
    expect(passed).toBe(false);
    expect(faults[0]).toMatchObject({ kind: "weights" });
  });
});
