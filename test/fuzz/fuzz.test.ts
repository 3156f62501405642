import { describe, expect, it } from "vitest";
import { inputOf } from "./inputs.js";
import { judge } from "./oracle.js";
import { TARGETS, type Target } from "./targets.js";

/** The same inputs in every run: `npm run fuzz` is the long run, with memory watched. */
const SEED = 20261124;
const INPUTS = 200;
/** Readers of whole networks take longer, and those of small files less. */
const INPUTS_OF: Readonly<Record<string, number>> = {
  checkpoint: 60,
  lift: 60,
  "tfjs-lift": 100,
  "tfjs-absent": 60,
  npy: 2000,
  suite: 1000,
  png: 1000,
};

describe("every reader", () => {
  // The key that pth-key asks for is in one of the seeds only.
  it.each(TARGETS.filter(({ name }) => name !== "pth-key"))(
    "reads $name seeds as they are",
    ({ seeds, read }) => {
      for (const { parts, assemble } of seeds) read(assemble(parts.map(({ bytes }) => bytes)));
    },
  );

  it.each(TARGETS)("reads or refuses mutated $name inputs", (target) => {
    for (let index = 0; index < (INPUTS_OF[target.name] ?? INPUTS); index++) {
      const { finding } = judge(target, inputOf(target, SEED, index));
      expect(finding, `npm run fuzz -- --target ${target.name} --seed ${SEED} --input ${index}`).toBe("");
    }
  });
});

describe("the oracle", () => {
  const target = (read: Target["read"]): Target => ({ name: "test", seeds: [], read });
  const bytes = new Uint8Array(1);

  it("takes any error but a refusal in one sentence for a finding", () => {
    expect(
      judge(
        target(() => undefined),
        bytes,
      ).outcome,
    ).toBe("read");
    const crash = target(() => {
      throw new RangeError("offset 17 is out of bounds");
    });
    expect(judge(crash, bytes).finding).toMatch(
      /^RangeError: offset N is out of bounds at fuzz\/fuzz\.test\.ts$/,
    );
    const readers = TARGETS.map(({ read }) => judge(target(read), bytes).outcome);
    expect(readers).not.toContain("finding");
  });

  it("takes more memory than the file accounts for as a finding", () => {
    const meter = { reset: () => undefined, read: () => ({ allocated: 9 << 20, peakGrowth: 0 }) };
    expect(
      judge(
        target(() => undefined),
        bytes,
        meter,
      ).finding,
    ).toBe("allocates too much");
  });
});
