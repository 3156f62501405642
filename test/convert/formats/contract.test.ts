import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { expand, parseSpec } from "../../../src/arch/index.js";
import { compareBits, encodeWeights } from "../../../src/convert/export/write.js";
import {
  FILE_FORMATS,
  type FileFormat,
  FORMATS,
  formatOfName,
  isWeightsFormat,
  MODEL_FORMATS,
  outputFormat,
  WEIGHTS_FORMATS,
  withoutSuffix,
} from "../../../src/convert/formats/registry.js";
import { sniffFormat } from "../../../src/convert/formats/sniff.js";
import { decodeWeights } from "../../../src/convert/open/checkpoint.js";
import { seededStateDict } from "../../../src/convert/seeded-weights.js";
import { InputError } from "../../../src/core/errors.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { DTYPES, type DType } from "../../../src/core/tensor.js";
import { readFixture } from "../../fixtures.js";
import { judge } from "../../fuzz/oracle.js";
import { createRandom } from "../../fuzz/random.js";
import { TINY_SPEC } from "../../fuzz/seeds/pth.js";
import { type FormatFiles, fileOf, parametersIn, stateDictOf } from "../../support/formats.js";
import { encodeNpz } from "../../support/npy.js";

/** What every format of the registry promises: a new row is tested without a new test. */

const graph = expand(parseSpec(TINY_SPEC, "tiny.json"));
const stateDict = seededStateDict(graph, 1);
const FILES = Object.fromEntries(
  await Promise.all(FILE_FORMATS.map(async (format) => [format, await fileOf(format, graph, stateDict)])),
) as Readonly<Record<FileFormat, FormatFiles>>;

/** Cuts of each file, and as many flipped bits. */
const DAMAGES = 48;

/** The same files with one of them changed. */
function damaged(
  { main, beside }: FormatFiles,
  name: string | undefined,
  change: (bytes: Uint8Array) => Uint8Array,
): FormatFiles {
  if (name === undefined) return { main: change(main), beside };
  return { main, beside: new Map(beside).set(name, change(beside.get(name) ?? new Uint8Array())) };
}

describe.each(FILE_FORMATS)("%s", (format) => {
  const files = FILES[format];
  const write = (weights: StateDict): Promise<FormatFiles> => fileOf(format, graph, weights);
  const read = (file: FormatFiles): StateDict => stateDictOf(format, file, "w");

  it("is read back bit for bit", () => {
    expect(compareBits(parametersIn(stateDict), parametersIn(read(files)))).toEqual([]);
  });

  it("is the same bytes whenever it is written, and whatever order the state dict has", async () => {
    const reversed = new Map([...read(files)].reverse());
    expect(await write(stateDict)).toEqual(files);
    // Checkpoints keep the order of their state dict, which a reader puts right.
    if (format !== "pth" && format !== "npz")
      expect(await write(new Map([...reversed, ...stateDict]))).toEqual(files);
  });

  it("is recognised by its content", () => {
    expect(sniffFormat(files.main)).toBe(format);
  });

  it("is recognised by an output's name, which gives way to another format's", () => {
    const { suffixes, main } = FORMATS[format];
    expect(outputFormat(`a.b/w.${format}`)).toBe(format);
    expect(outputFormat("w")).toBeUndefined();
    if (main !== undefined) for (const name of ["w/", `w/${main}`]) expect(outputFormat(name)).toBe(format);
    for (const suffix of [format, ...suffixes]) {
      expect(withoutSuffix(`a.b/w.${suffix}`)).toBe("a.b/w");
      expect(formatOfName(`w.${suffix.toUpperCase()}`)).toBe(format);
    }
  });

  it.each(["truncated", "with a flipped bit"] as const)(
    "is read or refused in one sentence: %s",
    (damage) => {
      const random = createRandom(DAMAGES);
      for (const name of [undefined, ...files.beside.keys()]) {
        const { length } = (name === undefined ? files.main : files.beside.get(name)) ?? files.main;
        for (let index = 0; index < DAMAGES; index++) {
          // The beginning and the end, where headers and directories are, and places between them.
          const place = index < DAMAGES / 3 ? index : random.below(length);
          const at = index % 2 === 0 ? place : length - 1 - place;
          const changed = damaged(files, name, (bytes) => {
            if (damage === "truncated") return bytes.slice(0, Math.max(0, at));
            const copy = Uint8Array.from(bytes);
            copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
            return copy;
          });
          const target = { name: format, seeds: [], read: () => void read(changed) };
          const { finding, outcome } = judge(target, changed.main);
          expect(finding, `${damage}: byte ${at} of ${name ?? "the file"}`).toBe("");
          // A shorter file cannot hold all weights: it is never read as the network.
          if (damage === "truncated") expect(outcome, `cut at byte ${at}`).toBe("refused");
        }
      }
    },
  );

  it.each(FILE_FORMATS.filter((other) => other !== format))("refuses a file of %s by its kind", (other) => {
    try {
      read(FILES[other]);
    } catch (error) {
      expect(error).toBeInstanceOf(InputError);
      expect((error as InputError).problem).toMatchObject({
        code: expect.stringMatching(/^(format|unsupported)$/),
        subject: "w",
      });
      return;
    }
    expect.unreachable(`${other} was read as ${format}`);
  });

  it("has a row in the table of docs/formats.md", () => {
    const docs = readFileSync(new URL("../../../docs/formats.md", import.meta.url), "utf8");
    const { title, main, suffixes } = FORMATS[format];
    const content = isWeightsFormat(format) ? "weights" : "model";
    const files = main === undefined ? "one file" : `a folder with \`${main}\``;
    const endings = suffixes.map((suffix) => `\`.${suffix}\``).join(" ");
    const row = `| ${title} | \`${format}\` | ${content} | ${files} | ${endings} |`;
    expect(docs.includes(row), row).toBe(true);
  });
});

describe.each(WEIGHTS_FORMATS)("element types of %s", (format) => {
  it.each(Object.keys(DTYPES) as DType[])("%s", (dtype) => {
    const data = new DTYPES[dtype](4);
    const tensors = new Map([["conv.weight", { dtype, shape: [2, 2], data }]]);
    const encode = () => encodeWeights(tensors, format, { subject: "w" });
    if (FORMATS[format].lacks.includes(dtype))
      expect(encode).toThrow(
        expect.objectContaining({ problem: expect.objectContaining({ code: "unsupported" }) }),
      );
    else expect(decodeWeights(encode(), { subject: "w", format }).stateDict).toEqual(tensors);
  });
});

describe("the registry", () => {
  it("divides the formats into weights and models", () => {
    expect([...WEIGHTS_FORMATS, ...MODEL_FORMATS]).toEqual(FILE_FORMATS);
  });
});

describe("sniffFormat", () => {
  const recording = encodeNpz({ output: { dtype: "float32", shape: [1], data: Float32Array.of(1) } });

  it.each([
    ["PyTorch's checkpoint", readFixture("osnet_x0_25.pth"), "pth"],
    ["an older checkpoint", Uint8Array.of(0x80, 0x02, 0x8a, 0x0a), "pth"],
    ["PyTorch's ONNX file", Uint8Array.of(0x08, 0x07, 0x12, 0x07), "onnx"],
    ["a recording", recording, "npz"],
    // The checkpoint reader says in words what these are.
    ["a damaged zip", recording.subarray(0, recording.length - 30), "pth"],
    ["nothing", new Uint8Array(), "pth"],
  ])("takes %s for its format", (_, bytes, format) => {
    expect(sniffFormat(bytes)).toBe(format);
  });
});
