import { describe, expect, it } from "vitest";
import { expand } from "../../../src/arch/expand.js";
import type { LayerGraph } from "../../../src/arch/graph.js";
import type { OsnetSpec } from "../../../src/arch/spec.js";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import { foldBatchNorm, nodeWeights } from "../../../src/convert/export/weights.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import { openCheckpoint } from "../../../src/convert/open/checkpoint.js";
import { liftCheckpoint, liftStateDict } from "../../../src/convert/open/lift.js";
import { openModel } from "../../../src/convert/open/open-file.js";
import type { StateDict, Tensor } from "../../../src/core/tensor.js";
import { missing, readFixture } from "../../fixtures.js";
import { parametersFor, SMALL_SPEC } from "../export/graphs.js";
import { dropNode } from "../import/graphs.js";

const SUBJECT = { subject: "theirs.onnx" };

function lift(model: OnnxModel, graph?: LayerGraph) {
  return liftStateDict(matchGraph(model, { ...SUBJECT, ...(graph ? { graph } : {}) }), SUBJECT);
}

/** Every convolution and linear layer with its batch norm folded in, in float64 rounded once. */
function foldedWeights(graph: LayerGraph, stateDict: StateDict): ReadonlyMap<string, Tensor> {
  return new Map(
    foldBatchNorm(graph).nodes.flatMap((node) =>
      Object.values(nodeWeights(node, stateDict)).map(({ name, tensor }) => [name, tensor] as const),
    ),
  );
}

describe("liftStateDict", () => {
  it("returns the original bits if nothing was folded", () => {
    const subject = "osnet_x0_25.pth";
    const { graph, stateDict } = openCheckpoint(readFixture(subject), { subject });
    const bytes = encodeOnnx(lowerToOnnx(graph, stateDict, { fold: false, output: "both" }));
    const lifted = lift(decodeOnnx(bytes, SUBJECT));
    expect(lifted.reparameterised).toEqual([]);
    expect([...lifted.stateDict.keys()]).toEqual([...stateDict.keys()]);
    for (const [path, tensor] of stateDict)
      if (!path.endsWith("num_batches_tracked")) expect(lifted.stateDict.get(path), path).toEqual(tensor);
  });

  it("carries a folded batch norm's bias exactly", () => {
    const graph = expand(SMALL_SPEC);
    const model = lowerToOnnx(graph, parametersFor(graph), {
      size: { height: 32, width: 16 },
      output: "both",
    });
    const { stateDict, reparameterised } = lift(model, graph);
    expect(reparameterised).toContain("conv1.conv.weight");
    expect(reparameterised).toContain("fc.0.bias");
    expect(reparameterised).not.toContain("conv2.0.gate.fc1.weight");
    expect(reparameterised).not.toContain("conv2.0.conv3.conv.weight");
    const variance = stateDict.get("conv1.bn.running_var")?.data[0] as number;
    // PyTorch computes in float32.
    expect(Math.fround(variance + Math.fround(1e-5))).toBe(1);
    expect(stateDict.get("conv1.bn.num_batches_tracked")).toEqual({
      dtype: "int64",
      shape: [],
      data: new BigInt64Array(1),
    });
    // Folding it again gives the file's bits.
    const again = lowerToOnnx(graph, stateDict, { size: { height: 32, width: 16 }, output: "both" });
    expect(encodeOnnx(again)).toEqual(encodeOnnx(model));
  });

  it("lifts nothing in part", () => {
    const graph = expand(SMALL_SPEC);
    const model = lowerToOnnx(graph, parametersFor(graph), {
      size: { height: 32, width: 16 },
      output: "both",
    });
    expect(() => lift(dropNode(model, "conv2.0.conv1.relu"), graph)).toThrow(/1 difference from an OSNet/);
  });

  it.for([
    ["real", "osnet_x0_25_msmt17.torch2.8.onnx", "osnet_x0_25_msmt17.pth", 90],
    ["fixtures", "osnet_x0_25.torch1.13.op12.onnx", "osnet_x0_25.pth", 90],
    ["fixtures", "osnet_ain_x0_25.torch1.13.op12.onnx", "osnet_ain_x0_25.pth", 105],
    ["fixtures", "osnet_nas_x0_25.torch1.13.op12.unfolded.onnx", "osnet_nas_x0_25.pth", 485],
  ] as const)("%s/%s: what was not folded is the checkpoint's", ([folder, onnx, pth, count], context) => {
    const names = folder === "real" ? ([`real/${onnx}`, `real/${pth}`] as const) : ([onnx, pth] as const);
    const absent = missing(...names);
    if (absent) return context.skip(absent);
    const checkpoint = openCheckpoint(readFixture(names[1]), { subject: pth });
    const match = matchGraph(decodeOnnx(readFixture(names[0]), SUBJECT), SUBJECT);
    const { stateDict, reparameterised } = liftStateDict(match, SUBJECT);
    const untouched = [...stateDict].filter(
      ([path]) => !reparameterised.includes(path) && !path.endsWith("num_batches_tracked"),
    );
    expect(untouched).toHaveLength(count);
    for (const [path, tensor] of untouched) expect(tensor, path).toEqual(checkpoint.stateDict.get(path));
    const expected = foldedWeights(checkpoint.graph, checkpoint.stateDict);
    for (const [name, { data }] of foldedWeights(match.graph, stateDict)) {
      const trained = expected.get(name)?.data ?? [];
      const errors = Array.from(data as Float32Array, (value, index) =>
        Math.abs(value - Number(trained[index])),
      );
      expect(
        errors.filter((error) => !(error <= 1e-6)),
        name,
      ).toEqual([]);
    }
  });
});

describe("one linear layer after the pooled map", () => {
  const notesOf = (spec: OsnetSpec, output: "features" | "logits") => {
    const graph = expand(spec);
    const bytes = encodeOnnx(lowerToOnnx(graph, parametersFor(graph), { size: "dynamic", output }));
    const { spec: found, decoded } = liftCheckpoint(openModel("onnx", { name: "theirs.onnx", bytes }));
    return [found.embedding, found.head?.classes, decoded.notes.filter((note) => /classifier/.test(note))];
  };

  it("is read as a classifier, with a note that says so", () => {
    const note = expect.stringMatching(/^the only linear layer .* \(5 outputs\) is read as a classifier: /);
    expect(notesOf({ ...SMALL_SPEC, embedding: [] }, "logits")).toEqual([[], 5, [note]]);
  });

  it("is an embedding if a batch norm and a ReLU follow it, without a note", () => {
    expect(notesOf(SMALL_SPEC, "features")).toEqual([[12], undefined, []]);
    expect(notesOf(SMALL_SPEC, "logits")).toEqual([[12], 5, []]);
  });
});
