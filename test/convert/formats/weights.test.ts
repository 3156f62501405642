import { zipSync } from "fflate";
import { beforeAll, describe, expect, it } from "vitest";
import { compareBits, encodeWeights } from "../../../src/convert/export/write.js";
import { WEIGHTS_FORMATS, type WeightsFormat } from "../../../src/convert/formats/registry.js";
import { encodeSafetensors } from "../../../src/convert/formats/safetensors.js";
import { decodeWeights, openCheckpoint } from "../../../src/convert/open/checkpoint.js";
import type { StateDict, Tensor } from "../../../src/core/tensor.js";
import { FAMILIES, missing, readFixture } from "../../fixtures.js";
import { encodeNpz, npyOf } from "../../support/npy.js";

const SOURCES = [
  ...FAMILIES.map((family) => `${family}.pth`),
  ...["half", "bfloat16", "double"].map((name) => `encodings/${name}.pth`),
];

const scalar = (value: number): Tensor<"float32"> => ({
  dtype: "float32",
  shape: [1],
  data: Float32Array.of(value),
});

describe.each(SOURCES)("%s", (name) => {
  const reason = missing(name);
  // numpy has no bfloat16.
  const formats = WEIGHTS_FORMATS.filter((format) => format !== "npz" || !name.includes("bfloat16"));
  const directions = formats.flatMap((from) => formats.map((to) => [from, to] as const));

  const weights = new Map<WeightsFormat, { readonly bytes: Uint8Array; readonly read: StateDict }>();
  let source: StateDict;
  beforeAll(() => {
    if (reason) return;
    source = openCheckpoint(readFixture(name), { subject: name }).stateDict;
    for (const format of formats) {
      const bytes = encodeWeights(source, format, { subject: name });
      weights.set(format, { bytes, read: openCheckpoint(bytes, { subject: `w.${format}` }).stateDict });
    }
  });

  it.skipIf(reason).each(formats)("%s keeps every bit and the order", (format) => {
    const read = weights.get(format)?.read ?? new Map();
    expect(compareBits(source, read)).toEqual([]);
    expect([...read.keys()]).toEqual([...source.keys()]);
  });

  it.skipIf(reason).each(directions)(
    `%s2%s writes the same file as from the source${reason ? ` (${reason})` : ""}`,
    (from, to) => {
      const { read } = weights.get(from) ?? {};
      const second = encodeWeights(read ?? new Map(), to, { subject: `w.${to}` });
      expect(Buffer.compare(second, weights.get(to)?.bytes ?? new Uint8Array())).toBe(0);
    },
  );
});

describe("decodeWeights", () => {
  const tensors: StateDict = new Map([
    ["module.model.a.weight", scalar(1)],
    ["module.model.b.weight", scalar(2)],
  ]);

  it("takes off wrappers' prefixes, and says so", () => {
    const bytes = encodeSafetensors(tensors, { subject: "w", metadata: new Map([["format", "pt"]]) });
    const { stateDict, ...rest } = decodeWeights(bytes, { subject: "w" });
    expect([...stateDict.keys()]).toEqual(["a.weight", "b.weight"]);
    expect(rest).toEqual({
      format: "safetensors",
      container: "safetensors",
      metadata: new Map([["format", "pt"]]),
      wrapperPath: "",
      modelClass: "",
      removedPrefix: "module.model.",
      notes: ['removed the prefix "module.model." from 2 keys'],
    });
  });

  it("finds the state dict at --key, and ignores the rest", () => {
    const bytes = encodeNpz({ "student.a.weight": scalar(1), "teacher.a.weight": scalar(2) });
    const { stateDict, removedPrefix, notes } = decodeWeights(bytes, { subject: "w", key: "teacher" });
    expect([...stateDict]).toEqual([["a.weight", scalar(2)]]);
    expect([removedPrefix, notes]).toEqual([
      "teacher.",
      ['ignored 1 tensors outside "teacher."', 'removed the prefix "teacher." from 1 keys'],
    ]);
    expect(() => decodeWeights(bytes, { subject: "w", key: "ema" })).toThrow(
      "--key ema: found no tensors at that path in w, expected a prefix of the state dict's keys; omit --key, or choose another.",
    );
  });

  const npz = encodeNpz({ "a.weight": scalar(1) });
  const safetensors = encodeSafetensors(tensors, { subject: "w" });
  const pth = encodeWeights(tensors, "pth", { subject: "w" });
  it.each<readonly [bytes: Uint8Array, format: WeightsFormat, problem: string]>([
    [
      npz,
      "safetensors",
      "an .npz archive of numpy arrays, expected a safetensors file; use npz2… instead of safetensors2…",
    ],
    [
      pth,
      "safetensors",
      "a PyTorch checkpoint, expected a safetensors file; use pth2… instead of safetensors2…",
    ],
    [
      pth,
      "npz",
      "a PyTorch checkpoint, expected an .npz archive of numpy arrays; use pth2… instead of npz2…",
    ],
    [
      safetensors,
      "npz",
      "a safetensors file, expected an .npz archive of numpy arrays; use safetensors2… instead of npz2…",
    ],
    [safetensors, "pth", "a safetensors file, expected a PyTorch checkpoint; convert it as safetensors"],
    [
      Uint8Array.of(0x08, 0x07, 0x12, 0x07),
      "npz",
      "an ONNX model, expected an .npz archive of numpy arrays; use the weights it was exported from",
    ],
    [
      encodeNpz({ input: scalar(1), output: scalar(1) }),
      "npz",
      "recorded activations, expected arrays named after parameters, such as conv1.conv.weight; pass it to osnet-verify",
    ],
    [
      encodeNpz({ a: scalar(1) }),
      "npz",
      "arrays that are not weights, expected arrays named after parameters, such as conv1.conv.weight; save the state dict with numpy.savez",
    ],
  ])("refuses another format than the one it must be %#", (bytes, format, problem) => {
    expect(() => decodeWeights(bytes, { subject: "w", format })).toThrow(`w: found ${problem}.`);
  });

  it("refuses a dict that numpy.savez pickled", () => {
    const header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }";
    const bytes = zipSync({ "state_dict.npy": npyOf(header, new Uint8Array(20)) });
    expect(() => decodeWeights(bytes, { subject: "w.npz" })).toThrow(
      `w.npz["state_dict"]: found elements of numpy type |O, expected float16 to float64, int8 to int64, uint8 or bool, little-endian; convert it, for instance with array.astype('float32').`,
    );
  });
});

describe("encodeWeights", () => {
  it("says in a safetensors file that the weights are PyTorch's, or what the source said", () => {
    const metadataOf = (metadata?: ReadonlyMap<string, string>): unknown => {
      const bytes = encodeWeights(new Map(), "safetensors", {
        subject: "w",
        ...(metadata ? { metadata } : {}),
      });
      return decodeWeights(bytes, { subject: "w" }).metadata;
    };
    expect(metadataOf()).toEqual(new Map([["format", "pt"]]));
    expect(metadataOf(new Map([["epoch", "60"]]))).toEqual(new Map([["epoch", "60"]]));
  });
});

describe("compareBits", () => {
  it("lists every difference, NaNs and signs of zero too", () => {
    const expected: StateDict = new Map([
      ["same", scalar(Number.NaN)],
      ["gone", scalar(1)],
      ["zero", scalar(0)],
      ["type", scalar(1)],
      ["shape", scalar(1)],
    ]);
    const actual: StateDict = new Map<string, Tensor>([
      ["same", scalar(Number.NaN)],
      ["zero", scalar(-0)],
      ["type", { dtype: "float64", shape: [1], data: Float64Array.of(1) }],
      ["shape", { ...scalar(1), shape: [] }],
      ["more", scalar(1)],
    ]);
    expect(compareBits(expected, actual)).toEqual([
      "gone: missing",
      "zero: element 0 differs",
      "type: float64 instead of float32",
      "shape: shape [] instead of [1]",
      "more: not in the source",
    ]);
  });
});
