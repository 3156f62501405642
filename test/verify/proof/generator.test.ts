import { describe, expect, it } from "vitest";
import { campaign } from "./campaign.js";
import { seeds } from "./seeds.js";
import { tfjsCampaign, tfjsSeeds } from "./tfjs-campaign.js";

/** A sample; `npm run proof:fuzz` makes thousands. */
const EDITS = 40;

describe("random edits of proven files lose the proof, or change nothing that the runtime computes", () => {
  it.each([
    ["ONNX", () => campaign(seeds(), EDITS, 1)],
    ["TensorFlow.js", () => tfjsCampaign(tfjsSeeds(), EDITS / 3, 1)],
  ] as const)("%s", async (_format, run) => {
    const { edits, wrong, same, refused } = await run();
    expect(wrong).toEqual([]);
    // Edits that are none are kept, so that files are settled by running them, and most edits are some.
    expect(same).toBeGreaterThan(edits / 25);
    expect(refused).toBeGreaterThan(edits / 2);
  });
});
