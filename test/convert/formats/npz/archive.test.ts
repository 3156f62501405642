import { zipSync } from "fflate";
import { describe, expect, it } from "vitest";
import { openNpz } from "../../../../src/convert/formats/npz.js";
import { encodeNpy, encodeNpz } from "../../../support/npy.js";

const ONE = { dtype: "float32", shape: [1], data: Float32Array.of(1) } as const;
const TWO = { dtype: "float64", shape: [2], data: Float64Array.of(2, 3) } as const;

describe("openNpz", () => {
  it("reads arrays by name, stored or compressed", () => {
    for (const level of [0, 9] as const) {
      const bytes = zipSync({ "conv2.0.gate[1].npy": encodeNpy(ONE), "a.npy": encodeNpy(TWO) }, { level });
      const archive = openNpz(bytes, "r.npz");
      expect(archive.names).toEqual(["conv2.0.gate[1]", "a"]);
      expect(archive.read("a")).toEqual(TWO);
      expect(archive.read("conv2.0.gate[1]")).toEqual(ONE);
    }
  });

  const REMEDY =
    "expected an .npz archive of numpy arrays; save it again with numpy.savez, or record it with python/record_activations.py.";

  it("names an array that is not there, and one that is broken", () => {
    const archive = openNpz(encodeNpz({ a: ONE }), "r.npz");
    expect(() => archive.read("b")).toThrow(`r.npz: found no array called "b", ${REMEDY}`);
    const broken = openNpz(zipSync({ "a.npy": encodeNpy(ONE).subarray(0, 40) }), "r.npz");
    expect(() => broken.read("a")).toThrow(/^r\.npz\["a"\]: found .*, expected a complete numpy array; /);
  });

  it("refuses what is no archive, or one without arrays", () => {
    expect(() => openNpz(new Uint8Array(), "r.npz")).toThrow(
      `r.npz: found bytes that are not a zip archive, ${REMEDY}`,
    );
    expect(() => openNpz(zipSync({}), "r.npz")).toThrow(/^r\.npz: found /);
  });

  it("refuses entries without .npy, which numpy reads by their content", () => {
    for (const name of ["b", "b.NPY", "readme.txt", "folder/"])
      expect(() => openNpz(zipSync({ "a.npy": encodeNpy(ONE), [name]: encodeNpy(TWO) }), "r.npz")).toThrow(
        `r.npz: found an entry "${name}" without .npy, ${REMEDY}`,
      );
  });

  it("refuses an archive cut anywhere", () => {
    const bytes = encodeNpz({ a: ONE, b: TWO });
    for (let length = 0; length < bytes.length; length++)
      expect(() => openNpz(bytes.subarray(0, length), "r.npz")).toThrow(/^r\.npz: found .*; .*\.$/);
  });
});
