import { describe, expect, it } from "vitest";
import { decodeNpy, decodeNpz, encodeNpy, encodeNpz } from "../../../../src/convert/formats/npz.js";
import { DTYPES, type DType, type StateDict, type Tensor } from "../../../../src/core/tensor.js";
import { npyOf } from "../../../support/npy.js";

const EVERY: StateDict = new Map<string, Tensor>([
  ...(Object.keys(DTYPES) as DType[])
    .filter((dtype) => dtype !== "bfloat16")
    .map((dtype): [string, Tensor] => {
      const data = new DTYPES[dtype](6);
      new Uint8Array(data.buffer).fill(1);
      return [`${dtype}.weight`, { dtype, shape: [1, 2, 3], data }];
    }),
  ["scalar", { dtype: "int64", shape: [], data: BigInt64Array.of(-5n) }],
  ["none", { dtype: "float32", shape: [0, 3], data: new Float32Array() }],
  ["__proto__", { dtype: "float32", shape: [1], data: Float32Array.of(-0) }],
]);

describe("encodeNpy", () => {
  it.each<readonly [tensor: Tensor, header: string]>([
    [
      { dtype: "float32", shape: [3], data: Float32Array.of(1, 2, 3) },
      "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
    ],
    [
      { dtype: "bool", shape: [1, 2], data: Uint8Array.of(1, 0) },
      "{'descr': '|b1', 'fortran_order': False, 'shape': (1, 2), }",
    ],
    [
      { dtype: "int64", shape: [], data: BigInt64Array.of(5n) },
      "{'descr': '<i8', 'fortran_order': False, 'shape': (), }",
    ],
    [
      { dtype: "float16", shape: [1], data: Uint16Array.of(0x3c00) },
      "{'descr': '<f2', 'fortran_order': False, 'shape': (1,), }",
    ],
  ])("writes what numpy.save writes %#", (tensor, header) => {
    const { data } = tensor;
    const bytes = encodeNpy(tensor, "x");
    expect(bytes).toEqual(npyOf(header, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)));
    expect(decodeNpy(bytes, "x")).toEqual(tensor);
  });

  it("leaves numpy's room for the first dimension to grow", () => {
    // Magic, length, 107 characters and the line feed fit into 128 bytes; with room for 21 digits they do not.
    const tensor: Tensor = { dtype: "uint8", shape: Array(18).fill(1), data: Uint8Array.of(7) };
    expect(encodeNpy(tensor, "x").length).toBe(192 + 1);
  });

  it.each<readonly [tensor: Tensor, problem: string]>([
    [
      { dtype: "bfloat16", shape: [1], data: Uint16Array.of(0) },
      "elements of type bfloat16, expected float16 to float64, int8 to int64, uint8 or bool, little-endian; convert it, for instance with array.astype('float32')",
    ],
    [
      { dtype: "float32", shape: [2], data: Float32Array.of(0) },
      "1 elements for the shape [2], expected a complete numpy array; save it again with numpy.save or numpy.savez",
    ],
  ])("refuses what an .npy cannot hold %#", (tensor, problem) => {
    expect(() => encodeNpy(tensor, "x")).toThrow(`x: found ${problem}.`);
  });
});

describe("encodeNpz", () => {
  it("reads back every type and shape bit for bit, in order", () => {
    const stateDict = decodeNpz(encodeNpz(EVERY, { subject: "w.npz" }), "w.npz");
    expect([...stateDict]).toEqual([...EVERY]);
    expect(Object.is(stateDict.get("__proto__")?.data[0], -0)).toBe(true);
  });

  it("writes the same bytes every time, dated as numpy dates them", () => {
    const bytes = encodeNpz(EVERY, { subject: "w.npz" });
    expect(encodeNpz(new Map(EVERY), { subject: "other.npz" })).toEqual(bytes);
    // Local header: signature, version, flags, method 0 (stored), time 0:00, date 1 January 1980.
    expect([...bytes.subarray(0, 14)]).toEqual([0x50, 0x4b, 3, 4, 20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0]);
  });

  it("refuses bfloat16, and says what helps", () => {
    const tensor: Tensor = { dtype: "bfloat16", shape: [1], data: Uint16Array.of(0) };
    const refused =
      (...names: string[]) =>
      () =>
        encodeNpz(new Map(names.map((name) => [name, tensor])), { subject: "w.npz" });
    const rest =
      "expected element types that numpy supports; add --dtype float32, which represents every value exactly.";
    expect(refused("a")).toThrow(`w.npz: found 1 bfloat16 tensor (a), ${rest}`);
    expect(refused("a", "b")).toThrow(`w.npz: found 2 bfloat16 tensors (a, …), ${rest}`);
  });

  it("refuses more arrays than a zip archive counts", () => {
    const tensor: Tensor = { dtype: "uint8", shape: [0], data: new Uint8Array() };
    const many = new Map(Array.from({ length: 65_535 }, (_, index) => [String(index), tensor]));
    expect(() => encodeNpz(many, { subject: "w.npz" })).toThrow(
      "w.npz: found 65535 entries, expected the 65534 that a zip archive can have; write safetensors instead.",
    );
  });
});

describe("decodeNpz", () => {
  it("refuses object arrays, which are pickles", () => {
    expect(() =>
      decodeNpy(
        npyOf("{'descr': '|O', 'fortran_order': False, 'shape': (), }", new Uint8Array(8)),
        'w.npz["a"]',
      ),
    ).toThrow(
      `w.npz["a"]: found elements of numpy type |O, expected float16 to float64, int8 to int64, uint8 or bool, little-endian; convert it, for instance with array.astype('float32').`,
    );
  });
});
