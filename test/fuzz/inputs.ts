import { mutant } from "./mutate/index.js";
import { createRandom, pickFrom, seedOfInput } from "./random.js";
import type { Target } from "./targets.js";

/** Input number `index` of a run: the same bytes whenever and wherever it is asked for. */
export function inputOf(target: Target, seed: number, index: number): Uint8Array {
  const random = createRandom(seedOfInput(seed, target.name, index));
  const start = pickFrom(target.seeds, random);
  if (start === undefined) throw new Error(`${target.name} has no seeds`);
  return mutant(start, random);
}
