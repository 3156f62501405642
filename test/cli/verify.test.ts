import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { openNpz } from "../../src/convert/formats/npz.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import { fixturePath, readFixture } from "../fixtures.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { temporaryFolder } from "../support/folder.js";
import { encodeNpy, encodeNpz } from "../support/npy.js";
import { convert, openFixture, SMALL, withTensor, withValues } from "../support/osnet.js";
import { encodePth } from "../support/pth-writer.js";
import { tinyFile } from "../support/tiny-file.js";
import { type Finished, refusal, run } from "./command.js";

const CHECKPOINT = tinyFile("block");
const RECORDED_CHECKPOINT = fixturePath("osnet_x0_25.pth") ?? "";
const RECORDING = fixturePath("osnet_x0_25.64x32.npz") ?? "";
const OTHER_CHECKPOINT = fixturePath("osnet_ain_x0_25.pth") ?? "";

const hasTfjsNode = existsSync(new URL("../../node_modules/@tensorflow/tfjs-node", import.meta.url));

const model = convert(tinyCheckpoint("block"));

/** Runs osnet-verify on `model.onnx`, of the small network, in a folder with these files besides. */
async function verify(
  args: readonly string[],
  files: Readonly<Record<string, Uint8Array>> = {},
): Promise<Finished & { readonly text: string; readonly lines: readonly string[] }> {
  const folder = await temporaryFolder({ "model.onnx": model, ...files });
  const finished = await run("osnet-verify", args, { cwd: folder.path });
  expect(finished.stderr).toBe("");
  const text = finished.stdout.toString();
  return { ...finished, text, lines: text.trimEnd().split("\n") };
}

describe("osnet-verify", () => {
  it.each([
    [
      "a model against its checkpoint",
      "x0_25.onnx",
      RECORDED_CHECKPOINT,
      378,
      "their rounding bounds",
      "Proven",
    ],
    ["a model against PyTorch's recording", "x0_25.onnx", RECORDING, 365, "0.0001 of max", "Sampled"],
    [
      "a recording against the checkpoint",
      RECORDING,
      RECORDED_CHECKPOINT,
      445,
      "their rounding bounds",
      "Sampled",
    ],
    ["a checkpoint against the recording", RECORDED_CHECKPOINT, RECORDING, 445, "0.0001 of max", "Sampled"],
  ])("passes %s", async (_, candidate, reference, layers, allowance, rests) => {
    const files = candidate === "x0_25.onnx" ? { [candidate]: convert(openFixture()) } : {};
    const { status, lines } = await verify([candidate, "--reference", reference], files);
    const stated = candidate === "x0_25.onnx" ? "features: " : "";
    expect(lines.at(-1)).toBe(
      `PASS  ${stated}${layers} layers and 24 gates agree within ${allowance}${rests === "Proven" ? ", proven for every input" : ""}`,
    );
    expect(lines.at(-3)).toMatch(new RegExp(`^${rests} (on|for) `));
    expect(lines.find((line) => line.startsWith("Coverage:"))).toContain(
      `${layers} of ${layers} layers compared`,
    );
    expect(status).toBe(0);
  });

  it("shows the worst layers, or with --layers all of them and every gate", async () => {
    const short = await verify(["model.onnx", CHECKPOINT]);
    expect(short.text).toContain("Worst 10 of 55 layers");
    expect(short.text).toContain("Weights: 44 of 44 constants are the checkpoint's, 13 layers with");
    const long = await verify(["model.onnx", "--reference", CHECKPOINT, "--layers"]);
    expect(long.text).toContain("All 55 layers");
    expect(long.lines.filter((line) => line.startsWith("  pass  "))).toHaveLength(55 + 3);
  });

  it("takes one reference, as the second argument or by --reference", async () => {
    expect(await refusal("osnet-verify", ["model.onnx"])).toMatch(/^<reference>: missing argument; /);
    expect(await refusal("osnet-verify", ["model.onnx", "a.pth", "--reference", "b.pth"])).toMatch(
      /^--reference: found b\.pth and a\.pth, /,
    );
  });

  it("says which reports it wrote", async () => {
    const { lines } = await verify(["model.onnx", CHECKPOINT, "--report", "a.json", "--report", "b.html"]);
    expect(lines.at(-1)).toBe("wrote a.json, b.html");
  });

  it("--json prints the report, and --report writes the same", async () => {
    const folder = await temporaryFolder({ "model.onnx": model, "old.json": "{}" });
    const { status, stdout } = await run(
      "osnet-verify",
      ["model.onnx", "--reference", CHECKPOINT, "--json", "--report", "new.json", "--report", "old.json"],
      { cwd: folder.path },
    );
    expect(status).toBe(0);
    const text = stdout.toString();
    expect(JSON.parse(text)).toMatchObject({
      schema: "osnet-parity/1",
      candidate: { name: "model.onnx", format: "onnx" },
      reference: { name: "block.pth", format: "pth" },
      backend: "onnxruntime",
      tolerance: { rule: "derived-bounds" },
      input: { source: "seed:0", shape: [2, 3, 64, 32] },
      passed: true,
      faults: [],
    });
    for (const name of ["new.json", "old.json"])
      expect(Buffer.from(await folder.read(name)).toString()).toBe(text);
    expect(await folder.names()).toEqual(["model.onnx", "new.json", "old.json"]);
  });

  it("--quiet says nothing, by its status all", async () => {
    const passing = await verify(["model.onnx", "--reference", CHECKPOINT, "--quiet"]);
    expect([passing.status, passing.text]).toEqual([0, ""]);
    const failing = await verify(["model.onnx", "--reference", CHECKPOINT, "--quiet", "--tolerance", "1e-9"]);
    expect([failing.status, failing.text]).toEqual([1, ""]);
  });

  it("takes pictures, as many as are named, and images that it chooses itself", async () => {
    const photos = openNpz(readFixture("photos.npz"), "photos.npz");
    const files = {
      "a.jpg": photos.read("444.jpg").data as Uint8Array,
      "b.PNG": photos.read("rgb8.png").data as Uint8Array,
    };
    const read = ["model.onnx", "--reference", CHECKPOINT, "--input", "a.jpg", "b.PNG"];
    const shown = await verify(read, files);
    expect([shown.status, shown.lines[1]]).toEqual([0, "images 2×3×64×32 from a.jpg, b.PNG"]);
    const resized = [CHECKPOINT, "--reference", CHECKPOINT, "--input", "a.jpg", "--size", "96x48"];
    expect((await verify(resized, files)).lines[1]).toBe("images 1×3×96×48 from a.jpg");
    const chosen = await verify(["model.onnx", "--reference", CHECKPOINT, "--input", "auto"]);
    expect(chosen.status).toBe(0);
    expect(chosen.lines[1]).toMatch(/^images \d×3×64×32 from auto: seeded, seeded, \w/);
  });

  it("takes images from a seed and from an .npy file", async () => {
    const seeded = await verify([
      "model.onnx",
      "--reference",
      CHECKPOINT,
      "--input",
      "seed:7",
      "--batch",
      "1",
    ]);
    expect([seeded.status, seeded.lines[1]]).toEqual([0, "images 1×3×64×32 from seed:7"]);
    const images = encodeNpy({
      dtype: "float32",
      shape: [1, 3, 64, 32],
      data: Float32Array.from({ length: 3 * 64 * 32 }, (_, index) => Math.sin(index)),
    });
    const read = await verify(["model.onnx", "--reference", CHECKPOINT, "--input", "me.npy"], {
      "me.npy": images,
    });
    expect([read.status, read.lines[1]]).toEqual([0, "images 1×3×64×32 from me.npy"]);
  });

  it("fails under a tolerance that float32 cannot keep", async () => {
    const { status, lines } = await verify(["model.onnx", "--reference", CHECKPOINT, "--tolerance", "1e-9"]);
    expect(status).toBe(1);
    expect(lines.at(-1)).toMatch(/^FAIL {2}\d+ faults?, first at conv1\.bn$/);
  });

  it("names the weights of a model converted from another checkpoint", async () => {
    const { stateDict } = tinyCheckpoint("block");
    const retrained = withTensor(stateDict, "conv2.0.gate.fc2.bias", (tensor) =>
      withValues(tensor, { 5: 0.25 }),
    );
    const reference = { "new.pth": encodePth(retrained) };
    const { status, lines } = await verify(["model.onnx", "--reference", "new.pth"], reference);
    expect(status).toBe(1);
    const fault = lines[lines.indexOf("Faults") + 1];
    expect(fault?.replace(/, by up to .*/, "")).toBe(
      "  weights conv2.0.gate[1–3].fc2: conv2.0.gate.fc2.bias: 1 of 8 values differ from the checkpoint's",
    );
    expect(lines.at(-1)).toBe("FAIL  1 fault, first at conv2.0.gate[1–3].fc2");
  });

  it("finds the lowest bit of one weight changed in the file", async () => {
    const { stateDict } = tinyCheckpoint("block");
    const weight = stateDict.get("conv2.0.gate.fc1.weight");
    if (!weight) throw new Error("no weight");
    const flipped = Buffer.from(model);
    const at = flipped.indexOf(
      Buffer.from(weight.data.buffer, weight.data.byteOffset, weight.data.byteLength),
    );
    expect(at).toBeGreaterThan(0);
    flipped.writeUInt8(flipped.readUInt8(at) ^ 1, at);
    const { status, text, lines } = await verify(["flipped.onnx", "--reference", CHECKPOINT], {
      "flipped.onnx": flipped,
    });
    expect(status).toBe(1);
    expect(text).toContain(
      "  weights conv2.0.gate[1–3].fc1: conv2.0.gate.fc1.weight: 1 of 32 values differ from the checkpoint's, by up to",
    );
    expect(lines.at(-1)).toBe("FAIL  1 fault, first at conv2.0.gate[1–3].fc1");
  });
});

describe("osnet-verify refuses", () => {
  const model = convert(openFixture());
  const refuse = (args: readonly string[], files: Readonly<Record<string, Uint8Array | string>> = {}) =>
    refusal("osnet-verify", args, { "model.onnx": model, ...files });

  it.each([
    [
      "model.onnx",
      "<reference>: missing argument; add the checkpoint the model came from, or a recording (.npz), as in osnet-verify osnet.onnx w.pth",
    ],
    ["none.onnx --reference CHECKPOINT", "none.onnx: no such file or folder; check the path"],
    ["model.onnx --reference none.pth", "none.pth: no such file or folder; check the path"],
    [
      "RECORDING --reference RECORDING",
      "osnet_x0_25.64x32.npz: found two recordings, expected a model on at least one side; use an ONNX file or a checkpoint",
    ],
    [
      "model.onnx --reference CHECKPOINT --size 256x128",
      "model.onnx: onnxruntime failed on images [2, 3, 256, 128] (Got invalid dimensions for input: images for the following indices); use images of the size the model was exported for, or export it again",
    ],
    [
      "CHECKPOINT --reference CHECKPOINT --size 7x3",
      "image size 7x3: found an output of [2, 64, 1, 0] at layer conv2.2.1, expected at least one pixel; use larger images, such as 256x128",
    ],
    [
      "model.onnx --reference RECORDING --input seed:1",
      "images: a recording has its own images; omit the options that choose others",
    ],
    [
      "model.onnx --reference OTHER_CHECKPOINT",
      "model.onnx against osnet_ain_x0_25.pth: the candidate is osnet_x0_25, but the reference is osnet_ain_x0_25; use the checkpoint that the candidate was made from",
    ],
    [
      "model.onnx --reference CHECKPOINT --tolerance 2",
      '--tolerance: found "2", expected auto or a number between 0 and 1; use a value such as 1e-4',
    ],
    [
      "model.onnx --reference CHECKPOINT --report x.txt",
      '--report: found "x.txt", expected a file name that ends in .json, .md, .xml, .html or .sarif; choose one of these formats',
    ],
    [
      "model.onnx --reference CHECKPOINT --report none/x.json",
      "none/x.json: its folder does not exist; create the folder first",
    ],
    [
      "model.onnx --reference CHECKPOINT --input noise",
      '--input: found "noise", expected seed:N, auto, an .npy file, or .jpg and .png pictures; use one of these',
    ],
    [
      "model.onnx --reference CHECKPOINT --batch 0",
      '--batch: found "0", expected a whole number of at least 1; correct the value',
    ],
  ])("%s", async (args, sentence) => {
    const paths: Readonly<Record<string, string>> = {
      CHECKPOINT: RECORDED_CHECKPOINT,
      RECORDING,
      OTHER_CHECKPOINT,
    };
    expect(await refuse(args.split(" ").map((word) => paths[word] ?? word))).toBe(`${sentence}.\n`);
  });

  it.each([
    [
      "chromium:webgpu",
      "write chromium:onnxruntime-web-webgpu for an ONNX model or chromium:tfjs-webgpu for a TensorFlow.js model",
    ],
    ["chromium:webgl", "write chromium:tfjs-webgl for a TensorFlow.js model"],
    [
      "chromium:wasm",
      "write chromium:onnxruntime-web for an ONNX model or chromium:tfjs-wasm for a TensorFlow.js model",
    ],
    ["chromium:onnxruntime-web-wasm", "write chromium:onnxruntime-web for an ONNX model"],
    ["onnxruntime-web-wasm", "write onnxruntime-web for an ONNX model"],
    // What runs in browsers only.
    ["WebGL", "write chromium:tfjs-webgl for a TensorFlow.js model"],
    ["tfjs-wsam", "did you mean tfjs-wasm?"],
  ])("a backend by another name, %s", async (name, remedy) => {
    const said = await refuse(["model.onnx", "--reference", RECORDED_CHECKPOINT, "--backend", name]);
    expect(said).toMatch(/^--backend: found "[^"]+", expected onnxruntime, /);
    expect(said.endsWith(`; ${remedy}${remedy.endsWith("?") ? "" : "."}\n`), said).toBe(true);
  });

  it.each([0.1, 0.5, 0.999])("a model cut at %f of its length", async (share) => {
    const cut = model.subarray(0, Math.floor(model.length * share));
    expect(await refuse(["cut.onnx", "--reference", RECORDED_CHECKPOINT], { "cut.onnx": cut })).toBe(
      "cut.onnx: found bytes that are not a complete protobuf message, expected an ONNX model; check that the file is a complete .onnx file.\n",
    );
  });

  it("a truncated recording", async () => {
    const cut = readFixture("osnet_x0_25.64x32.npz").subarray(0, 1_000_000);
    expect(await refuse(["model.onnx", "--reference", "cut.npz"], { "cut.npz": cut })).toBe(
      "cut.npz: found a zip archive without its end record, expected a complete file; download or copy the file again.\n",
    );
  });

  it("a recording without its output, or of layers that the network lacks", async () => {
    const images = { dtype: "float32", shape: [1, 3, 2, 2], data: new Float32Array(12) } as const;
    const expected =
      "expected PyTorch activations under torchreid module paths, with input [N, 3, H, W] and output; record them with python/record_activations.py.\n";
    const refuseRecording = (arrays: Parameters<typeof encodeNpz>[0]) =>
      refuse(["model.onnx", "--reference", "r.npz"], { "r.npz": encodeNpz(arrays) });
    expect(await refuseRecording({ input: images, "conv1.conv": images })).toBe(
      `r.npz: found no array "output", ${expected}`,
    );
    expect(await refuseRecording({ input: images, output: images, layer4: images, "layer4.0": images })).toBe(
      `r.npz: found 2 arrays that are not layers of this network, ${expected}  layer4\n  layer4.0\n`,
    );
  });

  it("invalid images", async () => {
    const array = encodeNpy({ dtype: "float64", shape: [3], data: Float64Array.of(1, 2, 3) });
    expect(
      await refuse(["model.onnx", "--reference", RECORDED_CHECKPOINT, "--input", "x.npy"], {
        "x.npy": array,
      }),
    ).toBe(
      "x.npy: found float64 [3], expected float32 images [N, 3, H, W]; save images in PyTorch's layout with numpy.save.\n",
    );
  });

  it.skipIf(hasTfjsNode && "@tensorflow/tfjs-node is installed")(
    "a backend that is not installed, with the command that installs it",
    async () => {
      const { graph, stateDict } = openFixture();
      const { json, shards } = encodeTfjs(lowerToTfjs(graph, stateDict, { size: SMALL }));
      const args = ["model.json", "--reference", RECORDED_CHECKPOINT, "--backend", "tfjs-node"];
      expect(await refuse(args, { "model.json": json, ...Object.fromEntries(shards) })).toBe(
        "tfjs-node: is not installed; npm install --ignore-scripts=false @tensorflow/tfjs-node.\n",
      );
    },
  );
});
