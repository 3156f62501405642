import { describe, expect, it } from "vitest";
import { campaign } from "./campaign.js";
import { SMALL_NETWORKS, seeds } from "./seeds.js";
import { tfjsCampaign, tfjsSeeds } from "./tfjs-campaign.js";

/** A sample, of some files, ours of small networks; `npm run proof:fuzz` makes thousands, of all. */
const EDITS = 40;
const SHARE = 4;
const some = <T>(all: readonly T[]): readonly T[] => all.filter((_, index) => index % SHARE === 1);

describe("random edits of proven files lose the proof, or change nothing that the runtime computes", () => {
  it.each([
    ["ONNX", () => campaign(some(seeds(SMALL_NETWORKS)), EDITS, 1)],
    ["TensorFlow.js", () => tfjsCampaign(some(tfjsSeeds(SMALL_NETWORKS)), EDITS / 3, 1)],
  ] as const)("%s", async (_format, run) => {
    const { edits, wrong, same, refused } = await run();
    expect(wrong).toEqual([]);
    // Edits that are none are kept, so that files are settled by running them, and most edits are some.
    expect(same).toBeGreaterThan(edits / 25);
    expect(refused).toBeGreaterThan(edits / 2);
  });
});
