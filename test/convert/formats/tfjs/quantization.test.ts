import { describe, expect, it } from "vitest";
import { decodeTfjs, encodeTfjs } from "../../../../src/convert/formats/tfjs/codec.js";
import { chooseQuantization, dequantize, quantize } from "../../../../src/convert/formats/tfjs/manifest.js";
import type { QuantizedDType, TfjsWeight } from "../../../../src/convert/formats/tfjs/model.js";
import type { Tensor } from "../../../../src/core/tensor.js";
import { LAYERS_MODEL } from "./models.js";

const subject = "model.json";
const TENSOR: Tensor<"float32"> = {
  dtype: "float32",
  shape: [5],
  data: Float32Array.of(-1, 0, 0.25, 1e-3, 2),
};

describe("quantised storage", () => {
  it.each([
    ["float16", 2 ** -11],
    ["uint16", 3 / 65535 / 2],
    ["uint8", 3 / 255 / 2],
  ] as const)("%s: within half a step, zero exact, stable", (dtype, halfStep) => {
    const stored = chooseQuantization(TENSOR, dtype);
    const read = dequantize(quantize(TENSOR, stored), TENSOR.shape, "float32", stored);
    // Half a step more at the ends, from which the range moved so that zero is a step.
    read.data.forEach((value, index) => {
      expect(Math.abs(Number(value) - (TENSOR.data[index] ?? 0))).toBeLessThanOrEqual(2 * halfStep + 1e-7);
    });
    expect(read.data[1]).toBeCloseTo(0, 12);
    expect(quantize(read as Tensor<"float32">, stored)).toEqual(quantize(TENSOR, stored));
  });

  it.each(["float16", "uint16", "uint8"] as const)(
    "%s: a constant and an empty tensor",
    (dtype: QuantizedDType) => {
      for (const data of [Float32Array.of(0.5, 0.5), new Float32Array()]) {
        const tensor: Tensor<"float32"> = { dtype: "float32", shape: [data.length], data };
        const stored = chooseQuantization(tensor, dtype);
        expect(dequantize(quantize(tensor, stored), tensor.shape, "float32", stored)).toEqual(tensor);
      }
    },
  );

  it("is a property of each weight in a file", () => {
    const stored = { dtype: "uint8", min: -1, scale: 0.5 } as const;
    const tensor: Tensor<"float32"> = { dtype: "float32", shape: [3], data: Float32Array.of(-1, 0, 126.5) };
    const plain = { tensor: TENSOR };
    const model = {
      ...LAYERS_MODEL,
      weights: new Map<string, TfjsWeight>([
        ["q", { tensor, stored }],
        ["w", plain],
      ]),
    };
    const files = encodeTfjs(model);
    expect(files.shards.get("group1-shard1of1.bin")?.subarray(0, 3)).toEqual(Uint8Array.of(0, 2, 255));
    expect(decodeTfjs(files, { subject })).toEqual(model);
  });
});
