import { describe, expect, it } from "vitest";
import { compareBits } from "../../../../src/convert/export/write.js";
import { liftCheckpoint } from "../../../../src/convert/open/lift.js";
import { openModel } from "../../../../src/convert/open/open-file.js";
import { openVerification } from "../../../../src/verify/open.js";
import { readFixture } from "../../../fixtures.js";
import { keras3Files } from "../../../support/keras3.js";
import { openFixture } from "../../../support/osnet.js";

/** Keras 3's calls are objects with the tensors that they read, and its weights are numbered by class of layers. */
describe("a layers model of Keras 3", () => {
  const { graph, stateDict } = openFixture();

  it("is lifted to the checkpoint's weights, bit for bit", () => {
    const { json, shards } = keras3Files();
    const model = openModel("tfjs", { name: "m", bytes: json, beside: shards });
    const { spec, stateDict: lifted, decoded } = liftCheckpoint(model);
    expect({ ...spec, head: graph.spec.head }).toEqual(graph.spec);
    const trained = new Map(
      [...stateDict].filter(([path]) => !/^classifier\.|\.num_batches_tracked$/.test(path)),
    );
    expect(trained.size).toBe(485);
    expect(compareBits(trained, new Map([...lifted].filter(([path]) => trained.has(path))))).toEqual([]);
    expect(decoded.notes).toEqual([
      "a layers model, written by TensorFlow.js Converter v4.22.0",
      "its topology is in Keras 3 format, which tfjs cannot load: it was read, but not run",
    ]);
  });

  it("is not verified as it is, since tfjs does not load it", async () => {
    const { json, shards } = keras3Files();
    const { loadLayersModel } = await import("@tensorflow/tfjs-layers");
    const { modelTopology } = JSON.parse(new TextDecoder().decode(json));
    await expect(loadLayersModel({ load: async () => ({ modelTopology }) })).rejects.toThrow(
      /batchInputShape/,
    );
    const reference = { name: "osnet_x0_25.pth", bytes: readFixture("osnet_x0_25.pth") };
    await expect(openVerification({ name: "m", bytes: json, beside: shards }, reference)).rejects.toThrow(
      "m: found a Keras 3 topology, which tfjs cannot load, expected a Keras 2 topology; convert it with osnet-convert tfjs2tfjs.",
    );
  });
});
