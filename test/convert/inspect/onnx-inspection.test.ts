import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx, encodeOnnxFiles } from "../../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { fingerprintFolded, fingerprintWeights } from "../../../src/convert/inspect/inspection.js";
import { inspectModel, type OnnxInspection } from "../../../src/convert/inspect/model-inspection.js";
import { renderModelInspection } from "../../../src/convert/inspect/text.js";
import { missing, readFixture } from "../../fixtures.js";
import { convert, openFixture, withTensor, withValues } from "../../support/osnet.js";
import { anonymous, dropNode, operator, replaceNode } from "../import/graphs.js";

const checkpoint = openFixture();
const { graph, stateDict } = checkpoint;
const ours = (options: Parameters<typeof convert>[1] = {}): OnnxModel =>
  decodeOnnx(convert(checkpoint, options), { subject: "m.onnx" });

function inspect(model: OnnxModel, options = {}): Promise<OnnxInspection> {
  return inspectModel("onnx", { name: "m.onnx", bytes: encodeOnnx(model) }, options);
}

describe("inspectModel, of ONNX files", () => {
  it("counts the subnormal weights of convolutions, which a rewrite of the file no longer has", async () => {
    const path = "conv2.0.conv2b.1.conv1.weight";
    const dead = withTensor(stateDict, path, (tensor) =>
      withValues(tensor, { 0: 1e-41, 1: -1e-40, 2: 2e-38 }),
    );
    const kept = convert({ ...checkpoint, stateDict: dead }, { keepDenormals: true });
    const inspection = await inspectModel("onnx", { name: "m.onnx", bytes: kept });
    expect(inspection.model.subnormal).toBe(2);
    expect(renderModelInspection(inspection)).toMatch(/speed +2 denormal weights.*onnx2onnx/);
    const written = await inspectModel("onnx", {
      name: "m.onnx",
      bytes: convert({ ...checkpoint, stateDict: dead }),
    });
    expect(written.model.subnormal).toBe(0);
    expect(written.weights?.foldedFingerprint).toBe(await fingerprintFolded(graph, dead));
  });

  it("finds a checkpoint's fingerprint in weights that were left alone, whatever their names", async () => {
    const { weights, model } = await inspect(anonymous(ours({ fold: false })));
    expect(weights).toMatchObject({
      fingerprint: await fingerprintWeights(graph, stateDict),
      foldedFingerprint: await fingerprintFolded(graph, stateDict),
      reparameterised: 0,
    });
    expect(model.batchNorms).toEqual({ folded: 0, kept: 80, affine: 0 });
  });

  it("finds the folded one where we have folded", async () => {
    const { weights, model } = await inspect(anonymous(ours()));
    expect(weights?.foldedFingerprint).toBe(await fingerprintFolded(graph, stateDict));
    expect(weights?.fingerprint).not.toBe(await fingerprintWeights(graph, stateDict));
    expect([weights?.reparameterised, model.batchNorms?.folded]).toEqual([401, 80]);
  });

  const EXPORT = "osnet_ain_x0_25.torch1.13.op12.unfolded.onnx";
  it.skipIf(missing(EXPORT))("finds it in PyTorch's own export", async () => {
    const ain = openFixture("osnet_ain_x0_25");
    const { weights, network, model } = await inspectModel("onnx", {
      name: EXPORT,
      bytes: readFixture(EXPORT),
    });
    expect(weights?.fingerprint).toBe(await fingerprintWeights(ain.graph, ain.stateDict));
    expect([network?.variant, model.producer, model.opset]).toEqual([
      "osnet_ain_x0_25",
      { name: "pytorch", version: "1.13.0" },
      12,
    ]);
  });

  it("takes the way that modules are named from the names that are left", async () => {
    const model = ours({ fold: false });
    const renamed = {
      ...anonymous(model),
      graph: {
        ...anonymous(model).graph,
        nodes: anonymous(model).graph.nodes.map((node, index) =>
          index === 9 ? { ...node, name: "/conv2.0/conv2.0/layers/layers.0/conv1/Conv" } : node,
        ),
      },
    };
    expect((await inspect(anonymous(model))).network?.spec.dialect).toBe("osnet");
    expect((await inspect(renamed)).network?.spec.dialect).toBe("osnet_ain");
  });

  it("says how a file is used", async () => {
    const options = { batch: 4, dtype: "float16", preprocess: "bgr", output: "both", opset: 18 } as const;
    const { model, network } = await inspect(ours(options));
    expect(model).toMatchObject({
      ...{ producer: { name: "osnet-convert" }, opset: 18, irVersion: 8, batch: 4 },
      size: { height: 64, width: 32 },
      inputs: [{ name: "images", dtype: "float32", shape: [4, 3, 64, 32] }],
      results: [
        { output: "features", layer: "fc.2", kind: "features", tail: [] },
        { output: "logits", layer: "classifier", kind: "logits", tail: [] },
      ],
      preprocess:
        "channels in the order 2, 1, 0, normalised by ImageNet's mean and deviation from values of 0 to 255",
      differences: [],
    });
    expect(model.metadata["osnet.preprocess"]).toBe("bgr");
    expect(model.dtypes[0]?.dtype).toBe("float16");
    expect(network?.classes).toBe(16);
  });

  it("goes as far as the graph where the weights are missing", async () => {
    const { bytes } = encodeOnnxFiles(ours(), "m.onnx.data");
    const inspection = await inspectModel("onnx", { name: "m.onnx", bytes });
    expect([inspection.network?.variant, inspection.weights]).toEqual(["osnet_x0_25", null]);
    expect(inspection.model.sidecars).toEqual([{ name: "m.onnx.data", missing: true }]);
    expect(renderModelInspection(inspection)).toContain("\n  weights        needs m.onnx.data beside it\n");
  });

  it("lists the differences between a graph and an OSNet", async () => {
    const broken = replaceNode(ours(), "conv2.0.gate[2].gate_activation", (node) =>
      operator("HardSigmoid", node.inputs, node.outputs[0] ?? ""),
    );
    const { model, weights, network } = await inspect(broken);
    expect([network?.variant, weights]).toEqual(["osnet_x0_25", null]);
    expect(model.differences).toEqual([
      {
        layer: "conv2.0.gate[2].gate_activation",
        stream: 2,
        found: "HardSigmoid",
        expected: "a sigmoid",
      },
    ]);
    expect(renderModelInspection(await inspect(dropNode(broken, "conv1.relu")))).toMatch(
      /\n2 differences from an OSNet\n {2}conv1\.relu: found .*\n {2}conv2\.0\.gate\[2\]\.gate_activation: found HardSigmoid, expected a sigmoid\n/,
    );
  });

  it("says what a graph is like that is no OSNet", async () => {
    const { graph: network, ...model } = ours();
    const stem = network.nodes.slice(0, 3);
    const {
      network: none,
      refusal,
      model: facts,
    } = await inspect({
      ...model,
      metadata: new Map(),
      graph: { ...network, nodes: stem, outputs: [{ name: stem[2]?.outputs[0] ?? "" }] },
    });
    expect([none, facts.operators]).toEqual([null, { Conv: 1, Relu: 1, MaxPool: 1 }]);
    expect(refusal).toMatch(
      /^m\.onnx: found another network of 1 Conv, 0 Sigmoid and 0 gated values, expected an OSNet, /,
    );
  });

  it("keeps control characters of a file from the terminal", async () => {
    const model = ours();
    const text = renderModelInspection(
      await inspect({
        ...model,
        producer: { name: "\u001b[2J", version: "" },
        metadata: new Map([...model.metadata, ["a\u0007", "b\u009b"]]),
        customOpsets: new Map([["c\u0000", 1]]),
      }),
    );
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  });
});

describe("the folded fingerprint", () => {
  it("differs where a weight does", async () => {
    const changed = new Map(stateDict);
    const gamma = changed.get("conv1.bn.weight");
    if (gamma)
      changed.set("conv1.bn.weight", { ...gamma, data: (gamma.data as Float32Array).map((v) => v * 2) });
    expect(await fingerprintFolded(graph, changed)).not.toBe(await fingerprintFolded(graph, stateDict));
  });
});
