import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { FILE_FORMATS } from "../../src/convert/formats/registry.js";
import { sniffFormat } from "../../src/convert/formats/sniff.js";
import { temporaryFolder } from "../support/folder.js";
import { refusal, run } from "./command.js";

const CHECKPOINT = fileURLToPath(new URL("../../fixtures/osnet_x0_25.pth", import.meta.url));

/** `osnet-convert FILE -o OUTPUT`, without verification, which the commands of two formats are tested for. */
const convert = (args: readonly string[], cwd: string, stdin?: Uint8Array) =>
  run("osnet-convert", [...args, "--no-verify"], { cwd, ...(stdin ? { stdin } : {}) });

describe("osnet-convert FILE -o OUTPUT", () => {
  it("sees what a file is from its content, and what it becomes from the output's name", async () => {
    const folder = await temporaryFolder({ "weights.bin": readFileSync(CHECKPOINT) });
    const steps = [
      ["weights.bin", "a.onnx"],
      ["a.onnx", "b.tfjs"],
      ["b.tfjs", "c/model.json"],
      ["c/model.json", "d.safetensors"],
      ["d.safetensors", "e.npz"],
      ["e.npz", "f.pth.tar-60"],
    ];
    for (const [from = "", to = ""] of steps) {
      const { status, stderr } = await convert([from, "-o", to], folder.path);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    }
    expect(await folder.names()).toEqual([
      "a.onnx",
      "b.tfjs",
      "c",
      "d.safetensors",
      "e.npz",
      "f.pth.tar-60",
      "weights.bin",
    ]);
    for (const [name, format] of [
      ["a.onnx", "onnx"],
      ["b.tfjs/model.json", "tfjs"],
      ["c/model.json", "tfjs"],
      ["d.safetensors", "safetensors"],
      ["e.npz", "npz"],
      ["f.pth.tar-60", "pth"],
    ] as const)
      expect(sniffFormat(await folder.read(name)), name).toBe(format);
  });

  it("writes what the command of the two formats writes, from standard input too", async () => {
    const folder = await temporaryFolder();
    const options = ["--size", "64x32", "--dtype", "float16", "--gates"];
    await convert(["pth2onnx", CHECKPOINT, "-o", "named.onnx", ...options], folder.path);
    await convert([...options, "-o", "seen.onnx", CHECKPOINT], folder.path);
    await convert(["-", "-o", "piped.onnx", ...options], folder.path, readFileSync(CHECKPOINT));
    const named = await folder.read("named.onnx");
    for (const name of ["seen.onnx", "piped.onnx"])
      expect(Buffer.compare(await folder.read(name), named), name).toBe(0);
  });

  it.each([
    [["w.pth"], /^--out: .*-o osnet\.onnx\.$/],
    [["w.pth", "-o", "out"], /^--out: found "out", /],
    [["w.pth", "-o", "out.bin"], /^--out: found "out\.bin", /],
    [["w.pth", "-o", "-"], /^--out: found standard output/],
    [["w.pth", "out.onnx"], /^out\.onnx: .*name it with -o\.$/],
    [
      ["w.pth", "-o", "out.npz", "--gates"],
      /^--gates: found \.npz output, expected ONNX or TensorFlow\.js output, /,
    ],
    [["w.pth", "-o", "out.npz", "--no-fold"], /^--no-fold: found \.npz output, /],
    [
      ["w.pth", "-o", "out.onnx", "--quantize", "uint8"],
      /^--quantize: found ONNX output, expected TensorFlow\.js output, /,
    ],
    [["--force", "pth2onnx", "w.pth"], /^--force: .*write pth2onnx first\.$/],
    [["none.pth", "-o", "out.onnx"], /^none\.pth: no such file/],
  ])("refuses %j", async (args, sentence) => {
    expect((await refusal("osnet-convert", args, { "w.pth": readFileSync(CHECKPOINT) })).trimEnd()).toMatch(
      sentence,
    );
  });
});

describe("what other tools save beside weights, or instead of them", () => {
  const shard = "model-00001-of-00002.safetensors";
  const index = "model.safetensors.index.json";
  it.each<readonly [input: string, names: readonly string[], remedy: string]>([
    [".", ["config.json", "model.safetensors"], "pass model.safetensors."],
    [".", [index, shard], "save one file"],
    [index, [index], "save one file"],
    [".", ["saved_model.pb"], "tensorflowjs_converter"],
    [".", ["osnet.bin", "osnet.xml"], "use the ONNX model or the checkpoint"],
    [".", ["notes.txt"], "pass the checkpoint"],
  ])("%s of %j", async (input, names, remedy) => {
    const bytes = Buffer.from('{"metadata":{},"weight_map":{}}');
    const files = Object.fromEntries(names.map((name) => [name, bytes]));
    expect(await refusal("osnet-convert", [input, "-o", "o.onnx"], files)).toContain(remedy);
  });
});

describe("a word of another tool", () => {
  it.each([
    [["pth2onnx", "w.pth", "--dynamic"], "--batch dynamic"],
    [["pth2onnx", "w.pth", "--fp16"], "--dtype float16"],
    [["pth2tfjs", "w.pth", "--fp16"], "--quantize float16"],
    [["pth2tfjs", "w.pth", "--dtype", "float16"], "--quantize"],
    [["pth2onnx", "w.pth", "--dtype", "fp16"], "float16"],
    [["pth2onnx", "w.pth", "--dtype", "flaot16"], "float16"],
    [["pth2onnx", CHECKPOINT, "--arch", "osnet_x1", "-o", "out.onnx"], "osnet_x1_0"],
    [[CHECKPOINT, "--fp16", "-o", "out.onnx"], "--dtype float16"],
  ])("%j", async (args, meant) => {
    expect(await refusal("osnet-convert", args)).toContain(`did you mean ${meant}?`);
  });

  it("is not answered by an option that the command does not have", async () => {
    expect(await refusal("osnet-verify", ["m.onnx", "w.pth", "--fp16"])).not.toContain("did you mean");
    expect(await refusal("osnet-convert", ["pth2npz", "w.pth", "--quantize"])).toContain("--dtype float16");
  });
});

describe("--help", () => {
  const help = async (...args: string[]): Promise<string> =>
    (await run("osnet-convert", [...args, "--help"], { cwd: "/" })).stdout.toString();

  it("has the formats once, and the options under headings", async () => {
    const text = await help();
    expect(text.match(/\b\w+2\w+\b/g)?.filter((word) => /^[a-z]+2[a-z]+$/.test(word)).length).toBeLessThan(4);
    for (const heading of ["Model:", "Numbers:", "Names:", "Checks:", "Other commands:"])
      expect(text).toMatch(new RegExp(`^${heading}$`, "m"));
  });

  it("of each pair of formats lists its options, all of which the program's own help has", async () => {
    const flags = (text: string): readonly string[] =>
      [...text.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, flag = ""]) => flag);
    const all = flags(await help());
    for (const from of FILE_FORMATS)
      for (const to of FILE_FORMATS) {
        const own = flags(await help(`${from}2${to}`));
        expect(own).toContain("--no-verify");
        expect(all).toEqual(expect.arrayContaining([...own]));
      }
  });
});
