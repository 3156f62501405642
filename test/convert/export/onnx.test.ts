import { describe, expect, it } from "vitest";
import { expand } from "../../../src/arch/expand.js";
import { lowerToOnnx, type OnnxOptions } from "../../../src/convert/export/onnx.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { float32, GRAPH, SMALL_SPEC, STATE } from "./graphs.js";
import { runOnnx } from "./onnx/run.js";

const SIZE = { height: 32, width: 16 };
const IMAGES = float32(
  [2, 3, SIZE.height, SIZE.width],
  Array.from({ length: 2 * 3 * SIZE.height * SIZE.width }, (_, index) => Math.sin(index * index)),
);

const lower = (options: OnnxOptions = {}): OnnxModel => lowerToOnnx(GRAPH, STATE, { size: SIZE, ...options });
const nodeNames = ({ graph }: OnnxModel): string[] => graph.nodes.map(({ name }) => name);

describe("lowerToOnnx", () => {
  it("writes the same bytes every time", () => {
    expect(encodeOnnx(lower())).toEqual(encodeOnnx(lower()));
  });

  it("declares a dynamic batch and a fixed size", () => {
    const { inputs, outputs } = lower().graph;
    expect(inputs).toEqual([{ name: "images", dtype: "float32", shape: ["batch", 3, 32, 16] }]);
    expect(outputs).toEqual([{ name: "features", dtype: "float32", shape: ["batch", 12] }]);
  });

  it("declares what it is told to", () => {
    const { inputs, outputs } = lower({
      batch: 4,
      size: "dynamic",
      inputName: "pixels",
      outputName: "embedding",
    }).graph;
    expect(inputs[0]).toEqual({ name: "pixels", dtype: "float32", shape: [4, 3, "height", "width"] });
    expect(outputs[0]).toEqual({ name: "embedding", dtype: "float32", shape: [4, 12] });
  });

  it("renames the first of two outputs only", () => {
    const { outputs } = lower({ output: "both", outputName: "embedding" }).graph;
    expect(outputs.map(({ name }) => name)).toEqual(["embedding", "logits"]);
  });

  it("names every layer's value and node after the layer", () => {
    const { graph } = lower({ fold: false });
    const values = new Set(graph.nodes.flatMap(({ outputs }) => outputs));
    const layers = GRAPH.nodes
      .map(({ name }) => name)
      .filter((name) => name !== "images" && name !== "classifier");
    expect(layers.filter((name) => !values.has(name))).toEqual([]);
    expect(values).toContain("conv2.0.gate[2].gate_activation");
    expect(graph.nodes.at(-1)).toMatchObject({ name: "features", opType: "Identity", inputs: ["fc.2"] });
  });

  it("keeps unfolded weights bit for bit under their paths, the gate's once", () => {
    const { initializers } = lower({ fold: false, output: "both" }).graph;
    const expected = [...STATE.keys()].filter((path) => !path.endsWith("num_batches_tracked"));
    expect([...initializers.keys()].sort()).toEqual(expected.sort());
    for (const [name, tensor] of initializers) expect(tensor).toBe(STATE.get(name));
  });

  it("gives folded weights names that no state dict has", () => {
    const { initializers } = lower().graph;
    expect(initializers.has("conv1.conv.weight")).toBe(false);
    expect(initializers.get("conv1.bn.folded.weight")?.shape).toEqual([8, 3, 7, 7]);
    expect(initializers.has("conv2.0.gate.fc1.weight")).toBe(true);
    expect([...initializers.keys()].filter((name) => STATE.has(name) && name.includes(".bn."))).toEqual([]);
  });

  it("drops the classifier when only the embedding is wanted", () => {
    expect(nodeNames(lower())).not.toContain("classifier");
    expect([...lower().graph.initializers.keys()]).not.toContain("classifier.weight");
    expect(nodeNames(lower({ output: "logits" }))).toContain("classifier");
  });

  it("returns embedding, logits and gates, folded or not, at any opset, dynamic or static alike", async () => {
    const reference = await runOnnx(lower({ output: "both", gates: true, fold: false }), IMAGES);
    const gates = GRAPH.gates.map(({ layer }) => layer);
    expect([...reference.keys()]).toEqual(["features", "logits", ...gates]);
    expect(reference.get("conv3.0.gate[3].gate_activation")?.shape).toEqual([2, 4, 1, 1]);
    const alternatives: readonly OnnxOptions[] = [
      { opset: 11 },
      { opset: 26 },
      { size: "dynamic" },
      { batch: 2 },
      { inputName: "pixels" },
    ];
    for (const options of alternatives) {
      const results = await runOnnx(lower({ output: "both", gates: true, ...options }), IMAGES);
      for (const [name, { data }] of reference) {
        const peak = data.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
        expect(peak).toBeGreaterThan(0);
        results.get(name)?.data.forEach((value, index) => {
          expect(Math.abs(value - (data[index] ?? Number.NaN))).toBeLessThanOrEqual(1e-5 * peak);
        });
      }
    }
  });

  it("returns an attribute model's probabilities by default", () => {
    const graph = expand({ ...SMALL_SPEC, head: { classes: 5, loss: "sigmoid" } });
    const { outputs } = lowerToOnnx(graph, STATE, { size: SIZE }).graph;
    expect(outputs).toEqual([{ name: "probabilities", dtype: "float32", shape: ["batch", 5] }]);
  });

  it.each([
    [11, 6],
    [12, 7],
    [14, 7],
    [17, 8],
    [20, 9],
    [22, 10],
    [23, 11],
    [26, 13],
  ])("writes opset %i with IR version %i", (opset, irVersion) => {
    expect(lower({ opset })).toMatchObject({ opset, irVersion });
  });

  it("records the architecture and whether it is folded", () => {
    const { metadata } = lower({ fold: false });
    expect([...metadata.keys()]).toEqual(["osnet.spec", "osnet.folded"]);
    expect(JSON.parse(metadata.get("osnet.spec") ?? "")).toEqual(SMALL_SPEC);
    expect(metadata.get("osnet.folded")).toBe("false");
  });

  it.each<[OnnxOptions, RegExp]>([
    [{ opset: 10 }, /^opset: found 10, expected a whole number from 11 to 26/],
    [{ opset: 27 }, /^opset: found 27/],
    [{ opset: 17.5 }, /^opset: found 17\.5/],
    [{ batch: 0 }, /^batch: found 0/],
    [{ size: { height: 7, width: -3 } }, /^image width: found -3/],
    [{ size: { height: 7, width: 3 } }, /^image size 7x3/],
    [{ output: "probabilities" }, /^output: found probabilities, expected features or logits/],
    [{ outputName: "conv1.relu" }, /"conv1\.relu", which is already in use/],
    [{ inputName: "features" }, /"features", which is already in use/],
    [{ inputName: "" }, /an empty name/],
  ])("refuses %o", (options, message) => {
    expect(() => lower(options)).toThrow(message);
  });
});
