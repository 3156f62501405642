import { expect, it } from "vitest";
import { minimize } from "./minimize.js";
import { createRandom, seedOfInput } from "./random.js";

it("minimising leaves what the failure needs", () => {
  const bytes = Uint8Array.from({ length: 300 }, (_, index) => index & 0xff);
  const fails = (candidate: Uint8Array) => candidate.includes(17) && candidate.includes(200);
  expect([...minimize(bytes, fails)].sort((a, b) => a - b)).toEqual([17, 200]);
});

it("an input's seed depends on the run, the target and its number, and gives the same sequence again", () => {
  const seeds = [
    seedOfInput(1, "pth", 0),
    seedOfInput(2, "pth", 0),
    seedOfInput(1, "npy", 0),
    seedOfInput(1, "pth", 1),
  ];
  expect(new Set(seeds).size).toBe(4);
  const sequence = (seed: number) =>
    Array.from(
      { length: 8 },
      (
        (random) => () =>
          random.below(1000)
      )(createRandom(seed)),
    );
  expect(sequence(7)).toEqual(sequence(7));
  expect(sequence(7)).not.toEqual(sequence(8));
});
