import { largestMagnitude } from "../../core/functions.js";
import type { RealTensor } from "../../core/tensor.js";
import { type Cause, type Guess, type Hypothesis, mapped, type Step } from "./hypothesis.js";

/** Hypotheses about activations that are replaced, missing, or added. */
export const guessActivation: Guess = (step, { actual }) => {
  const { kind } = step.node.op;
  if (kind === "relu") return relus(step);
  if (kind === "sigmoid") return [...sigmoids(step), ...temperatures(step, actual)];
  return [
    after(step, "relu-extra", "it is followed by a ReLU that the network does not have", (y) =>
      Math.max(y, 0),
    ),
  ];
};

const logistic = (x: number): number => 1 / (1 + Math.exp(-x));
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/** Usual slopes of leaky ReLUs: PyTorch's default, those of papers, TensorFlow's and Keras's. */
const SLOPES = [0.01, 0.1, 0.2, 0.25, 0.3] as const;

/** Activations of other networks, in place of a ReLU. */
const INSTEAD: readonly (readonly [says: string, f: (x: number) => number])[] = [
  ["the ReLU is clipped at 6", (x) => Math.min(Math.max(x, 0), 6)],
  ...SLOPES.map(
    (slope) => [`it is a leaky ReLU of slope ${slope}`, (x: number) => (x < 0 ? slope * x : x)] as const,
  ),
  ["the ReLU is squared", (x) => Math.max(x, 0) ** 2],
  ["it is a GELU", (x) => 0.5 * x * (1 + erf(x / Math.SQRT2))],
  [
    "it is a GELU in its tanh approximation",
    (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  ],
  ["it is a SiLU", (x) => x * logistic(x)],
  ["it is an ELU", (x) => (x < 0 ? Math.expm1(x) : x)],
  ["it is a SELU", (x) => 1.0507009873554805 * (x < 0 ? 1.6732632423543772 * Math.expm1(x) : x)],
  ["it is a Mish", (x) => x * Math.tanh(softplus(x))],
  ["it is a softplus", softplus],
  ["it is a HardSwish", (x) => (x * Math.min(Math.max(x + 3, 0), 6)) / 6],
  ["it is a sigmoid", logistic],
  ["it is a tanh", Math.tanh],
  ["it computes the absolute value", Math.abs],
];

function relus(step: Step): Hypothesis[] {
  return [
    ...otherwise(step, "relu-missing", "the ReLU is missing", (x) => x),
    ...INSTEAD.flatMap(([says, f]) => otherwise(step, "relu-other", says, f)),
  ];
}

function sigmoids(step: Step): Hypothesis[] {
  const clip = (y: number): number => Math.min(Math.max(y, 0), 1);
  return [
    ...otherwise(step, "hard-sigmoid", "it is a HardSigmoid of slope 1/5", (x) => clip(0.2 * x + 0.5)),
    ...otherwise(step, "hard-sigmoid", "it is a HardSigmoid of slope 1/6", (x) => clip(x / 6 + 0.5)),
    ...otherwise(step, "sigmoid-missing", "the sigmoid is missing", (x) => x),
    ...otherwise(step, "sigmoid-missing", "it is a ReLU on these values", (x) => Math.max(x, 0)),
    ...otherwise(step, "sigmoid-missing", "it is a tanh", Math.tanh),
  ];
}

/** A sigmoid is inverted only where it is steep: where its value differs from 0 and 1 by more than this. */
const STEEP = 0.02;

/** Minimum number of values to fit a factor to: fewer would fit anything. */
const MIN_VALUES = 8;

/** σ(k·x) instead of σ(x): the median of the factors k of all values. */
function temperatures(step: Step, actual: RealTensor): Hypothesis[] {
  const [input] = step.inputs;
  if (!input || input.data.length < MIN_VALUES) return [];
  const factors: number[] = [];
  for (let i = 0; i < input.data.length; i++) {
    const [x, y] = [input.data[i] as number, actual.data[i] as number];
    if (y > STEEP && y < 1 - STEEP && Math.abs(x) > STEEP) factors.push(Math.log(y / (1 - y)) / x);
  }
  const factor = factors.sort((a, b) => a - b)[Math.floor(factors.length / 2)];
  if (factor === undefined || factors.length < MIN_VALUES) return [];
  const says = `the sigmoid's input is multiplied by ${factor.toPrecision(4)}, or divided by ${(1 / factor).toPrecision(4)}`;
  return otherwise(step, "sigmoid-temperature", says, (x) => logistic(factor * x));
}

/** Rounding error of an activation of several operations, in float32, relative to its input and output. */
const ROUNDINGS = 8 * 2 ** -24;

/** The step as another function of its input. */
function otherwise(
  { inputs: [input] }: Step,
  cause: Cause,
  says: string,
  f: (x: number) => number,
): Hypothesis[] {
  if (!input) return [];
  // e^x − 1 and 1 + e^x round relative to 1, unless all values are smaller.
  const unit = Math.min(1, largestMagnitude(input.data));
  return [
    {
      cause,
      says,
      output: () => mapped(input, f),
      rounding: (i) => ROUNDINGS * (unit + Math.abs(input.data[i] as number)),
    },
  ];
}

/** The step followed by a function. */
function after(step: Step, cause: Cause, says: string, f: (y: number) => number): Hypothesis {
  return { cause, says, output: () => mapped(step.compute(), f) };
}

/** The error function to 1e-16: its series near 0, and a continued fraction of its complement further out. */
function erf(x: number): number {
  const z = Math.abs(x);
  if (z > 6) return Math.sign(x);
  if (z < 2) {
    let [term, sum] = [z, z];
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum) && n < 100; n++) {
      term *= -(z * z) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction));
}
