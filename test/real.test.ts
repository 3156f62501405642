import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../src/convert/export/onnx.js";
import { encodeOnnx } from "../src/convert/formats/onnx/encode.js";
import { openCheckpoint } from "../src/convert/open/checkpoint.js";
import { liftCheckpoint } from "../src/convert/open/lift.js";
import { openModel } from "../src/convert/open/open-file.js";
import type { RealTensor, Tensor } from "../src/core/tensor.js";
import { seededImages } from "../src/verify/inputs/images.js";
import { openVerification } from "../src/verify/open.js";
import { measure } from "../src/verify/outcome/metrics.js";
import { verify } from "../src/verify/verify.js";
import { missing, readFixture } from "./fixtures.js";

const TRAINED = "real/osnet_x0_25_msmt17.pth";
const PUBLIC = "real/osnet_x0_25_msmt17.torch2.8.onnx";
const absent = missing(TRAINED, PUBLIC);

/** The first output of an ONNX file with one input, whatever both are called. */
async function embed(file: Uint8Array, images: Tensor<"float32">): Promise<RealTensor> {
  const session = await InferenceSession.create(file, { logSeverityLevel: 3 });
  try {
    const feed = new OrtTensor("float32", images.data, images.shape);
    const [output] = Object.values(await session.run({ [session.inputNames[0] ?? ""]: feed }));
    if (!(output?.data instanceof Float32Array)) throw new Error("no float32 output");
    return { dtype: "float32", shape: output.dims, data: output.data };
  } finally {
    await session.release();
  }
}

/** Trained weights have what random ones lack: variances that are denormal, channels that are dead. */
describe("trained weights in circulation (osnet_x0_25, MSMT17)", () => {
  const open = () => openCheckpoint(readFixture(TRAINED), { subject: "osnet_x0_25_msmt17.pth" });

  it("are identified, convert and verify", async (context) => {
    if (absent) return context.skip(absent);
    const checkpoint = open();
    expect(checkpoint.variant).toBe("osnet_x0_25");
    expect(checkpoint.spec.head).toEqual({ classes: 1041, loss: "softmax" });
    const bytes = encodeOnnx(lowerToOnnx(checkpoint.graph, checkpoint.stateDict));
    const reference = { name: "osnet_x0_25_msmt17.pth", bytes: new Uint8Array(), checkpoint };
    const report = await verify(await openVerification({ name: "model.onnx", bytes }, reference));
    expect(report.faults).toEqual([]);
    expect(report.passed).toBe(true);
    expect(report.coverage).toMatchObject({ compared: 378, missing: [] });
    // Measured: 0.14. Bounds far above what rounding does would hide faults. (A single rounding, as of a stream times its
    // gate, may come as near to its bound as it likes.)
    const ofProducts = report.layers.flatMap(({ op, margin }) =>
      op === "conv" || op === "batchNorm" ? [margin ?? Infinity] : [],
    );
    expect(ofProducts).toHaveLength(188);
    const median = ofProducts.sort((a, b) => a - b)[94];
    expect(median).toBeGreaterThan(0.01);
    expect(median).toBeLessThan(0.5);
  });

  it("give the features of the ONNX export that others made of them", async (context) => {
    if (absent) return context.skip(absent);
    const { graph, stateDict } = open();
    const ours = encodeOnnx(lowerToOnnx(graph, stateDict));
    const theirs = readFixture(PUBLIC);
    for (const seed of [1, 2, 3]) {
      const images = seededImages(seed, 1, 256, 128);
      const { relMax, mismatchedNonFinite } = measure(await embed(theirs, images), await embed(ours, images));
      expect(mismatchedNonFinite).toBe(0);
      // Measured: 8e-7 to 1.2e-6.
      expect(relMax).toBeLessThan(1e-4);
    }
  });
});

/** What no weights in circulation may lose: the embedding, to the bit, by the zeros that are written for dead channels. */
describe("dead channels of trained weights", () => {
  const OTHER = "real/osnet_x0_25_boxmot.torch2.0.onnx";
  it.for([
    [TRAINED, 572, 6],
    [OTHER, 656, 150],
  ] as const)(
    "%s: %i weights become zeros, and no embedding changes",
    async ([path, count, left], context) => {
      const absent = missing(path);
      if (absent) return context.skip(absent);
      const bytes = readFixture(path);
      const { graph, stateDict } = path.endsWith(".onnx")
        ? liftCheckpoint(openModel("onnx", { name: path, bytes }))
        : openCheckpoint(bytes, { subject: path });
      const model = lowerToOnnx(graph, stateDict);
      expect(JSON.parse(model.metadata.get("osnet.zeroed") ?? "").count).toBe(count);
      const subnormal = [...model.graph.initializers.values()].flatMap(({ dtype, data }) =>
        dtype === "float32"
          ? [...data].filter((value) => value !== 0 && Math.abs(Number(value)) < 2 ** -126)
          : [],
      );
      expect(subnormal.length).toBeLessThanOrEqual(left);
      const [written, kept] = [model, lowerToOnnx(graph, stateDict, { keepDenormals: true })].map(encodeOnnx);
      for (const seed of [1, 2, 3, 4]) {
        const images = seededImages(seed, 1, 256, 128);
        if (written && kept) expect(await embed(written, images)).toEqual(await embed(kept, images));
      }
    },
  );
});
