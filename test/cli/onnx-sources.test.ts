import onnxProto from "onnx-proto";
import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import { decodeWeights } from "../../src/convert/open/checkpoint.js";
import { anonymous, dropNode } from "../convert/import/graphs.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { temporaryFolder } from "../support/folder.js";
import { convert, openFixture } from "../support/osnet.js";
import { tinyFile } from "../support/tiny-file.js";
import { refusal, run } from "./command.js";

const checkpoint = tinyCheckpoint("block");
const CHECKPOINT = tinyFile("block");

/** A file without a name that means anything, as another exporter may write it. */
const theirs = (fold: boolean): Uint8Array =>
  encodeOnnx(anonymous(decodeOnnx(convert(checkpoint, { fold }), { subject: "m.onnx" })));

/** The same model with all of its weights in a file beside it. */
function withSidecar(
  bytes: Uint8Array,
  location: string,
): { readonly model: Uint8Array; readonly data: Uint8Array } {
  const { onnx } = onnxProto;
  const model = onnx.ModelProto.decode(bytes);
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const tensor of model.graph?.initializer ?? []) {
    const raw = tensor.rawData ?? new Uint8Array();
    const entries = { location, offset: String(offset), length: String(raw.length) };
    tensor.externalData = Object.entries(entries).map(([key, value]) => ({ key, value }));
    tensor.dataLocation = 1;
    tensor.rawData = null;
    parts.push(raw);
    offset += raw.length;
  }
  return { model: onnx.ModelProto.encode(model).finish(), data: Buffer.concat(parts) };
}

describe("osnet-convert from ONNX", () => {
  it.each(["pth", "safetensors", "npz"] as const)(
    "onnx2%s gives back weights that were never folded",
    async (to) => {
      const folder = await temporaryFolder({ "m.onnx": theirs(false) });
      const { status, stdout, stderr } = await run("osnet-convert", [`onnx2${to}`, "m.onnx"], {
        cwd: folder.path,
      });
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(stdout.toString()).toMatch(
        /^m\.onnx: osnet_x1_0 with .*, no classifier, .*\n {2}written by an unknown exporter, opset 17\nverified: run in onnxruntime, 68 of its layers and 3 gates match the weights read from it\nverified: 89 tensors read back bit for bit\n/,
      );
      const written = decodeWeights(await folder.read(`m.${to}`), { subject: "m", format: to }).stateDict;
      for (const [path, tensor] of written)
        if (!path.endsWith("num_batches_tracked"))
          expect(tensor, path).toEqual(checkpoint.stateDict.get(path));
    },
  );

  it("says what was folded, and onnx2onnx writes our names", async () => {
    const folder = await temporaryFolder({ "m.onnx": theirs(true) });
    const args = ["onnx2onnx", "m.onnx", "-o", "ours.onnx", "--size", "64x32", "--opset", "11"];
    const { status, stdout } = await run("osnet-convert", args, { cwd: folder.path });
    expect(status).toBe(0);
    expect(stdout.toString()).toContain(
      "\n  13 batch norms were folded: 66 of 89 tensors differ from the trained ones, but the network is the same\n",
    );
    // Folding again gives the bits that were there, and the checkpoint's names with them.
    const ours = decodeOnnx(await folder.read("ours.onnx"), { subject: "ours.onnx" });
    const direct = decodeOnnx(convert(checkpoint, { opset: 11 }), { subject: "m.onnx" });
    expect(ours.graph.initializers).toEqual(direct.graph.initializers);
    const verified = await run("osnet-verify", ["ours.onnx", "--reference", CHECKPOINT], {
      cwd: folder.path,
    });
    // The file states a network without a classifier, which its embedding does not need.
    expect([verified.status, verified.stderr]).toEqual([0, ""]);
  });

  it("a stream that is not there is one difference, for whoever asks", async () => {
    const faithful = decodeOnnx(convert(openFixture(), { fold: true }), { subject: "m.onnx" });
    const model = encodeOnnx(anonymous(dropNode(faithful, "conv2.0.aggregate")));
    const difference = [
      "1 difference from an OSNet",
      "  conv2.0.conv2d.0.conv1: found streams of depth 1, 2, 3, expected a stream of depth 4",
    ];
    const folder = await temporaryFolder({ "m.onnx": model });
    const { status, stdout } = await run("osnet-convert", ["inspect", "m.onnx"], { cwd: folder.path });
    expect([status, stdout.toString().trimEnd().split("\n").slice(-2)]).toEqual([0, difference]);
    const [found, ...details] = difference;
    expect(await refusal("osnet-convert", ["onnx2pth", "m.onnx"], { "m.onnx": model })).toBe(
      `m.onnx: found ${found}, expected a graph from which every parameter can be read; repair the export; partial networks are not converted.\n${details.join("\n")}\n`,
    );
  });

  it("reads weights beside the model, and says so when they are not there", async () => {
    const { model, data } = withSidecar(theirs(true), "m.onnx.data");
    const folder = await temporaryFolder({ "m.onnx": model, "m.onnx.data": data });
    const { status, stdout } = await run("osnet-verify", ["m.onnx", "--reference", CHECKPOINT], {
      cwd: folder.path,
    });
    expect([status, stdout.toString()]).toEqual([
      0,
      expect.stringContaining("PASS  features: 55 layers and 3 gates"),
    ]);
    const expected =
      'm.onnx: found no "m.onnx.data" beside it, expected the file with its weights; put m.onnx.data into the same folder.\n';
    expect(await refusal("osnet-verify", ["m.onnx", "--reference", CHECKPOINT], { "m.onnx": model })).toBe(
      expected,
    );
    expect(await refusal("osnet-convert", ["onnx2pth", "m.onnx"], { "m.onnx": model })).toBe(expected);
  });
});
