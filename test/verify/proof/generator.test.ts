import { describe, expect, it } from "vitest";
import { campaign } from "./campaign.js";
import { seeds } from "./seeds.js";

/** A sample; `npm run proof:fuzz` makes thousands. */
const EDITS = 150;

describe("random edits of proven files", () => {
  it("lose the proof, or change nothing that the runtime computes", async () => {
    const { wrong, same, refused } = await campaign(seeds(), EDITS, 1);
    expect(wrong).toEqual([]);
    // Edits that are none are kept, so that files are settled by running them, and most edits are some.
    expect(same).toBeGreaterThan(EDITS / 20);
    expect(refused).toBeGreaterThan(EDITS / 2);
  });
});
