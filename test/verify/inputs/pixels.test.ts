import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { expand } from "../../../src/arch/index.js";
import { PIXEL_ORDERS, type PixelOrder } from "../../../src/convert/export/options.js";
import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { decodeTfjs, encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { TfjsFiles, TfjsModel } from "../../../src/convert/formats/tfjs/model.js";
import type { NamedBytes } from "../../../src/core/bytes.js";
import type { Tensor } from "../../../src/core/tensor.js";
import type { ModelBackend } from "../../../src/verify/backends/backend.js";
import type { RunnableModel } from "../../../src/verify/candidate/model-candidate.js";
import { photographed, pixelsOf, seededImages } from "../../../src/verify/inputs/images.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { parametersFor, SMALL_SPEC } from "../../convert/export/graphs.js";
import { readFixture } from "../../fixtures.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { onnxRunnable, tfjsRunnable } from "../../support/candidates.js";
import { convert, openFixture, openReference, rewriteOnnx, SMALL } from "../../support/osnet.js";

/**
 * Of all pixels in all channels, (x / 255 − mean) / std as torch 2.13 computes it in torchvision's order:
 * `arange(256, dtype=uint8).to(float32).div(255).sub(mean).div(std)` for R, then G, then B.
 */
const TORCH_SHA256 = "1d8b9af12b7b391827f7c801265239e21435c7e29b4d78c6189a35e437633897";

/** Every pixel value in each channel eight times over, 64×32, the channels in one order or the other. */
function allPixels(order: PixelOrder): Tensor<"float32"> {
  const plane = Array.from({ length: 2048 }, (_, index) => index % 256);
  const shifted = (by: number): readonly number[] => plane.map((value) => (value + by) % 256);
  const channels = [shifted(0), shifted(1), shifted(2)];
  const ordered = order === "rgb" ? channels : channels.reverse();
  return { dtype: "float32", shape: [1, 3, 64, 32], data: Float32Array.from(ordered.flat()) };
}

const graph = expand(SMALL_SPEC);
const stateDict = parametersFor(graph);

function backends(preprocess: PixelOrder): Readonly<Record<"onnx" | "graph" | "layers", ModelBackend>> {
  const options = { size: SMALL, preprocess } as const;
  const onnx = convert({ graph, stateDict } as ReturnType<typeof openFixture>, options);
  const graphFiles = encodeTfjs(lowerToTfjs(graph, stateDict, options));
  const layersFiles = encodeTfjs(lowerToTfjsLayers(graph, stateDict, options));
  const [graphModel, layersModel] = [graphFiles, layersFiles].map((files) =>
    decodeTfjs(files, { subject: "m" }),
  );
  if (!graphModel || !layersModel) throw new Error("no model");
  const inRuntime = ({ backend, located }: RunnableModel): ModelBackend => backend(located.values, "m");
  return {
    onnx: inRuntime(onnxRunnable(onnx, decodeOnnx(onnx, { subject: "m" }), graph)),
    graph: inRuntime(tfjsRunnable(graphFiles, graphModel, graph)),
    layers: inRuntime(tfjsRunnable(layersFiles, layersModel, graph)),
  };
}

async function normalized(backend: ModelBackend, pixels: Tensor<"float32">): Promise<Float32Array> {
  for await (const { name, tensor } of backend.run(pixels))
    if (name === "images") return Float32Array.from(tensor.data);
  throw new Error("no images");
}

/** The first of each pixel value, in the order 0 to 255. */
function byPixel(values: Float32Array): Float32Array {
  return Float32Array.from({ length: 768 }, (_, index) => {
    const [channel, pixel] = [Math.floor(index / 256), index % 256];
    return values[channel * 2048 + ((pixel - channel + 256) % 256)] ?? Number.NaN;
  });
}

describe.each(PIXEL_ORDERS)("raw pixels, %s", (order) => {
  it("are normalised to torchvision's bits, and in Keras to within two roundings", async () => {
    const found = backends(order);
    const pixels = allPixels(order);
    const values = byPixel(await normalized(found.onnx, pixels));
    expect(createHash("sha256").update(values).digest("hex")).toBe(TORCH_SHA256);
    expect(byPixel(await normalized(found.graph, pixels))).toEqual(values);
    const keras = byPixel(await normalized(found.layers, pixels));
    expect(Math.max(...keras.map((value, index) => Math.abs(value - (values[index] ?? 0))))).toBeLessThan(
      6e-7,
    );
  });

  it("are recovered from normalised images", async () => {
    const pixels = allPixels(order);
    const images = await normalized(backends(order).onnx, pixels);
    expect(pixelsOf({ ...pixels, data: images }, order)).toEqual(pixels);
  });
});

describe("images without raw pixels", () => {
  const images = seededImages(1, 2, 16, 8);

  it("have numbers between whole ones", () => {
    const { data } = pixelsOf(images, "rgb");
    expect(data.some((value) => Math.abs(value - Math.round(value)) > 0.1)).toBe(true);
    expect(
      Math.max(...data.map((value, index) => Math.abs(value - (pixelsOf(images, "bgr").data[index] ?? 0)))),
    ).toBeGreaterThan(1);
  });

  it("have a nearest photograph, which is its own", () => {
    const photograph = photographed(images);
    expect(
      pixelsOf(photograph, "rgb").data.every(
        (value) => Number.isInteger(value) && value >= 0 && value <= 255,
      ),
    ).toBe(true);
    expect(photographed(photograph)).toEqual(photograph);
    const step = 1 / 255 / 0.224;
    photograph.data.forEach((value, index) => {
      expect(Math.abs(value - (images.data[index] ?? 0))).toBeLessThanOrEqual(step / 2 + 1e-6);
    });
  });
});

describe("models that take raw pixels", () => {
  const checkpoint = tinyCheckpoint("block");
  const reference = openReference(checkpoint);
  const options = { size: SMALL, preprocess: "bgr" } as const;
  const tfjs = (model: TfjsModel): NamedBytes => {
    const { json, shards }: TfjsFiles = encodeTfjs(model);
    return { name: "model", bytes: json, beside: shards };
  };
  const models: Readonly<Record<string, () => NamedBytes>> = {
    onnx: () => ({ name: "model", bytes: convert(checkpoint, options) }),
    "graph model": () => tfjs(lowerToTfjs(checkpoint.graph, checkpoint.stateDict, options)),
    "layers model": () => tfjs(lowerToTfjsLayers(checkpoint.graph, checkpoint.stateDict, options)),
  };
  const report = async (candidate: NamedBytes): Promise<ParityReport> =>
    verify(await openVerification(candidate, reference));

  it.each(Object.entries(models))("are verified, their normalised images too: %s", async (_name, model) => {
    const { passed, faults, layers, input, weights } = await report(model());
    expect({ passed, faults, input }).toEqual({
      passed: true,
      faults: [],
      input: { source: "seed:0", shape: [2, 3, 64, 32], pixels: "bgr" },
    });
    expect(layers).toHaveLength(56);
    expect(layers[0]).toMatchObject({ name: "images", op: "input", status: "pass" });
    expect(weights).toMatchObject({ compared: weights?.identical, folded: expect.any(Number) });
  });

  it("are at fault at their input if they take another order than they say", async () => {
    const onnx = rewriteOnnx(convert(checkpoint, options), (model) => ({
      ...model,
      metadata: new Map(model.metadata).set("osnet.preprocess", "rgb"),
    }));
    const { passed, faults } = await report({ name: "model", bytes: onnx });
    expect(passed).toBe(false);
    expect(faults.map(({ layer, kind }) => [layer, kind])).toEqual([["images", "structure"]]);
  });

  it("are refused if they declare an unknown preprocessing", async () => {
    const model = lowerToTfjs(checkpoint.graph, checkpoint.stateDict, options);
    const unknown = tfjs({ ...model, metadata: { ...model.metadata, "osnet.preprocess": "yuv" } });
    await expect(report(unknown)).rejects.toThrow(
      'model, metadata osnet.preprocess: found "yuv", expected rgb or bgr; convert the checkpoint again.',
    );
  });

  it("are compared with a recording, whose images they get as pixels", async () => {
    const recording = { name: "recorded.npz", bytes: readFixture("osnet_x0_25.64x32.npz") };
    const model = { name: "model", bytes: convert(openFixture(), options) };
    const { passed, layers } = await verify(await openVerification(model, recording));
    expect(passed).toBe(true);
    expect(layers[0]?.name).toBe("images");
  });
});
