import { castFloat, toReal } from "../../core/tensor-cast.js";
import { type Evidence, type Guess, type Hypothesis, mapped, type Step } from "./hypothesis.js";
/** Guesses fitted to the values themselves, for when nothing particular is found. */
export const guessResidue: Guess = (step, evidence) => {
  const last = evidence.group.nodes.at(-1);
  return last?.name === step.node.name ? [...scaled(step, evidence), ...constants(step, evidence)] : [];
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
      says: `all values are ${factor.toPrecision(6)} times what they should be`,
      output: () => mapped(step.compute(), (y) => y * factor),
    },
  ];
}

/** Share of the values that are numbers of a narrower type, where they are rounded to it: others are by chance, one in thousands. */
const ROUNDED_SHARE = 0.99;

function precisions(step: Step, { actual }: Evidence): Hypothesis[] {
  const own = step.compute();
  return (["float16", "bfloat16"] as const).flatMap((name) => {
    const { dtype, shape, data } = actual;
    const narrow = toReal(
      castFloat({ dtype: "float32", shape, data: Float32Array.from(data as Float32Array) }, name, "values"),
      "values",
    ).data;
    let rounded = 0;
    for (let i = 0; i < data.length; i++) if (narrow[i] === data[i]) rounded++;
    if (dtype !== "float32" || rounded < ROUNDED_SHARE * data.length) return [];
    const unit = name === "float16" ? 2 ** -11 : 2 ** -8;
    return [
      {
        cause: "precision" as const,
        says: `the values are rounded to ${name}`,
        output: () => own,
        rounding: (i: number) => unit * Math.abs(own.data[i] as number),
      },
    ];
  });
}
