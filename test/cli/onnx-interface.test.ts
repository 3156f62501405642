import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../src/convert/formats/onnx/model.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { temporaryFolder } from "../support/folder.js";
import { convert, rewriteOnnx, SMALL } from "../support/osnet.js";
import { tinyFile } from "../support/tiny-file.js";
import { refusal, run } from "./command.js";

const CHECKPOINT = tinyFile("block");
const checkpoint = tinyCheckpoint("block");

/** A file that does not say that it is ours. */
function theirs(options: Parameters<typeof convert>[1]): Uint8Array {
  return rewriteOnnx(convert(checkpoint, options), (model) => ({ ...model, metadata: new Map() }));
}

function interfaceOf({ opset, graph }: OnnxModel) {
  const { dtype } =
    graph.initializers.get("fc.0.weight") ?? graph.initializers.get("fc.1.folded.weight") ?? {};
  return { opset, inputs: graph.inputs, outputs: graph.outputs, dtype };
}

describe("osnet-convert pth2onnx --external-data", () => {
  it("writes weights beside the model, which is read with them", async () => {
    const folder = await temporaryFolder();
    const args = ["pth2onnx", CHECKPOINT, "-o", "m.onnx", "--size", "64x32", "--external-data"];
    const { status, stdout, stderr } = await run("osnet-convert", args, { cwd: folder.path });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.toString()).toMatch(/\nwrote m\.onnx and m\.onnx\.data, 0\.0 MB\n$/);
    expect(await folder.names()).toEqual(["m.onnx", "m.onnx.data"]);
    const data = await folder.read("m.onnx.data");
    const model = decodeOnnx(await folder.read("m.onnx"), { subject: "m.onnx", sidecar: () => data });
    const whole = decodeOnnx(convert(checkpoint), { subject: "m.onnx" });
    expect({ ...model, sidecars: undefined }).toEqual(whole);
  });

  it("takes the weights of the model that --force replaces with it, and no other file", async () => {
    const folder = await temporaryFolder({ "m.onnx.data": "another's" });
    const write = async (...options: readonly string[]): Promise<string> => {
      const args = ["pth2onnx", CHECKPOINT, "--no-verify", "--force", "-o", "m.onnx", ...options];
      const { status, stdout, stderr } = await run("osnet-convert", args, { cwd: folder.path });
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      return stdout.toString();
    };
    // No model refers to it: none before this one, and this one does not.
    for (const _ of [1, 2]) expect(await write()).toMatch(/\nwrote m\.onnx, 0\.0 MB, not verified\n$/);
    expect(await folder.names()).toEqual(["m.onnx", "m.onnx.data"]);
    await write("--external-data");
    expect(await write()).toMatch(
      /\nremoved m\.onnx\.[0-9a-f]{8}\.data, the weights of the replaced model\n$/,
    );
    expect(await folder.names()).toEqual(["m.onnx", "m.onnx.data"]);
  });

  it("needs both names, and a place for two files", async () => {
    const args = ["pth2onnx", CHECKPOINT, "--external-data", "-o"];
    expect(await refusal("osnet-convert", [...args, "m.onnx"], { "m.onnx.data": "theirs" })).toBe(
      "m.onnx.data: already exists; add --force to replace it.\n",
    );
    expect(await refusal("osnet-convert", [...args, "-"])).toMatch(
      /^--external-data: found standard output, /,
    );
  });
});

describe("osnet-convert pth2onnx --like", () => {
  it("writes another file's interface, in half precision here", async () => {
    const like = theirs({
      ...{ opset: 13, batch: 3, fold: false, dtype: "float16", ioDtype: "float16", inputName: "input.1" },
      output: [
        { kind: "logits", name: "scores" },
        { kind: "features", name: "495" },
      ],
    });
    const folder = await temporaryFolder({ "theirs.onnx": like });
    const args = ["pth2onnx", CHECKPOINT, "-o", "m.onnx", "--like", "theirs.onnx"];
    const { status, stdout, stderr } = await run("osnet-convert", args, { cwd: folder.path });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.toString()).toMatch(/verified: 69 layers and 3 gates, each recomputed in float64, match/);
    expect(interfaceOf(decodeOnnx(await folder.read("m.onnx"), { subject: "m.onnx" }))).toEqual({
      opset: 13,
      inputs: [{ name: "input.1", dtype: "float16", shape: [3, 3, 64, 32] }],
      outputs: [
        { name: "scores", dtype: "float16", shape: [3, 6] },
        { name: "495", dtype: "float16", shape: [3, 24] },
      ],
      dtype: "float16",
    });
  });

  it("gives way to options, and says what it does not write", async () => {
    const model = decodeOnnx(theirs({ inputName: "x", outputName: "y" }), { subject: "m.onnx" });
    const like = encodeOnnx({ ...model, opset: 9, irVersion: 4 });
    const folder = await temporaryFolder({ "theirs.onnx": like });
    const args = ["pth2onnx", CHECKPOINT, "-o", "m.onnx", "--like", "theirs.onnx", "--no-verify"];
    const options = ["--output", "both", "--size", "256x128", "--output-name", "z", "--batch", "1"];
    const { stdout } = await run("osnet-convert", [...args, ...options], { cwd: folder.path });
    expect(stdout.toString()).toContain("\n  like theirs.onnx: opset 11, the nearest to the file's 9\n");
    const written = decodeOnnx(await folder.read("m.onnx"), { subject: "m.onnx" });
    expect(interfaceOf(written)).toEqual({
      opset: 11,
      inputs: [{ name: "x", dtype: "float32", shape: [1, 3, 256, 128] }],
      outputs: [
        { name: "z", dtype: "float32", shape: [1, 24] },
        { name: "logits", dtype: "float32", shape: [1, 6] },
      ],
      dtype: "float32",
    });
  });

  it("refuses what is no OSNet", async () => {
    const args = ["pth2onnx", CHECKPOINT, "-o", "m.onnx", "--like", "theirs.onnx"];
    expect(await refusal("osnet-convert", args, { "theirs.onnx": "nothing" })).toMatch(
      /^theirs\.onnx: found /,
    );
  });
});

describe("osnet-convert onnx2onnx", () => {
  it("writes single files, half precision and other sizes of what it reads", async () => {
    const folder = await temporaryFolder({ "theirs.onnx": theirs({ size: SMALL, opset: 12 }) });
    const args = ["onnx2onnx", "theirs.onnx", "-o", "m.onnx", "--dtype", "float16", "--opset", "20"];
    const options = ["--batch", "2", "--size", "128x64"];
    const { status, stderr } = await run("osnet-convert", [...args, ...options], { cwd: folder.path });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(interfaceOf(decodeOnnx(await folder.read("m.onnx"), { subject: "m.onnx" }))).toMatchObject({
      opset: 20,
      inputs: [{ name: "images", dtype: "float32", shape: [2, 3, 128, 64] }],
      dtype: "float16",
    });
  });

  it.each(["onnx", "tfjs"])("keeps the size of what it reads, in a %s file", async (suffix) => {
    const folder = await temporaryFolder({ "theirs.onnx": theirs({ size: SMALL, opset: 12 }) });
    const args = ["theirs.onnx", "-o", `m.${suffix}`, "--no-verify"];
    expect(await run("osnet-convert", args, { cwd: folder.path })).toMatchObject({ status: 0 });
    const { stdout } = await run("osnet-convert", ["inspect", `m.${suffix}`, "--json"], { cwd: folder.path });
    expect(JSON.parse(stdout.toString())).toMatchObject({
      model: { inputs: [{ shape: expect.arrayContaining([64, 32]) }] },
    });
  });

  it("refuses a type that osnet-convert does not write", async () => {
    expect(await refusal("osnet-convert", ["pth2onnx", CHECKPOINT, "--dtype", "bfloat16"])).toBe(
      '--dtype: found "bfloat16", expected float32 or float16; did you mean float16?\n',
    );
  });
});
