import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import {
  type ChosenFile,
  convert,
  groupFiles,
  inspect,
  openChosen,
  resultName,
  type Target,
  verifyConversion,
  verifyFiles,
} from "../../src/web/index.js";
import { run } from "../cli/command.js";
import { temporaryFolder } from "../support/folder.js";
import { tinyBytes } from "../support/tiny-file.js";

const CHECKPOINT = tinyBytes("block");

const chosen = (path: string, bytes: Uint8Array | string = ""): ChosenFile => ({
  path,
  blob: new Blob([typeof bytes === "string" ? bytes : new Uint8Array(bytes)]),
});

const pathsOf = (...paths: readonly string[]): unknown =>
  groupFiles(paths.map((path) => chosen(path))).map(({ name, beside }) => [
    name,
    ...beside.map(({ path }) => path),
  ]);

describe("groupFiles", () => {
  it("keeps checkpoints apart, each a model of its own", () => {
    expect(pathsOf("a.pth", "b.pth.tar-60", "c.npz", "d.bin")).toEqual([
      ["a.pth"],
      ["b.pth.tar-60"],
      ["c.npz"],
      ["d.bin"],
    ]);
  });
  it("puts shards beside their model.json, under the folder's name", () => {
    expect(
      pathsOf("x/osnet.tfjs/model.json", "x/osnet.tfjs/w1.bin", "x/osnet.tfjs/w2.bin", "x/w.pth"),
    ).toEqual([["osnet.tfjs", "w1.bin", "w2.bin"], ["w.pth"]]);
    expect(pathsOf("model.json", "w.bin")).toEqual([["model.json", "w.bin"]]);
  });
  it("puts whatever is no model beside an ONNX file, which may keep its weights there", () => {
    expect(pathsOf("m.onnx", "m.onnx.data", "w.pth")).toEqual([["m.onnx", "m.onnx.data"], ["w.pth"]]);
  });
  it("ignores other files of a folder, and accepts any file that was chosen alone", () => {
    expect(pathsOf("f/.DS_Store", "f/README.md", "f/config.json", "f/w.pth")).toEqual([["w.pth"]]);
    expect(pathsOf("notes.txt")).toEqual([["notes.txt"]]);
    expect(pathsOf(".hidden")).toEqual([]);
  });
});

/** What is chosen in a page, and the command's options for the same. */
const SMALL = { size: { height: 64, width: 32 } } as const;
const CASES: readonly (readonly [target: Target, options: readonly string[], out: string])[] = [
  [{ format: "onnx" }, [], "w.onnx"],
  [
    { format: "onnx", ...SMALL, batch: 2, output: "both", dtype: "float16", preprocess: "bgr", opset: 13 },
    [
      "--size",
      "64x32",
      "--batch",
      "2",
      "--output",
      "both",
      "--dtype",
      "float16",
      "--preprocess",
      "bgr",
      "--opset",
      "13",
    ],
    "w.onnx",
  ],
  [{ format: "onnx", externalData: true, fold: false }, ["--external-data", "--no-fold"], "w.onnx"],
  [{ format: "tfjs", ...SMALL, quantize: "uint8" }, ["--size", "64x32", "--quantize", "uint8"], "w.tfjs"],
  [{ format: "tfjs", layers: true, gates: true }, ["--tfjs-format", "layers", "--gates"], "w.tfjs"],
  [{ format: "safetensors" }, [], "w.safetensors"],
  [{ format: "npz", dtype: "float16" }, ["--dtype", "float16"], "w.npz"],
  [{ format: "pth" }, [], "w.pth"],
];

describe("convert", () => {
  it.for(CASES)("%j: the bytes of the command line", async ([target, options, out]) => {
    const folder = await temporaryFolder({ "osnet.pth": CHECKPOINT });
    const args = ["osnet.pth", "-o", out, "--no-verify", ...options];
    const { status } = await run("osnet-convert", args, { cwd: folder.path });
    expect(status).toBe(0);
    const [model] = groupFiles([chosen("osnet.pth", CHECKPOINT)]);
    if (!model) throw new Error("one file is one model");
    const { files } = await convert(await openChosen(model), out, target);
    const at = (name: string): string => folder.at(target.format === "tfjs" ? `${out}/${name}` : name);
    for (const [name, bytes] of files) expect(Buffer.compare(readFileSync(at(name)), bytes), name).toBe(0);
    expect(files.size).toBe(
      target.format === "tfjs" || (target.format === "onnx" && target.externalData) ? 2 : 1,
    );
  });

  it("reads an ONNX file with its weights beside it, and keeps its outputs", async () => {
    const source = { name: "w.pth", bytes: CHECKPOINT };
    const first = await convert(source, "m.onnx", {
      format: "onnx",
      externalData: true,
      output: "logits",
      ...SMALL,
    });
    const files = [...first.files].map(([name, bytes]) => chosen(`folder/${name}`, bytes));
    const [model] = groupFiles(files);
    if (!model) throw new Error("one model");
    const again = await convert(await openChosen(model), "again.onnx", { format: "onnx", ...SMALL });
    const [bytes = new Uint8Array()] = again.files.values();
    expect(decodeOnnx(bytes, { subject: "again" }).graph.outputs.map(({ name }) => name)).toEqual(["logits"]);
    await expect(async () =>
      openChosen({ ...model, beside: [] }).then((file) => convert(file, "x", { format: "pth" })),
    ).rejects.toThrow('no "m.onnx.data" beside it');
  });

  it("names results as the command does", () => {
    expect(resultName("osnet.pth.tar-60", "onnx")).toBe("osnet.onnx");
    expect(resultName("osnet.tfjs", "safetensors")).toBe("osnet.safetensors");
    expect(resultName(".pth", "npz")).toBe("osnet.npz");
  });
});

describe("verifyConversion", () => {
  const source = { name: "w.pth", bytes: CHECKPOINT };

  it("runs a model layer by layer, and says how far it is", async () => {
    const seen: number[] = [];
    const conversion = await convert(source, "w.tfjs", { format: "tfjs", ...SMALL });
    const { passed, report } = await verifyConversion(conversion, { onProgress: (done) => seen.push(done) });
    expect({ passed, gates: report?.gates.length, backend: report?.backend }).toEqual({
      passed: true,
      gates: 3,
      backend: "tfjs-wasm",
    });
    expect(seen.at(-1)).toBe(report?.layers.length);
    const files = [...conversion.files].map(([name, bytes]) => chosen(`w.tfjs/${name}`, bytes));
    const [model] = groupFiles(files);
    if (!model) throw new Error("one model");
    expect((await verifyFiles(await openChosen(model), source)).passed).toBe(true);
    expect(await inspect(await openChosen(model))).toMatchObject({
      network: { variant: null },
      file: { name: "w.tfjs" },
    });
  });

  it("compares weights bit for bit with what was to be written", async () => {
    const conversion = await convert(source, "w.npz", { format: "npz", dtype: "float16" });
    expect(await verifyConversion(conversion)).toEqual({ passed: true, differences: [] });
    const other = await convert(source, "w.npz", { format: "npz" });
    const swapped = { ...conversion, result: other.result };
    expect(await verifyConversion(swapped)).toMatchObject({
      passed: false,
      differences: expect.arrayContaining([expect.stringContaining("conv1.conv.weight")]),
    });
  });
});
