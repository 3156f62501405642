import { InferenceSession } from "onnxruntime-node";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { outputShapes } from "../../../src/arch/index.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { elementCount, type RealTensor } from "../../../src/core/tensor.js";
import type { Backend, LayerOutput } from "../../../src/verify/backends/backend.js";
import { onnxruntimeBackend } from "../../../src/verify/backends/onnxruntime.js";
import { segmentsOf } from "../../../src/verify/candidate/candidate.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { convert, openReference, rewriteOnnx } from "../../support/osnet.js";

const checkpoint = tinyCheckpoint("block");
const { graph } = checkpoint;
const IMAGES = [2, 3, 64, 32];
const names = graph.nodes.filter(({ op }) => op.kind !== "input").map(({ name }) => name);

describe("segmentsOf", () => {
  const shapes = outputShapes(graph, IMAGES);
  const size = (layers: readonly string[]): number =>
    layers.reduce((sum, name) => sum + elementCount(shapes.get(name) ?? []), 0);
  const segments = segmentsOf(graph, names, IMAGES, 20_000);

  it("has every layer once, in network order, and no more of them than allowed unless in one stream", () => {
    expect(segments.flatMap(({ layers }) => layers)).toEqual(names);
    expect(segments.length).toBeGreaterThan(5);
    const streams = new Map(graph.nodes.map(({ name, block, stream }) => [name, `${block} ${stream}`]));
    for (const { layers } of segments)
      if (size(layers) > 20_000) expect(new Set(layers.map((name) => streams.get(name))).size).toBe(1);
  });

  it("shows again what a segment reads of others, and a block's gates to each of its streams", () => {
    const inputs = new Map(graph.nodes.map((node) => [node.name, node.inputs]));
    for (const { layers, others } of segments) {
      const all = new Set(["images", ...layers, ...others]);
      expect(layers.flatMap((name) => inputs.get(name) ?? []).filter((name) => !all.has(name))).toEqual([]);
    }
    const [first] = segments.filter(({ layers }) => layers.includes("conv2.0.gate[1]"));
    const all = [...(first?.layers ?? []), ...(first?.others ?? [])];
    expect(all).toContain("conv2.0.gate[3].gate_activation");
  });

  it("is one segment where all of it fits", () => {
    expect(segmentsOf(graph, names, IMAGES)).toEqual([{ layers: names, others: [] }]);
  });
});

describe("a run in segments", () => {
  it("computes each value once, to the same bits as a run of the whole", async () => {
    const bytes = convert(checkpoint);
    const model = decodeOnnx(bytes, { subject: "candidate.onnx" });
    const { run, layers } = onnxruntimeBackend({ bytes }, model, names, "candidate.onnx");
    const images = seededImages(1, 2, 64, 32);
    const whole = await valuesOf(run(images));
    expect([...whole.keys()]).toEqual(layers);
    for (const most of [40_000, 1]) {
      const segments = segmentsOf(graph, layers, images.shape, most);
      expect(segments.length).toBeGreaterThan(2);
      expect(await valuesOf(run(images, segments))).toEqual(whole);
    }
  });

  it("goes on with all of the model where a part does not run by itself", async () => {
    const bytes = convert(checkpoint);
    const model = decodeOnnx(bytes, { subject: "candidate.onnx" });
    const { run, layers } = onnxruntimeBackend({ bytes }, model, names, "candidate.onnx");
    const images = seededImages(1, 2, 64, 32);
    const segments = segmentsOf(graph, layers, images.shape, 40_000);
    const create = InferenceSession.create.bind(InferenceSession) as typeof InferenceSession.create;
    let created = 0;
    const spy = vi
      .spyOn(InferenceSession, "create")
      .mockImplementation(((file: Uint8Array, options: object) =>
        ++created === 2
          ? Promise.reject(new Error("not by itself"))
          : create(file, options)) as typeof create);
    onTestFinished(() => spy.mockRestore());
    expect((await valuesOf(run(images, segments))).size).toBe(layers.length);
  });

  it("finds that a correct file matches to within rounding, and explains a fault across streams", async () => {
    const honest = await inStages(convert(checkpoint), 20_000);
    expect(honest.faults).toEqual([]);
    expect(honest.coverage.compared).toBe(honest.coverage.expected - honest.coverage.folded.length);

    const crossed = rewriteOnnx(convert(checkpoint), (model) => ({
      ...model,
      graph: {
        ...model.graph,
        nodes: model.graph.nodes.map((node) =>
          node.outputs.includes("conv2.0.gate[1]")
            ? { ...node, inputs: node.inputs.map((name) => name.replace("gate[1]", "gate[3]")) }
            : node,
        ),
      },
    }));
    const report = await inStages(crossed, 1);
    expect(report.faults.filter(({ kind }) => kind === "numeric")).toEqual([
      expect.objectContaining({ layer: "conv2.0.gate[1]", cause: "gates-crossed" }),
    ]);
  });
});

/** The values of a run, in its order; one that is shown again counts once. */
async function valuesOf(run: AsyncIterable<LayerOutput>): Promise<Map<string, RealTensor>> {
  const values = new Map<string, RealTensor>();
  for await (const { name, tensor, again } of run) if (!again) values.set(name, tensor);
  return values;
}

/** Verifies a file of the fixture in segments of so many values, or of one stream each where a stream has more. */
async function inStages(bytes: Uint8Array, values: number): Promise<ParityReport> {
  const verification = await openVerification({ name: "candidate.onnx", bytes }, openReference(checkpoint), {
    size: { height: 64, width: 32 },
  });
  const model = decodeOnnx(bytes, { subject: "candidate.onnx" });
  const { layers } = verification.candidate.backend;
  const { run, ...backend } = onnxruntimeBackend({ bytes }, model, layers, "candidate.onnx");
  const segmented: Backend = {
    ...backend,
    run: (images) => run(images, segmentsOf(graph, layers, images.shape, values)),
  };
  return verify({ ...verification, candidate: { ...verification.candidate, backend: segmented } });
}
