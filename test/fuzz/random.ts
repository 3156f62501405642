/** A small deterministic generator, so that an input is three words: seed, target, index. */
export interface Random {
  /** A whole number from 0 to `limit` − 1; 0 if the limit is 0. */
  below(limit: number): number;
  chance(probability: number): boolean;
  pick<T>(items: readonly [T, ...T[]]): T;
}

/** SplitMix32 (G. Steele et al., OOPSLA 2014): every seed, 0 too, gives a sequence of its own. */
export function createRandom(seed: number): Random {
  let state = seed | 0;
  const next = (): number => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
  return {
    below: (limit) => Math.floor(next() * limit),
    chance: (probability) => next() < probability,
    pick: (items) => items[Math.floor(next() * items.length)] ?? items[0],
  };
}

/** The seed of one input: FNV-1a over the run's seed, the target's name and the input's number. */
export function seedOfInput(seed: number, target: string, index: number): number {
  let hash = 0x811c9dc5;
  for (const character of `${seed}:${target}:${index}`)
    hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193);
  return hash;
}

/** `random.pick` for a list that may be empty. */
export function pickFrom<T>(items: readonly T[], random: Random): T | undefined {
  return items[random.below(items.length)];
}
