import onnxProto from "onnx-proto";
import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../../../src/convert/formats/onnx/encode.js";
import { InputError } from "../../../../src/core/errors.js";
import { identityModel } from "./models.js";

const { ModelProto } = onnxProto.onnx;
type ITensorProto = onnxProto.onnx.ITensorProto;

function refusalOf(bytes: Uint8Array): InputError {
  try {
    decodeOnnx(bytes, { subject: "model.onnx" });
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

function modelWith(initializer: readonly ITensorProto[]): Uint8Array {
  return ModelProto.encode({
    opsetImport: [{ version: 17 }],
    graph: { initializer: [...initializer] },
  }).finish();
}

describe("decodeOnnx refuses", () => {
  it.each([
    ["an empty file", new Uint8Array()],
    ["a text file", new TextEncoder().encode("version https://git-lfs.github.com/spec/v1\n")],
    ["zeros", new Uint8Array(64)],
    ["a pickle", Uint8Array.of(0x80, 2, 0x7d, 0x71, 0)],
    ["a length of 2⁶³", Uint8Array.of(0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)],
    ["an endless number", new Uint8Array(32).fill(0xff)],
  ])("%s", (_what, bytes) => {
    const { code, message } = refusalOf(bytes);
    expect(code).toBe("format");
    expect(message).toMatch(/^model\.onnx: found .*, expected an ONNX model; .*\.$/);
  });

  it("a name longer than the file, also in a Node Buffer", () => {
    // opset_import { version: 11 }, graph { name: 100 bytes, of which there are 3 }.
    const bytes = [0x42, 2, 0x10, 11, 0x3a, 5, 0x12, 100, 0x61, 0x62, 0x63];
    expect(refusalOf(Buffer.from(bytes)).code).toBe("format");
  });

  it("a file cut off anywhere inside it", () => {
    const bytes = encodeOnnx({ ...identityModel(), producer: { name: "someone", version: "1" } });
    for (let length = 0; length < bytes.length; length++)
      expect(refusalOf(bytes.subarray(0, length)).code, `${length} bytes`).toBe("format");
  });

  it.each<[string, ITensorProto, RegExp]>([
    [
      "raw data that is too short",
      { dims: [3], dataType: 1, rawData: new Uint8Array(8) },
      /found 8 bytes, expected 12/,
    ],
    [
      "raw data that is too long",
      { dims: [1], dataType: 1, rawData: new Uint8Array(8) },
      /found 8 bytes, expected 4/,
    ],
    [
      "missing elements",
      { dims: [2, 2], dataType: 1, floatData: [1] },
      /\[2, 2\]: found 1 elements, expected 4/,
    ],
    ["a tensor of terabytes", { dims: [2 ** 20, 2 ** 20], dataType: 1 }, /found 0 elements/],
    ["a size beyond all memory", { dims: [2 ** 40, 2 ** 40], dataType: 1 }, /shape \[1099511627776, /],
    ["two negative dimensions", { dims: [-1, -1], dataType: 1, floatData: [1] }, /shape \[-1, -1\]/],
    ["a negative dimension", { dims: [-1], dataType: 1 }, /shape \[-1\]/],
    [
      "a type that no OSNet has",
      { dims: [1], dataType: 8, stringData: [new Uint8Array(1)] },
      /element type string, .*in float32/,
    ],
    [
      "a type that only quantised networks have",
      { dims: [1], dataType: 4, int32Data: [1] },
      /element type uint16, .*the float model/,
    ],
  ])("%s", (_what, tensor, message) => {
    const error = refusalOf(modelWith([{ name: "w", ...tensor }]));
    expect(error.message).toMatch(/^tensor "w" of model\.onnx/);
    expect(error.message).toMatch(message);
  });

  it("weights in another file, naming it", () => {
    const externalData = [{ key: "location", value: "model.onnx.data" }];
    const error = refusalOf(
      modelWith([{ name: "w", dims: [1], dataType: 1, dataLocation: 1, externalData }]),
    );
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain('"model.onnx.data"');
  });

  it("two tensors of one name", () => {
    const tensor = { name: "w", dims: [1], dataType: 1, floatData: [1] };
    expect(refusalOf(modelWith([tensor, tensor])).message).toContain('two tensors named "w"');
  });
});
