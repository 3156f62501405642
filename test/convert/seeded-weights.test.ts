import { describe, expect, it } from "vitest";
import { expand, identify, VARIANT_NAMES, variant } from "../../src/arch/index.js";
import { seededStateDict } from "../../src/convert/seeded-weights.js";
import { referenceBackend } from "../../src/verify/backends/references.js";
import { seededImages } from "../../src/verify/inputs/images.js";

describe("seededStateDict", () => {
  it.each(VARIANT_NAMES.filter((name) => /x0_25|x0_5$/.test(name)))(
    "%s: complete, and activations neither vanish nor explode; gates see their images",
    async (name) => {
      const graph = expand(variant(name));
      const stateDict = seededStateDict(graph, 1);
      expect(identify(stateDict, { subject: name }).spec).toEqual(graph.spec);
      const gates = new Set(graph.gates.map(({ layer }) => layer));
      for await (const { name: layer, tensor } of referenceBackend(graph, stateDict).run(
        seededImages(0, 2, 64, 32),
      )) {
        const rms = Math.sqrt(
          Float64Array.from(tensor.data).reduce((sum, value) => sum + value * value, 0) / tensor.data.length,
        );
        expect(rms, layer).toBeGreaterThan(0.02);
        expect(rms, layer).toBeLessThan(50);
        if (!gates.has(layer)) continue;
        const [low, high] = [Math.min(...tensor.data), Math.max(...tensor.data)];
        expect(high - low, layer).toBeGreaterThan(0.2);
      }
    },
  );

  it("is the same for the same seed, and another for another", () => {
    const graph = expand(variant("osnet_x0_25"));
    const weights = (seed: number) => seededStateDict(graph, seed).get("conv1.conv.weight")?.data;
    expect(weights(1)).toEqual(weights(1));
    expect(weights(1)).not.toEqual(weights(2));
  });
});
