import { errorAt } from "../bounds/index.js";
import { type Evidence, type Guess, type Hypothesis, mapped, type Step } from "./hypothesis.js";
/** Guesses fitted to the values themselves, for when nothing particular is found. */
export const guessResidue: Guess = (step, evidence) => {
  const last = evidence.group.nodes.at(-1);
  return last?.name === step.node.name ? [...constants(step, evidence), ...scaled(step, evidence)] : [];
};

/** What is left when weights have been fitted in vain: all values in another precision. */
export const guessPrecision: Guess = (step, evidence) =>
  evidence.group.nodes.at(-1)?.name === step.node.name ? precisions(step, evidence) : [];

/** Channels that are all off by one number each: a bias. */
function constants(step: Step, { actual }: Evidence): Hypothesis[] {
  if (!("parameters" in step.node) || Object.keys(step.node.parameters).length === 0) return [];
  const own = step.compute();
  const [images = 1, channels = 1] = own.shape;
  const plane = own.data.length / images / channels;
  // One value a channel and nothing else: then any error is a constant.
  if (images * plane < 2) return [];
  const shifts = new Float64Array(channels);
  for (let i = 0; i < own.data.length; i++) {
    const channel = Math.floor(i / plane) % channels;
    shifts[channel] = (shifts[channel] as number) + (actual.data[i] as number) - (own.data[i] as number);
  }
  for (let channel = 0; channel < channels; channel++)
    shifts[channel] = (shifts[channel] as number) / (images * plane);
  const worst = shifts.reduce(
    (best, shift, channel) => (Math.abs(shift) > Math.abs(shifts[best] as number) ? channel : best),
    0,
  );
  return [
    {
      cause: "bias",
      says: `channel ${worst} has ${(shifts[worst] as number).toPrecision(3)} added to its bias, others less or nothing`,
      output: () =>
        mapped(step.compute(), (y, i) => y + (shifts[Math.floor(i / plane) % channels] as number)),
    },
  ];
}

/** All values by one factor. */
function scaled(step: Step, { actual }: Evidence): Hypothesis[] {
  const own = step.compute();
  let [dot, squares] = [0, 0];
  for (let i = 0; i < own.data.length; i++) {
    dot += (own.data[i] as number) * (actual.data[i] as number);
    squares += (own.data[i] as number) ** 2;
  }
  const factor = squares === 0 ? 1 : dot / squares;
  return [
    {
      cause: "scaled",
      says: `all values are ${factor.toPrecision(6)} times theirs`,
      output: () => mapped(step.compute(), (y) => y * factor),
    },
  ];
}

/** Share of the values that are off where all of them are rounded. */
const ROUNDED_SHARE = 0.5;

function precisions(step: Step, { actual, recomputed }: Evidence): Hypothesis[] {
  const { elements } = recomputed.bound;
  const own = step.compute();
  const isOff = (y: number, i: number): boolean =>
    Math.abs((actual.data[i] as number) - y) > errorAt(elements, i);
  if (own.data.filter(isOff).length < ROUNDED_SHARE * own.data.length) return [];
  return [
    { bits: 11, name: "float16" },
    { bits: 8, name: "bfloat16" },
  ].map(({ bits, name }) => ({
    cause: "precision",
    says: `the values are computed in ${name}`,
    // Within two units of that precision there is nothing to tell: the candidate's value is as good as any.
    output: () =>
      mapped(own, (y, i) => {
        const value = actual.data[i] as number;
        return Math.abs(value - y) <= Math.abs(y) * 2 ** (1 - bits) ? value : y;
      }),
  }));
}
