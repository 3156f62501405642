import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../../src/convert/formats/onnx/decode.js";
import { appendOutputs, encodeOnnx } from "../../../../src/convert/formats/onnx/encode.js";
import { chainModel } from "./models.js";

const MODEL = chainModel([
  { opType: "Relu", output: "conv2.0.gate[1].relu" },
  { opType: "Neg", output: "negated" },
  { opType: "Identity", output: "y" },
]);

describe("appendOutputs", () => {
  it("adds to the end of the file and changes nothing before", () => {
    const bytes = encodeOnnx(MODEL);
    const tapped = appendOutputs(bytes, ["negated"]);
    expect(tapped.subarray(0, bytes.length)).toEqual(bytes);
    const { graph } = decodeOnnx(tapped, { subject: "tapped" });
    expect(graph).toEqual({ ...MODEL.graph, outputs: [...MODEL.graph.outputs, { name: "negated" }] });
  });

  it("makes onnxruntime return the values, of which it infers the types", async () => {
    const tapped = appendOutputs(encodeOnnx(MODEL), ["negated", "conv2.0.gate[1].relu"]);
    const session = await InferenceSession.create(tapped);
    const results = await session.run({ x: new Tensor("float32", Float32Array.of(-1, 2), [1, 2]) });
    expect(results["conv2.0.gate[1].relu"]?.data).toEqual(Float32Array.of(0, 2));
    expect(results.negated?.data).toEqual(Float32Array.of(-0, -2));
    expect(results.y?.data).toEqual(Float32Array.of(-0, -2));
  });
});
