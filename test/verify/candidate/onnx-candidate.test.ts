import { describe, expect, it } from "vitest";
import { statedSpec } from "../../../src/convert/export/metadata.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { type OnnxModel, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { Candidate } from "../../../src/verify/candidate/candidate.js";
import { onnxCandidate } from "../../support/candidates.js";
import { convert, openFixture } from "../../support/osnet.js";

const checkpoint = openFixture();
const bytes = convert(checkpoint, { output: "both" });
const model = decodeOnnx(bytes, { subject: "m.onnx" });

function candidateOf(changed: OnnxModel): Candidate {
  return onnxCandidate(bytes, changed, checkpoint.graph);
}

describe("statedSpec", () => {
  it("is the checkpoint's, or none", () => {
    expect(statedSpec(model.metadata, "m.onnx")).toEqual(checkpoint.spec);
    expect(statedSpec(new Map(), "m.onnx")).toBeUndefined();
  });

  it("is refused where a file has a broken one", () => {
    expect(() => statedSpec(new Map([["osnet.spec", "{"]]), "m.onnx")).toThrow(
      "m.onnx, metadata osnet.spec: found text that is not JSON, expected an OSNet architecture description;",
    );
  });
});

describe("onnxCandidate", () => {
  it("looks through renamed results to their layers", () => {
    const { results, backend, folded } = candidateOf(model);
    expect(results).toEqual(["fc.2", "classifier"]);
    expect(folded.size).toBe(80);
    expect(folded.has("conv1.conv")).toBe(true);
    expect(backend.layers).toContain("conv2.0.gate[1].gate_activation");
    expect(backend.layers).not.toContain("conv1.conv");
  });

  it("looks through any number of nodes that hand a result on, and not in circles", () => {
    const row = Array.from({ length: 100_000 }, (_, at) =>
      onnxNode(`i${at}`, "Identity", [at === 0 ? "features" : `i${at - 1}`]),
    );
    const circle = [onnxNode("a", "Identity", ["b"]), onnxNode("b", "Identity", ["a"])];
    const outputs = [{ name: "a" }, { name: "i99999" }];
    const graph = { ...model.graph, nodes: [...model.graph.nodes, ...row, ...circle], outputs };
    expect(candidateOf({ ...model, graph }).results).toEqual(["fc.2"]);
  });

  it("does not take a missing layer for a folded one unless a convolution stands in", () => {
    const nodes = model.graph.nodes.map((node) =>
      node.outputs.includes("conv1.bn") ? { ...node, opType: "BatchNormalization" } : node,
    );
    expect(candidateOf({ ...model, graph: { ...model.graph, nodes } }).folded.has("conv1.conv")).toBe(false);
  });

  it("refuses a model whose outputs are no layers", () => {
    const outputs = [{ name: "embedding" }, { name: "embedding2" }];
    expect(() => candidateOf({ ...model, graph: { ...model.graph, outputs } })).toThrow(
      expect.objectContaining({ problem: expect.objectContaining({ code: "unsupported" }) }),
    );
  });
});
