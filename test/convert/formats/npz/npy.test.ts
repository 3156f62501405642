import { describe, expect, it } from "vitest";
import { decodeNpy } from "../../../../src/convert/formats/npz.js";
import { encodeNpy, npyOf } from "../../../support/npy.js";

const header = (descr: string, shape: string, order = "False"): string =>
  `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': ${shape}, }`;
const bytes = (...values: readonly number[]): Uint8Array => Uint8Array.from(values);

describe("decodeNpy", () => {
  it.each([
    ["'<f4'", new Uint8Array(Float32Array.of(1.5, -2).buffer), "float32", [1.5, -2]],
    ["'<f8'", new Uint8Array(Float64Array.of(0.1, 1e300).buffer), "float64", [0.1, 1e300]],
    // float16 keeps its bits: 1 is 0x3c00.
    ["'<f2'", bytes(0x00, 0x3c, 0x01, 0x00), "float16", [0x3c00, 1]],
    ["'<i8'", new Uint8Array(BigInt64Array.of(-1n, 2n ** 62n).buffer), "int64", [-1n, 2n ** 62n]],
    ["'<i4'", new Uint8Array(Int32Array.of(-1, 7).buffer), "int32", [-1, 7]],
    ["'<i2'", new Uint8Array(Int16Array.of(-1, 7).buffer), "int16", [-1, 7]],
    ["'|i1'", bytes(255, 7), "int8", [-1, 7]],
    ["'|u1'", bytes(255, 7), "uint8", [255, 7]],
    ["'|b1'", bytes(1, 0), "bool", [1, 0]],
  ])("reads %s", (descr, data, dtype, values) => {
    const tensor = decodeNpy(npyOf(header(descr, "(2,)"), data), "x");
    expect({ dtype: tensor.dtype, shape: tensor.shape, values: [...tensor.data] }).toEqual({
      dtype,
      shape: [2],
      values,
    });
  });

  it.each([
    ["()", [], 1],
    ["(0, 3)", [0, 3], 0],
    ["(1, 2, 3)", [1, 2, 3], 6],
  ])("reads the shape %s", (text, shape, count) => {
    const tensor = decodeNpy(npyOf(header("'<f4'", text), new Uint8Array(4 * count)), "x");
    expect([tensor.shape, tensor.data.length]).toEqual([shape, count]);
  });

  it("makes Fortran order row-major", () => {
    // [[1, 2, 3], [4, 5, 6]], column after column.
    const columns = new Uint8Array(Float32Array.of(1, 4, 2, 5, 3, 6).buffer);
    const tensor = decodeNpy(npyOf(header("'<f4'", "(2, 3)", "True"), columns), "x");
    expect([...tensor.data]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("reads what lies at any offset", () => {
    const file = encodeNpy({ dtype: "float64", shape: [1], data: Float64Array.of(0.5) });
    const shifted = new Uint8Array(file.length + 3);
    shifted.set(file, 3);
    expect([...decodeNpy(shifted.subarray(3), "x").data]).toEqual([0.5]);
  });

  it.each([1, 2, 3] as const)("reads version %i", (version) => {
    const data = new Uint8Array(Float32Array.of(3).buffer);
    expect([...decodeNpy(npyOf(header("'<f4'", "(1,)"), data, version), "x").data]).toEqual([3]);
  });

  it.each([
    ["big-endian numbers", "'>f4'", />f4/],
    ["complex numbers", "'<c8'", /c8/],
    ["strings", "'<U3'", /U3/],
    ["objects, which are pickles", "'|O'", /O/],
  ])("refuses %s", (_, descr, type) => {
    const decode = () => decodeNpy(npyOf(header(descr, "(1,)"), new Uint8Array(12)), "x");
    expect(decode).toThrow(
      /^x: found .*, expected (float16 to float64, int8 to int64, uint8 or bool, little-endian|a complete numpy array); /,
    );
    expect(decode).toThrow(type);
  });

  it.each([
    ["too few", "(3,)", 8],
    ["too many", "(1,)", 8],
    ["far too few", "(1000000, 1000000)", 8],
  ])("refuses %s elements", (_, shape, size) => {
    expect(() => decodeNpy(npyOf(header("'<f4'", shape), new Uint8Array(size)), "x")).toThrow(
      `x: found 8 bytes for float32 of the shape [${shape.replace(/[(),]+$|^\(/g, "")}], expected a complete numpy array; save it again with numpy.save or numpy.savez.`,
    );
  });

  it("refuses anything cut short, and what is no array", () => {
    const file = encodeNpy({ dtype: "float32", shape: [2], data: Float32Array.of(1, 2) });
    for (let length = 0; length < file.length; length++)
      expect(() => decodeNpy(file.subarray(0, length), "x")).toThrow(
        /^x: found .*, expected a complete numpy array; save it again/,
      );
    expect(() => decodeNpy(new TextEncoder().encode("no array, only text\n"), "x")).toThrow(/^x: found /);
  });
});
