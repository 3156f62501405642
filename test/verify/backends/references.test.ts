import { describe, expect, it } from "vitest";
import { expand, outputShapes, variant } from "../../../src/arch/index.js";
import { openNpz } from "../../../src/convert/formats/npz.js";
import { elementCount, type Tensor } from "../../../src/core/tensor.js";
import type { LayerOutput } from "../../../src/verify/backends/backend.js";
import { openRecording, type Recording, referenceBackend } from "../../../src/verify/backends/references.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { encodeNpz } from "../../support/npy.js";

const graph = expand(variant("osnet_x0_25"));
const float32 = (shape: readonly number[], ...values: number[]): Tensor<"float32"> => ({
  dtype: "float32",
  shape,
  data: Float32Array.from(values),
});
const IMAGES: Tensor<"float32"> = { dtype: "float32", shape: [1, 3, 1, 1], data: Float32Array.of(1, 2, 3) };
const OUTPUT = float32([1, 2], 5, 6);

function open(arrays: Parameters<typeof encodeNpz>[0]): Recording {
  return openRecording(openNpz(encodeNpz(arrays), "r.npz"), graph, "r.npz");
}

async function layersOf({ backend, images }: Recording): Promise<LayerOutput[]> {
  const outputs: LayerOutput[] = [];
  for await (const output of backend.run(images)) outputs.push(output);
  return outputs;
}

const EXPECTED =
  "expected PyTorch activations under torchreid module paths, with input [N, 3, H, W] and output; record them with python/record_activations.py.";

describe("openRecording", () => {
  it("yields its arrays under layer names, in network order", async () => {
    const recording = open({
      output: OUTPUT,
      "conv2.0.gate[3].gate_activation": float32([1, 1, 1, 1], 0.5),
      "conv1.conv": float32([1, 1, 1, 1], 7),
      input: IMAGES,
    });
    expect(recording.images).toEqual(IMAGES);
    expect(recording.backend.layers).toEqual(["conv1.conv", "conv2.0.gate[3].gate_activation", "fc.2"]);
    expect(await layersOf(recording)).toEqual([
      { name: "conv1.conv", tensor: float32([1, 1, 1, 1], 7) },
      { name: "conv2.0.gate[3].gate_activation", tensor: float32([1, 1, 1, 1], 0.5) },
      { name: "fc.2", tensor: OUTPUT },
    ]);
  });

  it("takes a container's value for its last layer's", async () => {
    const [first] = await layersOf(open({ input: IMAGES, output: OUTPUT, conv1: float32([1, 1, 1, 1], 8) }));
    expect(first).toEqual({ name: "conv1.relu", tensor: float32([1, 1, 1, 1], 8) });
  });

  it("refuses two values for one layer", async () => {
    const recording = open({
      input: IMAGES,
      output: OUTPUT,
      conv1: float32([1, 1, 1, 1], 8),
      "conv1.relu": float32([1, 1, 1, 1], 9),
    });
    await expect(layersOf(recording)).rejects.toThrow(
      `r.npz: found conv1.relu different from conv1, though both name one layer's output, ${EXPECTED}`,
    );
  });

  it("narrows float64 images that were float32", () => {
    const wide = { dtype: "float64", shape: [1, 3, 1, 1], data: Float64Array.of(0.5, 0.25, 2) } as const;
    expect(open({ input: wide, output: OUTPUT }).images.data).toEqual(Float32Array.of(0.5, 0.25, 2));
  });

  it.each<readonly [found: string, arrays: Parameters<typeof encodeNpz>[0]]>([
    ['no array "input"', { output: OUTPUT }],
    ['no array "output"', { input: IMAGES, "conv1.conv": OUTPUT }],
    [
      "2 arrays that are not layers of this network",
      { input: IMAGES, output: OUTPUT, layer4: OUTPUT, "conv2.0.gate.fc1": OUTPUT },
    ],
    ["an input of shape [3, 1]", { input: float32([3, 1], 1, 2, 3), output: OUTPUT }],
    ["an input of shape [1, 1, 1, 1]", { input: float32([1, 1, 1, 1], 1), output: OUTPUT }],
    [
      "float64 input values that float32 cannot represent",
      { input: { dtype: "float64", shape: [1, 3, 1, 1], data: Float64Array.of(0.1, 0, 0) }, output: OUTPUT },
    ],
  ])("refuses %s", (found, arrays) => {
    expect(() => open(arrays)).toThrow(`r.npz: found ${found}, ${EXPECTED}`);
  });
});

describe("the reference", () => {
  it("keeps its runs on two sets of images, as far as there is room", async () => {
    const { graph, stateDict } = tinyCheckpoint("osnet", (weights) => weights);
    const bytesAt = (size: number): number =>
      [...outputShapes(graph, [1, 3, size, size]).values()].reduce(
        (bytes, shape) => bytes + 8 * elementCount(shape),
        0,
      );
    const backend = referenceBackend(graph, stateDict, bytesAt(32) + bytesAt(16));
    const last = async (seed: number, size: number): Promise<LayerOutput["tensor"] | undefined> => {
      let tensor: LayerOutput["tensor"] | undefined;
      for await (const output of backend.run(seededImages(seed, 1, size, size))) tensor = output.tensor;
      return tensor;
    };
    const [large, small] = [await last(0, 32), await last(0, 16)];
    expect(await last(0, 32)).toBe(large);
    expect(await last(0, 16)).toBe(small);
    // Other images, beside which there is no room for the large run.
    const other = await last(1, 32);
    expect(await last(0, 32)).not.toBe(large);
    expect(await last(0, 32)).toEqual(large);
    expect(await last(1, 32)).not.toBe(other);
    // Larger than the room.
    expect(await last(0, 48)).not.toBe(await last(0, 48));
  });

  it("keeps a run that ends before its last layer, and continues it", async () => {
    const { graph, stateDict } = tinyCheckpoint("block", (weights) => weights);
    const images = seededImages(0, 1, 32, 32);
    const layers = async (count: number): Promise<LayerOutput[]> => {
      const outputs: LayerOutput[] = [];
      for await (const output of referenceBackend(graph, stateDict).run(images)) {
        outputs.push(output);
        if (outputs.length === count) break;
      }
      return outputs;
    };
    const [few, more, all] = [await layers(3), await layers(5), await layers(Infinity)];
    expect(all.map(({ name }) => name)).toEqual(graph.nodes.map(({ name }) => name));
    for (const [index, { tensor }] of more.entries()) {
      expect(all[index]?.tensor).toBe(tensor);
      if (index < few.length) expect(few[index]?.tensor).toBe(tensor);
    }
  });

  it("keeps no run that fails", async () => {
    const { graph, stateDict } = tinyCheckpoint("block", (weights) => weights);
    const lacking = new Map([...stateDict].filter(([path]) => path !== "conv2.0.conv3.conv.weight"));
    const run = async (): Promise<void> => {
      for await (const _ of referenceBackend(graph, lacking).run(seededImages(0, 1, 32, 32)));
    };
    for (let time = 0; time < 2; time++) await expect(run()).rejects.toThrow("no such parameter");
  });
});
