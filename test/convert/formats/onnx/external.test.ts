import onnxProto from "onnx-proto";
import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx, encodeOnnxFiles } from "../../../../src/convert/formats/onnx/encode.js";
import type { SidecarReader } from "../../../../src/convert/formats/onnx/tensors.js";
import { zerosForAbsent } from "../../../../src/convert/formats/refusals.js";
import type { ByteSource } from "../../../../src/core/bytes.js";
import type { Tensor } from "../../../../src/core/tensor.js";
import { identityModel } from "./models.js";

const { onnx } = onnxProto;

/** A model with one tensor of three floats kept elsewhere, as its entries say. */
function modelWith(
  entries: Readonly<Record<string, string>>,
  { names = ["w"], elements = 3 }: { readonly names?: readonly string[]; readonly elements?: number } = {},
): Uint8Array {
  const model = onnx.ModelProto.decode(encodeOnnx(identityModel()));
  const externalData = Object.entries(entries).map(([key, value]) => ({ key, value }));
  for (const name of names) {
    const tensor = { name, dims: [elements], dataType: 1, dataLocation: 1, externalData };
    model.graph?.initializer?.push(onnx.TensorProto.create(tensor));
  }
  return onnx.ModelProto.encode(model).finish();
}

const FLOATS = new Uint8Array(Float32Array.of(9, 1, 2, 3, 9).buffer);
const read =
  (files: Readonly<Record<string, Uint8Array>>): SidecarReader =>
  (name) =>
    files[name];

function decode(
  entries: Readonly<Record<string, string>>,
  sidecar: SidecarReader = read({ "m.data": FLOATS }),
) {
  return decodeOnnx(modelWith(entries), { subject: "m.onnx", sidecar });
}

describe("weights beside an ONNX file", () => {
  it("that any number of tensors share are copied only so often", () => {
    const sidecar = read({ "m.data": new Uint8Array(4001) });
    const shared = (offset: string, tensors: number): unknown => {
      const names = Array.from({ length: tensors }, (_, index) => `w${index}`);
      const entries = { location: "m.data", offset, length: "4000" };
      return decodeOnnx(modelWith(entries, { names, elements: 1000 }), { subject: "m.onnx", sidecar });
    };
    expect(() => shared("1", 100)).toThrow(
      /^m\.onnx: found copies of tensors, which take \d+ bytes, expected at most \d+ for files of \d+; save the model again with each tensor stored separately\.$/,
    );
    // Views cost nothing, and neither does a file that is only misaligned.
    expect(() => shared("0", 100)).not.toThrow();
    expect(() => shared("1", 4)).not.toThrow();
  });

  it.each([
    [{ location: "m.data", offset: "4", length: "12" }],
    [{ location: "m.data", offset: "4", length: "12", checksum: "0" }],
  ])("are read from %j", (entries) => {
    const { graph, sidecars } = decode(entries);
    expect(graph.initializers.get("w")).toEqual({
      dtype: "float32",
      shape: [3],
      data: Float32Array.of(1, 2, 3),
    });
    expect(sidecars).toEqual(["m.data"]);
  });

  it("are read out of a file that is not in memory, and nothing else is", () => {
    const ranges: (readonly number[])[] = [];
    const huge: ByteSource = {
      length: 2 ** 40,
      loaded: false,
      read: (start, end) => {
        ranges.push([start, end]);
        return FLOATS.slice(0, end - start);
      },
      load: () => expect.unreachable(),
      sha256: () => expect.unreachable(),
    };
    const { graph, sidecars } = decode({ location: "m.data", offset: "8", length: "12" }, () => huge);
    expect([...(graph.initializers.get("w")?.data ?? [])]).toEqual([9, 1, 2]);
    expect([ranges, sidecars]).toEqual([[[8, 20]], ["m.data"]]);
    const all = { location: "m.data", length: String(2 ** 30 + 4) };
    expect(() =>
      decodeOnnx(modelWith(all, { elements: 2 ** 28 + 1 }), { subject: "m.onnx", sidecar: () => huge }),
    ).toThrow(
      "m.onnx: found tensors of 1073741828 bytes in the files beside it, expected at most 1073741824",
    );
  });

  it("take all of a file without an offset or length, in a folder below too", () => {
    const sidecar = read({ "weights/m.data": FLOATS.slice(4, 16) });
    expect(decode({ location: "weights/m.data" }, sidecar).graph.initializers.get("w")?.data).toEqual(
      Float32Array.of(1, 2, 3),
    );
  });

  it("are refused without a length where readers disagree on how many bytes there are", () => {
    const entries = { location: "m.data", offset: "4" };
    expect(() => decode(entries)).toThrow(
      "found no length of its elements in m.data: onnxruntime would read 12 bytes, and onnx's Python package all 16 to the end of the file, expected the length 12;",
    );
    expect(() => decode({ location: "m.data", offset: "12" })).toThrow(/expected 12 bytes inside it/);
  });

  it("that onnxruntime has packed for itself are refused: it would compute with these", () => {
    const entries = { location: "m.data", offset: "4", length: "12", prepacked_0: "Gemm+1|16;12;0" };
    expect(() => decode(entries)).toThrow(
      'the external entry "prepacked_0", expected location, offset, length, checksum, basepath; save the model without prepacked weights',
    );
  });

  it("are read where they are not aligned", () => {
    const bytes = new Uint8Array(14);
    bytes.set(FLOATS.subarray(4, 16), 1);
    const sidecar = read({ "m.data": bytes });
    expect(
      decode({ location: "m.data", offset: "1", length: "12" }, sidecar).graph.initializers.get("w")?.data,
    ).toEqual(Float32Array.of(1, 2, 3));
  });

  it("are named plainly when they are missing", () => {
    expect(() => decode({ location: "osnet.onnx.data" })).toThrow(
      'm.onnx: found no "osnet.onnx.data" beside it, expected the file with its weights; put osnet.onnx.data into the same folder.',
    );
    expect(() => decodeOnnx(modelWith({ location: "m.data" }), { subject: "m.onnx" })).toThrow(
      /its elements in "m\.data", expected all weights inside the ONNX file, or access to the files beside it/,
    );
  });

  it.each([
    "/etc/passwd",
    "../secret",
    "weights/../../secret",
    "./../m.data",
    "weights/./m.data",
    "weights//m.data",
    "C:\\weights",
    "..\\secret",
    "c:m.data",
    "m.data\0",
    "",
    "x".repeat(2000),
  ])("are never read from %j", (location) => {
    const sidecar = (): never => {
      throw new Error("must not be asked for");
    };
    expect(() => decode({ location }, sidecar)).toThrow(/expected a file in the model's folder/);
  });

  it.each([
    { offset: "12" },
    { offset: "4", length: "16" },
    { offset: "0", length: "20" },
    { offset: "100", length: "12" },
  ])("must lie inside the file and fit the shape: %j", (entries) => {
    expect(() => decode({ location: "m.data", ...entries })).toThrow(
      /bytes from byte .* of m\.data, which has 20, expected 12 bytes inside it/,
    );
  });
});

describe("numbers of bytes", () => {
  it.each([
    ["0x10", "a hexadecimal number"],
    ["0X4", "a hexadecimal number"],
    ["-4", "decimal digits"],
    ["1e1", "decimal digits"],
    ["999999999999999999999", "decimal digits"],
    ["", "decimal digits"],
  ])("are decimal, which %j is not", (text, words) => {
    for (const entries of [
      { offset: text, length: "12" },
      { offset: "4", length: text },
    ])
      expect(() => decode({ location: "m.data", ...entries })).toThrow(words);
  });

  it("of ./m.data are those of m.data", () => {
    const asked: string[] = [];
    const sidecar = (name: string): Uint8Array => {
      asked.push(name);
      return new Uint8Array(12);
    };
    for (const location of ["./m.data", "././m.data"]) decode({ location }, sidecar);
    expect(new Set(asked)).toEqual(new Set(["m.data"]));
  });
});

describe("a missing file of weights", () => {
  const absent = (dims: number) => {
    const model = onnx.ModelProto.decode(modelWith({ location: "m.data" }));
    for (const tensor of model.graph?.initializer ?? []) if (tensor.name === "w") tensor.dims = [dims];
    return decodeOnnx(onnx.ModelProto.encode(model).finish(), {
      subject: "m.onnx",
      absent: zerosForAbsent(),
    });
  };

  it("leaves zeros for those who only look, and is named", () => {
    const model = absent(3);
    expect(model.graph.initializers.get("w")?.data).toEqual(new Float32Array(3));
    expect([model.sidecars, model.missing]).toEqual([undefined, ["m.data"]]);
  });

  it("stands for no more than 64 MiB a tensor", () => {
    expect(() => absent(2 ** 24 + 1)).toThrow(
      /found 67108868 bytes in a file that is missing, expected at most/,
    );
  });
});

describe("encodeOnnxFiles", () => {
  const tensor = (length: number): Tensor<"float32"> => ({
    dtype: "float32",
    shape: [length],
    data: Float32Array.from({ length }, (_, index) => index + 1),
  });
  const model = {
    ...identityModel(),
    graph: {
      ...identityModel().graph,
      initializers: new Map([
        ["small", tensor(255)],
        ["first", tensor(256)],
        ["second", tensor(1500)],
      ]),
    },
  };
  const { bytes, data } = encodeOnnxFiles(model, "m.onnx.data");

  it("puts large tensors on pages of the other file, as onnx-proto reads it", () => {
    const initializers = onnx.ModelProto.decode(bytes).graph?.initializer ?? [];
    expect(
      initializers.map(({ name, dataLocation, externalData, rawData }) => ({
        name,
        dataLocation,
        entries: externalData?.map(({ key, value }) => `${key}=${value}`),
        raw: rawData?.length,
      })),
    ).toEqual([
      { name: "small", dataLocation: 0, entries: [], raw: 1020 },
      {
        name: "first",
        dataLocation: 1,
        entries: ["location=m.onnx.data", "offset=0", "length=1024"],
        raw: 0,
      },
      {
        name: "second",
        dataLocation: 1,
        entries: ["location=m.onnx.data", "offset=4096", "length=6000"],
        raw: 0,
      },
    ]);
    expect(data.length).toBe(4096 + 6000);
    expect(data.subarray(1024, 4096).every((byte) => byte === 0)).toBe(true);
  });

  it("is read back", () => {
    const decoded = decodeOnnx(bytes, { subject: "m.onnx", sidecar: read({ "m.onnx.data": data }) });
    expect(decoded.graph.initializers).toEqual(model.graph.initializers);
  });
});
