import { createRequire } from "node:module";
import { sep } from "node:path";
import { expect, it } from "vitest";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import { identityModel } from "../convert/formats/onnx/models.js";

/**
 * protobufjs 6 has had weaknesses in its parser of .proto texts, its reflection, and `util.setProperty` (docs/architecture.md). None of
 * that is loaded to read an ONNX file: only what generated code calls.
 */
it("of protobufjs, reading ONNX loads readers and writers, and neither parser nor reflection", () => {
  decodeOnnx(encodeOnnx(identityModel()), { subject: "m.onnx" });
  const { cache } = createRequire(import.meta.url);
  const loaded = Object.keys(cache)
    .map((path) => path.split(sep).join("/"))
    .flatMap((path) => /\/protobufjs\/(.*)$/.exec(path)?.[1] ?? []);
  expect(loaded).toContain("minimal.js");
  const needed =
    /^(minimal|src\/(index-minimal|reader|reader_buffer|writer|writer_buffer|roots|rpc|rpc\/service|util\/minimal|util\/longbits))\.js$/;
  expect(loaded.filter((path) => !needed.test(path))).toEqual([]);
});
