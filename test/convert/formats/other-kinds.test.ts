import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { encodeSafetensors } from "../../../src/convert/formats/safetensors.js";
import { otherKind, sniffFormat } from "../../../src/convert/formats/sniff.js";
import { decodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import { decodeWeights } from "../../../src/convert/open/checkpoint.js";
import { openFile } from "../../../src/convert/open/open-file.js";
import { InputError } from "../../../src/core/errors.js";
import { readFixture } from "../../fixtures.js";
import { convert, openFixture } from "../../support/osnet.js";
import { bytesOf, zip } from "./pth/build.js";

/** How files of other kinds begin, what they are called, and a word of what to do. */
const KINDS: readonly (readonly [bytes: string, found: string, remedy: string])[] = [
  ["\x20\0\0\0ORTM\0\0\0\0", "an onnxruntime model (.ort)", ".onnx"],
  ["\x1c\0\0\0TFL3", "a TensorFlow Lite model", "tf2onnx"],
  ['<?xml version="1.0"?>\n<net name="main_graph" version="11">', "an OpenVINO model", "ONNX model"],
  ['<net name="osnet" version="10" batch="1">', "an OpenVINO model", "ONNX model"],
  [`\n\xd2\x0c\x08\0\x10${"\xff".repeat(9)}\x01\x1a\x20`, "a PaddlePaddle model", "paddle2onnx"],
  ['{"base_code":{"magic":"pir","version":1}', "a PaddlePaddle model", "paddle2onnx"],
  [
    `${"\0".repeat(16)}\x08\0\0\0\x08\x05\x10\x40\x10\x03`,
    "parameters of a PaddlePaddle model",
    "paddle2onnx",
  ],
  ["\x08\x04\x12\x5a\n\x1c\n\x06images\x1a\x12", "a Core ML model", "ONNX model"],
  ["\x08\x01\x12\xff\x80\x01\n\x8a\x02\x12\x05", "a TensorFlow SavedModel", "tf2onnx"],
  ["\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it", "tf2onnx"],
  ["7767517\n85 97\n", "an ncnn model", "ONNX model"],
  ["\x1f\x8b\x08\0", "a gzip file", "unpack"],
  ["7z\xbc\xaf\x27\x1c", "a compressed archive", "unpack"],
];

const READERS: readonly (readonly [name: string, read: (bytes: Uint8Array) => unknown])[] = [
  ["an ONNX model", (bytes) => decodeOnnx(bytes, { subject: "f" })],
  [
    "the model.json of a TensorFlow.js model",
    (json) => decodeTfjs({ json, shards: new Map() }, { subject: "f" }),
  ],
  ["a PyTorch checkpoint", (bytes) => decodeWeights(bytes, { subject: "f", format: "pth" })],
  ["a safetensors file", (bytes) => decodeWeights(bytes, { subject: "f", format: "safetensors" })],
  ["an .npz archive of numpy arrays", (bytes) => decodeWeights(bytes, { subject: "f", format: "npz" })],
];

function refusalOf(read: () => unknown): InputError {
  try {
    read();
  } catch (error) {
    if (error instanceof InputError) return error;
  }
  throw new Error("nothing was refused");
}

describe("files of other kinds are called what they are", () => {
  it.each(KINDS)("%j is %s", (text, found, remedy) => {
    const bytes = bytesOf(text);
    for (const [expected, read] of READERS) {
      // JSON is read as a model.json, and says what that lacks.
      if (text.startsWith("{") && expected.startsWith("the model.json")) continue;
      const { problem } = refusalOf(() => read(bytes));
      expect(problem).toMatchObject({ code: "format", found, expected });
      expect(problem.remedy).toContain(remedy);
      expect(problem.remedy).not.toContain("torch.save");
    }
  });

  it("as are archives that were zipped, where a model is expected", () => {
    const model = zip([{ name: "osnet.onnx", data: "" }]);
    expect(refusalOf(() => decodeOnnx(model, { subject: "m.zip" })).problem.remedy).toContain("unzip");
    expect(refusalOf(() => decodeWeights(model, { subject: "m.zip" })).problem.remedy).toContain("unpack");
    const keras = zip(["config.json", "model.weights.h5"].map((name) => ({ name, data: "" })));
    expect(refusalOf(() => decodeWeights(keras, { subject: "m.keras" })).problem.found).toBe("a Keras model");
    const program = zip(["a/archive_format", "a/data/weights/weight_0"].map((name) => ({ name, data: "" })));
    const { problem } = refusalOf(() => decodeWeights(program, { subject: "m.pt2" }));
    expect(problem).toMatchObject({
      found: "a program of torch.export",
      remedy: expect.stringContaining("torch.export.load"),
    });
  });

  it("as are files with the name of another format, which they may have too", () => {
    const weights = encodeSafetensors(new Map(), { subject: "w" });
    for (const [name, bytes, format] of [
      ["m.onnx", readFixture("osnet_x0_25.pth"), "pth"],
      ["m.onnx", readFixture("osnet_x0_25.64x32.npz"), "npz"],
      ["m.pth", weights, "safetensors"],
      ["m.pth.tar-60", weights, "safetensors"],
      ["m.npz", weights, "safetensors"],
      ["m.pt", convert(openFixture()), "onnx"],
    ] as const) {
      const { problem } = refusalOf(() => openFile({ name, bytes }));
      expect(problem, name).toMatchObject({ code: "format", remedy: `rename the file to end in .${format}` });
    }
    expect(decodeWeights(weights, { subject: "m" }).format).toBe("safetensors");
  });

  it("and files that are read are none of them", () => {
    const files = [
      convert(openFixture()),
      readFixture("osnet_x0_25.pth"),
      readFixture("osnet_x0_25.64x32.npz"),
    ];
    expect(files.map((bytes) => [sniffFormat(bytes), otherKind(bytes)])).toEqual([
      ["onnx", undefined],
      ["pth", undefined],
      ["npz", undefined],
    ]);
  });
});
