import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import { encodeOnnxFiles } from "../../src/convert/formats/onnx/encode.js";
import { openEmbedder } from "../../src/verify/candidate/embedder.js";
import { type OpenOptions, openVerification } from "../../src/verify/open.js";
import { readFixture } from "../fixtures.js";
import { convert, openFixture, SMALL } from "../support/osnet.js";

const file = (name: string) => ({ name, bytes: readFixture(name) });
const CHECKPOINT = file("osnet_x0_25.pth");
const RECORDING = file("osnet_x0_25.64x32.npz");
const checkpoint = openFixture();
const MODEL = { name: "m.onnx", bytes: convert(checkpoint) };
const IMAGES = { dtype: "float32", shape: [1, 3, 64, 32], data: new Float32Array(3 * 64 * 32) } as const;

describe("openVerification", () => {
  it("describes both files", async () => {
    const { candidate, reference, weights } = await openVerification(MODEL, CHECKPOINT);
    const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
    expect(candidate.party).toEqual({
      name: "m.onnx",
      format: "onnx",
      variant: "osnet_x0_25",
      sha256: sha256(MODEL.bytes),
    });
    expect(reference.party).toMatchObject({ format: "pth", sha256: sha256(CHECKPOINT.bytes) });
    expect([candidate.backend.name, reference.backend.name]).toEqual(["onnxruntime", "reference"]);
    expect(weights?.faults).toEqual([]);
  });

  it("distinguishes models by their external weights, for caches", async () => {
    const { graph, stateDict } = checkpoint;
    const { bytes, data } = encodeOnnxFiles(lowerToOnnx(graph, stateDict, { size: SMALL }), "m.data");
    const other = Uint8Array.from(data);
    other[0] = 1;
    const sha256 = async (...weights: readonly Uint8Array[]): Promise<unknown[]> => {
      const files = weights.map((data) => ({ name: "m.onnx", bytes, beside: { get: () => data } }));
      const found: unknown[] = [];
      for (const file of files) {
        const embedder = await openEmbedder(file);
        await embedder.release();
        found.push(embedder.party.sha256);
        const opened = await openVerification(file, CHECKPOINT);
        expect(opened.candidate.party.sha256).toBe(embedder.party.sha256);
        const reversed = await openVerification(RECORDING, file);
        expect(reversed.reference.party.sha256).toBe(embedder.party.sha256);
      }
      return found;
    };
    const [first, again, changed] = await sha256(data, Uint8Array.from(data), other);
    expect([again, changed === first]).toEqual([first, false]);
  });

  it("distinguishes embedders of one checkpoint by the networks that it is read as, for caches", async () => {
    const runs = async (pooling: "avg" | "max"): Promise<string> => {
      const embedder = await openEmbedder(CHECKPOINT, { arch: { ...checkpoint.spec, pooling } });
      await embedder.release();
      return embedder.runs;
    };
    expect(await runs("max")).not.toBe(await runs("avg"));
  });

  it.each([
    ["an ONNX file against a recording", MODEL, RECORDING, "onnxruntime", "recorded"],
    ["a recording against a checkpoint", RECORDING, CHECKPOINT, "recorded", "reference"],
    ["a checkpoint against a recording", CHECKPOINT, RECORDING, "reference", "recorded"],
    ["a checkpoint against a checkpoint", CHECKPOINT, CHECKPOINT, "reference", "reference"],
  ])("opens %s, by content", async (_, candidate, reference, ours, theirs) => {
    const opened = await openVerification(
      { ...candidate, name: "candidate" },
      { ...reference, name: "reference" },
    );
    expect([opened.candidate.backend.name, opened.reference.backend.name]).toEqual([ours, theirs]);
    // Two checkpoints are compared bit for bit, before they are run.
    const isPair = ours === "reference" && theirs === "reference";
    expect(opened.weights?.faults).toEqual(isPair ? [] : undefined);
  });

  it.each<readonly [options: OpenOptions, shape: readonly number[], source: string]>([
    [{}, [2, 3, 64, 32], "seed:0"],
    [{ batch: 5, images: { seed: 9 } }, [5, 3, 64, 32], "seed:9"],
    [{ size: { height: 128, width: 64 } }, [2, 3, 128, 64], "seed:0"],
    [{ images: { source: "me.npy", tensor: IMAGES } }, [1, 3, 64, 32], "me.npy"],
  ])("takes images as %j asks, else as the model fixes them", async (options, shape, source) => {
    const { images, imagesSource } = await openVerification(MODEL, CHECKPOINT, options);
    expect([images.shape, imagesSource]).toEqual([shape, source]);
  });

  it("takes two images of 256×128 where nothing fixes them", async () => {
    const model = { name: "m.onnx", bytes: convert(checkpoint, { size: "dynamic" }) };
    expect((await openVerification(model, CHECKPOINT)).images.shape).toEqual([2, 3, 256, 128]);
    expect((await openVerification(CHECKPOINT, CHECKPOINT)).images.shape).toEqual([2, 3, 256, 128]);
  });

  it("takes a recording's images, and no others", async () => {
    const { images, imagesSource } = await openVerification(MODEL, RECORDING);
    expect([images.shape, imagesSource]).toEqual([[1, 3, 64, 32], "the recording"]);
    await expect(openVerification(MODEL, RECORDING, { batch: 2 })).rejects.toThrow(
      "images: a recording has its own images; omit the options that choose others.",
    );
    await expect(
      openVerification(MODEL, CHECKPOINT, { batch: 2, images: { source: "me.npy", tensor: IMAGES } }),
    ).rejects.toThrow("images: an .npy file has its own images;");
  });

  it("refuses a recording of images that the model does not take", async () => {
    const model = { name: "m.onnx", bytes: convert(checkpoint, { size: { height: 128, width: 64 } }) };
    await expect(openVerification(model, RECORDING)).rejects.toThrow(
      /: the recording has images \[1, 3, 64, 32\], but the model takes \[any, 3, 128, 64\]; convert/,
    );
  });

  it("believes the checkpoint, not what a model says of itself", async () => {
    const { spec } = checkpoint;
    const lying = {
      name: "m.onnx",
      bytes: convert({ ...checkpoint, graph: { ...checkpoint.graph, spec: { ...spec, pooling: "max" } } }),
    };
    await expect(openVerification(lying, CHECKPOINT)).rejects.toThrow(
      'm.onnx: found a network that states pooling "max", expected the reference\'s pooling "avg"; if the reference was trained this way, which a state dict cannot show, pass its spec with --arch.',
    );
  });

  it("runs a candidate in no other backend than was asked for", async () => {
    const opened = await openVerification(MODEL, CHECKPOINT, { backend: "onnxruntime" });
    expect(opened.candidate.backend.name).toBe("onnxruntime");
    await expect(openVerification(MODEL, CHECKPOINT, { backend: "tfjs-wasm" })).rejects.toThrow(
      "m.onnx: found backend tfjs-wasm, expected onnxruntime, onnxruntime-web, chromium:onnxruntime-web, chromium:onnxruntime-web-webgpu; omit the backend, or convert the model to a format that runs there.",
    );
  });

  it("refuses pairs that say nothing", async () => {
    await expect(openVerification(RECORDING, RECORDING)).rejects.toThrow(
      "osnet_x0_25.64x32.npz: found two recordings, expected a model on at least one side; use an ONNX file or a checkpoint.",
    );
  });
});
