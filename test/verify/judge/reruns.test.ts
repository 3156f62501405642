import { describe, expect, it } from "vitest";
import type { OnnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { compareRuns, rerunFaults, runAlone } from "../../../src/verify/judge/reruns.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { convert, openReference, rewriteOnnx, SMALL } from "../../support/osnet.js";

const checkpoint = tinyCheckpoint("block");

describe("a model run again", () => {
  it("gives the same embedding without optimisations, and for images alone", async () => {
    const { output, faults } = await verifyFile(convert(checkpoint));
    expect(faults).toEqual([]);
    expect(output?.reruns).toEqual([
      expect.objectContaining({ how: "unoptimised", images: 2, status: "pass" }),
      expect.objectContaining({ how: "alone", images: 2, status: "pass" }),
    ]);
    for (const { relMax } of output?.reruns ?? []) expect(relMax).toBeLessThan(1e-5);
  });

  it("fills the batch with one image where the file fixes it", async () => {
    const { output, faults } = await verifyFile(convert(checkpoint, { batch: 3 }));
    expect(faults).toEqual([]);
    expect(output?.reruns?.map(({ how }) => how)).toEqual(["unoptimised", "alone"]);
  });

  it("fails where it takes batches of two only, and does not say so", async () => {
    const flattened = rewriteOnnx(convert(checkpoint), (model) => ({
      ...model,
      graph: {
        ...model.graph,
        nodes: model.graph.nodes.map((node) =>
          node.outputs.includes("global_avgpool.flatten") ? reshape(node) : node,
        ),
        initializers: new Map([
          ...model.graph.initializers,
          ["two", { dtype: "int64", shape: [2], data: BigInt64Array.of(2n, -1n) }],
        ]),
      },
    }));
    const { passed, faults } = await verifyFile(flattened);
    expect(passed).toBe(false);
    expect(faults).toEqual([
      expect.objectContaining({
        kind: "structure",
        explanation: expect.stringMatching(/^an image has a different embedding alone than in a batch/),
      }),
    ]);
  });
});

describe("compareRuns", () => {
  it("takes all rows of an image, not the first of several", async () => {
    const images = tensor([2, 3, 1, 1], [1, 2, 3, 4, 5, 6]);
    const rows = (count: number): Tensor<"float32"> => tensor([count, 1], new Array(count).fill(1));
    const model = {
      run: async ({ shape: [count = 0] }: Tensor<"float32">) => [rows(count === 1 ? 3 : count)],
      release: async () => undefined,
    };
    const outputs = [{ index: 0, tensor: rows(2), tolerance: 1e-3 }];
    const alone = await runAlone(model, images, undefined);
    expect(compareRuns({ images, outputs, alone, unoptimised: undefined })).toMatchObject([
      { how: "alone", status: "fail", problem: "6 values in place of 2" },
    ]);
  });

  it("tells how many values are not numbers, which have no difference", async () => {
    const images = tensor([2, 3, 1, 1], [1, 2, 3, 4, 5, 6]);
    const embed = ({ shape: [count = 1] }: Tensor<"float32">): Tensor<"float32"> =>
      tensor([count, 1], new Array(count).fill(Number.NaN));
    const model = { run: async (some: Tensor<"float32">) => [embed(some)], release: async () => undefined };
    const outputs = [{ index: 0, tensor: embed(images), tolerance: 1e-3 }];
    const alone = await runAlone(model, images, undefined);
    expect(compareRuns({ images, outputs, alone, unoptimised: undefined })).toMatchObject([
      { status: "fail", maxAbs: null, problem: "2 values NaN or infinite" },
    ]);
  });

  it("tells by how much an image's row differs from the image alone", async () => {
    const images = tensor([2, 3, 1, 1], [1, 2, 3, 4, 5, 6]);
    // Each row is its image's first value, less the mean over the batch.
    const embed = ({ shape: [count = 1], data }: Tensor<"float32">): Tensor<"float32"> => {
      const firsts = Array.from({ length: count }, (_, image) => data[3 * image] ?? 0);
      const mean = firsts.reduce((sum, value) => sum + value, 0) / count;
      return tensor(
        [count, 1],
        firsts.map((value) => value - mean),
      );
    };
    const model = { run: async (some: Tensor<"float32">) => [embed(some)], release: async () => undefined };
    const outputs = [{ index: 0, tensor: embed(images), tolerance: 1e-3 }];
    const alone = await runAlone(model, images, undefined);
    const reruns = compareRuns({ images, outputs, alone, unoptimised: undefined });
    expect(reruns).toEqual([{ how: "alone", images: 2, status: "fail", maxAbs: 1.5, relMax: 1 }]);
    expect(rerunFaults("fc", reruns)).toMatchObject([{ layer: "fc", kind: "structure" }]);
  });
});

function reshape(node: OnnxNode): OnnxNode {
  return { ...node, opType: "Reshape", inputs: [node.inputs[0] ?? "", "two"], attributes: new Map() };
}

function tensor(shape: readonly number[], values: readonly number[]): Tensor<"float32"> {
  return { dtype: "float32", shape, data: Float32Array.from(values) };
}

async function verifyFile(bytes: Uint8Array): Promise<ParityReport> {
  const candidate = { name: "candidate.onnx", bytes };
  return verify(await openVerification(candidate, openReference(checkpoint), { size: SMALL }));
}
