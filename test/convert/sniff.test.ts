import { describe, expect, it } from "vitest";
import { sniffFormat } from "../../src/convert/formats/sniff.js";
import { readFixture } from "../fixtures.js";
import { encodeNpz } from "../support/npy.js";
import { convert, openFixture } from "../support/osnet.js";

const recording = encodeNpz({ output: { dtype: "float32", shape: [1], data: Float32Array.of(1) } });

describe("sniffFormat", () => {
  it.each([
    ["a checkpoint in a zip", () => readFixture("osnet_x0_25.pth"), "pth"],
    ["an older checkpoint", () => Uint8Array.of(0x80, 0x02, 0x8a, 0x0a), "pth"],
    ["our own ONNX file", () => convert(openFixture()), "onnx"],
    ["PyTorch's ONNX file", () => Uint8Array.of(0x08, 0x07, 0x12, 0x07), "onnx"],
    ["a recording", () => recording, "npz"],
    // The checkpoint reader says in words what these are.
    ["a damaged zip", () => recording.subarray(0, recording.length - 30), "pth"],
    ["nothing", () => new Uint8Array(), "pth"],
  ])("%s is %s", (_, bytes, format) => {
    expect(sniffFormat(bytes())).toBe(format);
  });
});
