import { describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../src/convert/export/tfjs/graph-model.js";
import { lowerToTfjsLayers } from "../../src/convert/export/tfjs/layers-model.js";
import { decodeTfjs, encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import { FAMILIES, missing } from "../fixtures.js";
import { tfjsCandidate } from "../support/candidates.js";
import { expectNearPyTorch, openFamily } from "./pytorch.js";

/**
 * TensorFlow.js against PyTorch's own activations: every tensor, no farther from PyTorch in float64 than three times
 * PyTorch's own float32 is.
 */
const FLOOR = 3e-6;
const SIZE = { height: 64, width: 32 } as const;

const SOMEWHERE = [
  ["tfjs-wasm", "folded, TensorFlow's own operators", { fold: true, fuse: false, size: SIZE }],
  ["tfjs-wasm", "any size", { size: "dynamic" }],
  ["tfjs-cpu", "folded, fused", { size: SIZE }],
  ["tfjs-wasm", "layers, unfolded", { size: SIZE, layers: true, fold: false }],
  ["tfjs-cpu", "layers, folded", { size: SIZE, layers: true }],
] as const;

/** What only some of these do is in these families: instance norms, layer norms in gates, a max pool at the end. */
const VARIED: ReadonlySet<string> = new Set(["osnet_ain_x0_25", "osnet_nas_x0_25", "osnet_attr_max_x0_25"]);

/** Run for every family; the others for those, and proven for all (proof/tfjs.test.ts). */
const EVERYWHERE = [
  ["tfjs-wasm", "folded, fused", { fold: true, fuse: true, size: SIZE }],
  ["tfjs-wasm", "unfolded", { fold: false, fuse: true, size: SIZE }],
  ["tfjs-wasm", "layers, folded", { size: SIZE, layers: true }],
] as const;

describe.each(FAMILIES)("%s in tfjs against PyTorch", (family) => {
  const absent = missing(`${family}.pth`, `${family}.64x32.npz`, `${family}.64x32.float64.npz`);

  it.for([...EVERYWHERE, ...(VARIED.has(family) ? SOMEWHERE : [])])(
    "%s, %s: no tensor farther than PyTorch's float32 allows",
    async ([backend, , options], context) => {
      if (absent) return context.skip(absent);
      const recorded = await openFamily(family);
      const { graph, stateDict } = recorded.checkpoint;
      const lower = "layers" in options ? lowerToTfjsLayers : lowerToTfjs;
      const files = encodeTfjs(lower(graph, stateDict, options));
      const model = decodeTfjs(files, { subject: family });
      const party = { name: family, format: "tfjs" } as const;
      const candidate = tfjsCandidate(files, model, graph, party, backend);
      expect(candidate.folded.size > 0).toBe(!("fold" in options) || options.fold);
      expect(candidate.program).toBeDefined();
      await expectNearPyTorch(candidate, recorded, FLOOR);
    },
  );
});
