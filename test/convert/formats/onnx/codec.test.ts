import onnxProto from "onnx-proto";
import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../../src/core/tensor.js";
import { chainModel, identityModel } from "./models.js";

const { ModelProto } = onnxProto.onnx;
const subject = "model.onnx";

const TENSORS: readonly Tensor[] = [
  { dtype: "float32", shape: [2, 2], data: Float32Array.of(1, -0, 1e-45, Number.POSITIVE_INFINITY) },
  { dtype: "float64", shape: [1], data: Float64Array.of(Math.PI) },
  { dtype: "float16", shape: [2], data: Uint16Array.of(0x3c00, 0x8001) },
  { dtype: "bfloat16", shape: [1], data: Uint16Array.of(0x3f80) },
  { dtype: "int64", shape: [], data: BigInt64Array.of(-(2n ** 63n)) },
  { dtype: "int32", shape: [1], data: Int32Array.of(-7) },
  { dtype: "int16", shape: [1], data: Int16Array.of(-7) },
  { dtype: "int8", shape: [3], data: Int8Array.of(-128, 0, 127) },
  { dtype: "uint8", shape: [1], data: Uint8Array.of(255) },
  { dtype: "bool", shape: [2], data: Uint8Array.of(0, 1) },
  { dtype: "float32", shape: [0, 4], data: new Float32Array(0) },
];

/** A graph inside an attribute, whose values have names of their own. */
const INNER = chainModel([{ opType: "Identity", output: "y" }], "inner").graph;

/** A model with everything that the document type can say. */
const FULL: OnnxModel = {
  irVersion: 8,
  opset: 17,
  customOpsets: new Map([["com.example", 3]]),
  producer: { name: "someone", version: "1.2" },
  graph: {
    name: "g",
    inputs: [
      { name: "x", dtype: "float32", shape: ["batch", 3, null] },
      { name: "unranked", dtype: "int64" },
      { name: "untyped" },
    ],
    outputs: [{ name: "conv2.0.gate[1].gate_activation", dtype: "float32", shape: [] }],
    nodes: [
      {
        name: "n",
        opType: "Anything",
        domain: "com.example",
        inputs: ["x", "", "weight0"],
        outputs: ["conv2.0.gate[1].gate_activation"],
        attributes: new Map([
          ["float", { type: "float", value: 0.5 }],
          ["int", { type: "int", value: -3 }],
          ["string", { type: "string", value: "größer" }],
          ["tensor", { type: "tensor", value: { dtype: "int32", shape: [1], data: Int32Array.of(5) } }],
          ["graph", { type: "graph", value: INNER }],
          ["floats", { type: "floats", value: [0.25, -1] }],
          ["ints", { type: "ints", value: [0, 1, Number.MAX_SAFE_INTEGER] }],
          ["strings", { type: "strings", value: ["a", ""] }],
        ]),
      },
    ],
    initializers: new Map(TENSORS.map((tensor, index) => [`weight${index}`, tensor])),
  },
  metadata: new Map([
    ["__proto__", "a key like any other"],
    ["empty", ""],
  ]),
};

describe("encodeOnnx and decodeOnnx", () => {
  it("return the model that went in", () => {
    expect(decodeOnnx(encodeOnnx(FULL), { subject })).toEqual(FULL);
  });

  it("write the same bytes every time, also after decoding", () => {
    const bytes = encodeOnnx(FULL);
    expect(encodeOnnx(FULL)).toEqual(bytes);
    expect(encodeOnnx(decodeOnnx(bytes, { subject }))).toEqual(bytes);
  });

  it("write the bytes that onnx-proto writes", () => {
    const bytes = encodeOnnx(FULL);
    expect(Uint8Array.from(ModelProto.encode(ModelProto.decode(bytes)).finish())).toEqual(bytes);
  });

  it("read a Node Buffer at any alignment", () => {
    const bytes = encodeOnnx(FULL);
    for (let shift = 0; shift < 8; shift++) {
      const buffer = Buffer.alloc(bytes.length + shift);
      buffer.set(bytes, shift);
      expect(decodeOnnx(buffer.subarray(shift), { subject })).toEqual(FULL);
    }
  });

  it("skip fields that they do not know", () => {
    // Field 1000, length-delimited: tag (1000 << 3) | 2 as a varint, 3 bytes.
    const bytes = Uint8Array.of(...encodeOnnx(identityModel()), 0xc2, 0x3e, 3, 1, 2, 3);
    expect(decodeOnnx(bytes, { subject })).toEqual(identityModel());
  });

  it("read elements that are not stored raw", () => {
    const initializer = [
      { name: "f", dims: [2], dataType: 1, floatData: [1.5, -2] },
      { name: "h", dims: [1], dataType: 10, int32Data: [0x3c00] },
      { name: "i", dims: [1], dataType: 3, int32Data: [-5] },
      { name: "l", dims: [2], dataType: 7, int64Data: [-1, 2 ** 40 + 2 ** 31] },
      { name: "d", dims: [], dataType: 11, doubleData: [0.1] },
    ];
    const bytes = ModelProto.encode({ opsetImport: [{ version: 9 }], graph: { initializer } }).finish();
    expect([...decodeOnnx(bytes, { subject }).graph.initializers.values()].map(({ data }) => data)).toEqual([
      Float32Array.of(1.5, -2),
      Uint16Array.of(0x3c00),
      Int8Array.of(-5),
      BigInt64Array.of(-1n, 2n ** 40n + 2n ** 31n),
      Float64Array.of(0.1),
    ]);
  });

  it("merge a graph that comes in two pieces, as protobuf readers must", () => {
    const extra = ModelProto.encode({
      graph: { node: [{ opType: "Relu", input: ["y"], output: ["z"] }] },
    }).finish();
    const bytes = Uint8Array.of(...encodeOnnx(identityModel()), ...extra);
    expect(decodeOnnx(bytes, { subject }).graph.nodes.map(({ opType }) => opType)).toEqual([
      "Identity",
      "Relu",
    ]);
  });

  it("hold int64 attributes to what a number can say exactly", () => {
    const node = [{ opType: "Slice", attribute: [{ name: "ends", type: 7, ints: [2 ** 62, -(2 ** 62)] }] }];
    const bytes = ModelProto.encode({ opsetImport: [{ version: 9 }], graph: { node } }).finish();
    expect(decodeOnnx(bytes, { subject }).graph.nodes[0]?.attributes.get("ends")?.value).toEqual([
      Number.MAX_SAFE_INTEGER,
      Number.MIN_SAFE_INTEGER,
    ]);
  });
});
