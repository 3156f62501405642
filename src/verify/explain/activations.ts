import { type Cause, type Guess, type Hypothesis, mapped, type Step } from "./hypothesis.js";

/** Guesses at activations that are others, missing, or one too many. */
export const guessActivation: Guess = (step) => {
  const { kind } = step.node.op;
  if (kind === "relu")
    return [...otherwise(step, "relu-missing", "the ReLU is missing", (x) => x), ...LEAKY(step)];
  if (kind === "sigmoid") return sigmoids(step);
  return [after(step, "relu-extra", "a ReLU follows that the network lacks", (y) => Math.max(y, 0))];
};

const LEAKY = (step: Step): Hypothesis[] => [
  ...otherwise(step, "relu-missing", "the ReLU is clipped at 6", (x) => Math.min(Math.max(x, 0), 6)),
  ...otherwise(step, "relu-missing", "it is a leaky ReLU of slope 0.01", (x) => (x < 0 ? 0.01 * x : x)),
];

function sigmoids(step: Step): Hypothesis[] {
  const clip = (y: number): number => Math.min(Math.max(y, 0), 1);
  return [
    ...otherwise(step, "hard-sigmoid", "it is a HardSigmoid of slope 1/5", (x) => clip(0.2 * x + 0.5)),
    ...otherwise(step, "hard-sigmoid", "it is a HardSigmoid of slope 1/6", (x) => clip(x / 6 + 0.5)),
    ...otherwise(step, "sigmoid-missing", "the sigmoid is missing", (x) => x),
    ...otherwise(step, "sigmoid-missing", "it is a ReLU", (x) => Math.max(x, 0)),
    ...otherwise(step, "sigmoid-missing", "it is a tanh", Math.tanh),
  ];
}

/** Another function of the input. */
function otherwise(
  { inputs: [input] }: Step,
  cause: Cause,
  says: string,
  f: (x: number) => number,
): Hypothesis[] {
  return input ? [{ cause, says, output: () => mapped(input, f) }] : [];
}

/** A function of the step's own output. */
function after(step: Step, cause: Cause, says: string, f: (y: number) => number): Hypothesis {
  return { cause, says, output: () => mapped(step.compute(), f) };
}
