import onnxProto from "onnx-proto";
import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../../../src/convert/formats/onnx/encode.js";
import { InputError } from "../../../../src/core/errors.js";
import { identityModel } from "./models.js";

const { onnx } = onnxProto;
type Model = onnxProto.onnx.IModelProto;
type Graph = onnxProto.onnx.IGraphProto;

function errorOf(bytes: Uint8Array): InputError | undefined {
  try {
    decodeOnnx(bytes, { subject: "m.onnx", sidecar: () => new Uint8Array(4) });
    return undefined;
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
}

const relu = (input: string, output: string, extra: object = {}): onnxProto.onnx.INodeProto => ({
  opType: "Relu",
  input: [input],
  output: [output],
  ...extra,
});

function encoded(graph: Graph, extra: Partial<Model> = {}): Uint8Array {
  const whole = {
    name: "g",
    node: [relu("x", "y")],
    input: [{ name: "x" }],
    output: [{ name: "y" }],
    ...graph,
  };
  return onnx.ModelProto.encode({
    irVersion: 8,
    opsetImport: [{ version: 17 }],
    graph: whole,
    ...extra,
  }).finish();
}

const W = { name: "w", dims: [1], dataType: 1, floatData: [1] };
const RAW = Uint8Array.of(0, 0, 128, 63);
const location = { key: "location", value: "m.data" };
const branch = (output: string, extra: Graph = {}): onnxProto.onnx.IAttributeProto => ({
  name: "then_branch",
  type: 5,
  g: { name: "b", node: [relu("x", output)], output: [{ name: output }], ...extra },
});
const choice = (attribute: onnxProto.onnx.IAttributeProto): Graph => ({
  node: [relu("x", "t"), { opType: "If", input: ["c"], output: ["y"], attribute: [attribute] }],
  initializer: [{ name: "c", dims: [], dataType: 9, int32Data: [1] }],
});
const own = { name: "F", domain: "own", input: ["a"], output: ["b"], node: [relu("a", "b")] };

describe("a file that two readers may read in two ways is refused", () => {
  it.each<[string, Uint8Array, RegExp]>([
    [
      "a size that is a number and a name",
      encoded({
        input: [
          {
            name: "x",
            type: { tensorType: { elemType: 1, shape: { dim: [{ dimValue: 64, dimParam: "" }] } } },
          },
        ],
      }),
      /field 2 beside another field of the same oneof/,
    ],
    [
      "a value of two types",
      encoded({ input: [{ name: "x", type: { tensorType: { elemType: 1 }, sequenceType: {} } }] }),
      /field 4 beside another/,
    ],
    [
      "raw data beside external entries",
      encoded({
        initializer: [{ name: "w", dims: [1], dataType: 1, rawData: RAW, externalData: [location] }],
      }),
      /external entries/,
    ],
    [
      "an external tensor with raw data",
      encoded({
        initializer: [
          { name: "w", dims: [1], dataType: 1, rawData: RAW, dataLocation: 1, externalData: [location] },
        ],
      }),
      /rawData/,
    ],
    ["raw and typed data", encoded({ initializer: [{ ...W, rawData: RAW }] }), /floatData and rawData/],
    [
      "two locations",
      encoded({
        initializer: [
          { name: "w", dims: [1], dataType: 1, dataLocation: 1, externalData: [location, location] },
        ],
      }),
      /external entries/,
    ],
    ["two tensors of a name", encoded({ initializer: [W, W] }), /tensors/],
    ["a node that computes a tensor", encoded({ initializer: [{ ...W, name: "y" }] }), /sources of a value/],
    [
      "two nodes that compute a value",
      encoded({ node: [relu("x", "y"), relu("x", "y")] }),
      /sources of a value/,
    ],
    ["a node that computes an input", encoded({ node: [relu("x", "x")] }), /sources of a value/],
    [
      "two nodes of a name",
      encoded({ node: [relu("x", "t", { name: "n" }), relu("t", "y", { name: "n" })] }),
      /nodes/,
    ],
    ["two outputs of a name", encoded({ output: [{ name: "y" }, { name: "y" }] }), /outputs/],
    [
      "two attributes of a name",
      encoded({
        node: [
          relu("x", "y", {
            attribute: [
              { name: "a", type: 1, f: 1 },
              { name: "a", type: 1, f: 2 },
            ],
          }),
        ],
      }),
      /attributes/,
    ],
    [
      "an attribute with two values",
      encoded({ node: [relu("x", "y", { attribute: [{ name: "a", type: 1, f: 1, i: 2 }] })] }),
      /f and i/,
    ],
    [
      "a reference outside a function",
      encoded({ node: [relu("x", "y", { attribute: [{ name: "a", type: 1, refAttrName: "b" }] })] }),
      /refers to/,
    ],
    ["a value of a branch that the graph has", encoded(choice(branch("t"))), /branch/],
    [
      "a tensor of a branch that the graph has",
      encoded(choice(branch("z", { initializer: [{ ...W, name: "c" }] }))),
      /branch/,
    ],
    [
      "two operator sets of a domain",
      encoded({}, { opsetImport: [{ version: 17 }, { domain: "ai.onnx", version: 13 }] }),
      /17 and 13/,
    ],
    [
      "two metadata entries of a key",
      encoded(
        {},
        {
          metadataProps: [
            { key: "k", value: "a" },
            { key: "k", value: "b" },
          ],
        },
      ),
      /metadata/,
    ],
    ["two functions of a name", encoded({}, { functions: [own, own] }), /functions/],
    [
      "a function beside an operator",
      encoded({}, { functions: [{ ...own, name: "Relu", domain: "" }] }),
      /operators of that domain/,
    ],
    [
      "a function beside an operator, by the domain's long name",
      encoded({}, { functions: [{ ...own, name: "Relu", domain: "ai.onnx" }] }),
      /operators of that domain/,
    ],
    [
      "a function beside onnxruntime's operators",
      encoded({}, { functions: [{ ...own, name: "Gelu", domain: "com.microsoft" }] }),
      /operators of that domain/,
    ],
    [
      "a function of another operator set",
      encoded({}, { functions: [{ ...own, opsetImport: [{ version: 13 }] }] }),
      /operator set 13/,
    ],
  ])("%s", (_what, bytes, message) => {
    const error = errorOf(bytes);
    expect(error?.code).toBe("format");
    expect(error?.message).toMatch(message);
  });

  it("nor more inputs of a node than any operator of a network has", () => {
    const sum = (count: number): Uint8Array =>
      encoded({ node: [{ opType: "Sum", input: Array<string>(count).fill("x"), output: ["y"] }] });
    expect(errorOf(sum(4097))).toMatchObject({ code: "format", problem: { found: "4097 inputs" } });
    expect(errorOf(sum(4096))).toBeUndefined();
  });

  it("but not branches whose values have the same names as each other's", () => {
    const graph = choice(branch("z"));
    const [first, decision] = graph.node ?? [];
    const both = { ...decision, attribute: [branch("z"), { ...branch("z"), name: "else_branch" }] };
    expect(errorOf(encoded({ ...graph, node: [first ?? {}, both] }))).toBeUndefined();
  });

  it("nor a tensor that is an input too, as before IR version 4", () => {
    expect(errorOf(encoded({ input: [{ name: "x" }, { name: "w" }], initializer: [W] }))).toBeUndefined();
  });
});

describe("protobuf that readers take in different ways is refused", () => {
  const bytes = encodeOnnx(identityModel());
  const text = new TextEncoder();
  /** GraphProto fields appended to the model, which protobuf merges into its graph. */
  const withGraph = (...fields: readonly number[]): Uint8Array =>
    Uint8Array.of(...bytes, 0x3a, fields.length, ...fields);
  const message = (tag: number, ...payload: readonly number[]): readonly number[] => [
    tag,
    payload.length,
    ...payload,
  ];

  it.each<[string, Uint8Array, string]>([
    // ModelProto.ir_version is field 1.
    ["a number twice", Uint8Array.of(...bytes, 0x08, 9), "format"],
    ["a number encoded as text", Uint8Array.of(...bytes, 0x0a, 1, 9), "format"],
    ["a name that is not UTF-8", Uint8Array.of(...bytes, 0x12, 2, 0xc0, 0x80), "format"],
    ["a tag of more than 32 bits", Uint8Array.of(...bytes, 0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 0), "format"],
    // NodeProto.name (3) twice.
    [
      "a node with two names",
      withGraph(...message(0x0a, ...message(0x1a, 0x61), ...message(0x1a, 0x62))),
      "format",
    ],
    ["a padded number", Uint8Array.of(0x08, 0x88, 0, ...bytes.subarray(2)), "format"],
    ["a padded tag", Uint8Array.of(0x88, 0, ...bytes.subarray(1)), "format"],
    ["a padded number in a field that nobody knows", Uint8Array.of(...bytes, 0x98, 0x06, 0x80, 0), "format"],
    ["a padded length", Uint8Array.of(...bytes, 0x12, 0x81, 0, 0x61), "format"],
    [
      "a number of more than 64 bits",
      Uint8Array.of(...bytes, 0x28, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2),
      "format",
    ],
    // TensorProto.dims (1) and int32_data (5), packed.
    ["a padded size", withGraph(...message(0x2a, ...message(0x0a, 0x81, 0))), "format"],
    ["a padded element", withGraph(...message(0x2a, ...message(0x2a, 0x81, 0x80, 0))), "format"],
    // NodeProto.overload (8).
    ["an overload", withGraph(...message(0x0a, ...message(0x42, ...text.encode("v2")))), "unsupported"],
  ])("%s", (_what, changed, code) => {
    expect(errorOf(changed)?.code).toBe(code);
  });

  // Fields of a TensorProto.
  it.each<[string, readonly number[]]>([
    // protobufjs reads ten bytes of it: what follows too.
    ["a data_type of six bytes", [0x10, 0x81, 0x80, 0x80, 0x80, 0x80, 0x01]],
    ["int32_data that ends inside a number", message(0x2a, 0x81)],
    ["float_data that ends inside a number", message(0x22, 1, 2, 3)],
  ])("%s", (_what, fields) => {
    expect(errorOf(withGraph(...message(0x2a, ...fields)))?.message).toMatch(/malformed number/);
  });

  it("but not negative numbers, which have ten bytes", () => {
    const int32Data = [-1, -(2 ** 31), 2 ** 31 - 1];
    const initializer = [{ name: "w", dims: [3], dataType: 6, int32Data }];
    const graph = { node: [relu("x", "y", { attribute: [{ name: "a", type: 2, i: -1 }] })], initializer };
    expect(errorOf(encoded(graph))).toBeUndefined();
  });
});

describe("attributes of functions", () => {
  /** A function with an attribute that has a default; onnx-proto does not know the field, attribute_proto (11). */
  function withDefault(call: onnxProto.onnx.INodeProto): Uint8Array {
    const body = onnx.FunctionProto.encode({
      ...own,
      node: [
        {
          opType: "LeakyRelu",
          input: ["a"],
          output: ["b"],
          attribute: [{ name: "alpha", refAttrName: "slope", type: 1 }],
        },
      ],
    }).finish();
    const value = onnx.AttributeProto.encode({ name: "slope", type: 1, f: 0.25 }).finish();
    const field = Uint8Array.of(...body, 0x5a, value.length, ...value);
    const model = encoded(
      { node: [call] },
      { opsetImport: [{ version: 17 }, { domain: "own", version: 1 }] },
    );
    return Uint8Array.of(...model, 0xca, 0x01, field.length, ...field);
  }
  const call = { opType: "F", domain: "own", input: ["x"], output: ["y"] };
  const slope = (node: onnxProto.onnx.INodeProto): unknown =>
    decodeOnnx(withDefault(node), { subject: "m.onnx" }).graph.nodes[0]?.attributes.get("alpha")?.value;

  it("have their defaults where a call gives none", () => {
    expect(slope(call)).toBe(0.25);
    expect(slope({ ...call, attribute: [{ name: "slope", type: 1, f: 0.5 }] })).toBe(0.5);
  });
});
