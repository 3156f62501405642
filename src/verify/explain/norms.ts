import { epsilonShown, unfoldedNode } from "../../arch/batch-norm.js";
import type { LayerNode } from "../../arch/index.js";
import { filled } from "../../core/functions.js";
import type { RealTensor } from "../../core/tensor.js";
import type { ParameterSource } from "../reference/evaluate-layer.js";
import { type Evidence, type Guess, type Hypothesis, type Step, trialOf, withData } from "./hypothesis.js";

/**
 * Epsilons of other frameworks and common mistakes: Keras's batch norm has 1e-3, TensorFlow's layers 1e-6.
 */
const EPSILONS = [1e-3, 1e-4, 1e-6, 1e-2, 1e-12, 0] as const;

/** Hypotheses about norms, including a batch norm folded into the layer before it. */
export const guessNorm: Guess = (step, evidence) => [
  ...epsilons(step, evidence),
  ...unbiased(step, evidence),
  ...batchNorms(step, evidence),
];

function epsilons(step: Step, evidence: Evidence): Hypothesis[] {
  const { node, compute } = step;
  const current = epsilonOf(node);
  if (current === undefined) return [];
  const trial = trialOf(step, evidence);
  const tried = new Set([...EPSILONS, ...epsilonOfValues(step, evidence, current)]);
  tried.delete(current);
  return [...tried].map((epsilon) => ({
    cause: "epsilon",
    says: `ε is ${epsilon.toExponential()}, not ${current.toExponential()}`,
    plausible: () => trial({ node: withEpsilon(node, epsilon) }),
    output: () => compute({ node: withEpsilon(node, epsilon) }),
  }));
}

/** The ε that the values of a batch or instance norm show; none if the candidate does not show them. */
function epsilonOfValues(
  { node, inputs: [input] }: Step,
  { actual, recomputed: { output }, group, parameters }: Evidence,
  current: number,
): readonly number[] {
  const norm = node.op.kind === "instanceNorm" ? node.parameters : normOf(node);
  if (node.name !== group.layer.name || norm?.bias === undefined || !input) return [];
  const [beta, ofChannels] = [norm.bias, norm.runningVar].map((path) => path && parameters(path));
  const [images = 1, channels = 1] = output.shape;
  const plane = output.data.length / images / channels;
  const planes = Array.from({ length: images * channels }, (_, index) => {
    const [start, channel] = [index * plane, index % channels];
    const shift = Number(beta?.[channel]);
    let [dot, squares] = [0, 0];
    for (let i = start; i < start + plane; i++) {
      const own = (output.data[i] as number) - shift;
      dot += own * ((actual.data[i] as number) - shift);
      squares += own * own;
    }
    const variance = ofChannels
      ? Number(ofChannels[channel])
      : varianceOf(input.data.subarray(start, start + plane));
    return { variance, ratio: dot / squares };
  });
  const shown = epsilonShown(
    planes.map(({ variance }) => variance),
    current,
    planes.map(({ ratio }) => ratio),
  );
  return shown === undefined ? [] : [shown];
}

function varianceOf(values: RealTensor["data"]): number {
  let [sum, squares] = [0, 0];
  for (const value of values) sum += value;
  const mean = sum / values.length;
  for (const value of values) squares += (value - mean) ** 2;
  return squares / values.length;
}

/** The parameters of a batch norm, also if it is folded into the layer before it. */
function normOf({ op, parameters, foldedBatchNorm }: LayerNode): LayerNode["parameters"] | undefined {
  return foldedBatchNorm?.parameters ?? (op.kind === "batchNorm" ? parameters : undefined);
}

function epsilonOf({ op, foldedBatchNorm }: LayerNode): number | undefined {
  return "epsilon" in op ? op.epsilon : foldedBatchNorm?.epsilon;
}

function withEpsilon(node: LayerNode, epsilon: number): LayerNode {
  if (node.foldedBatchNorm) return { ...node, foldedBatchNorm: { ...node.foldedBatchNorm, epsilon } };
  return "epsilon" in node.op ? { ...node, op: { ...node.op, epsilon } } : node;
}

/** γ/√(σ²·n/(n−1) + ε) is γ·√((n−1)/n) / √(σ² + ε·(n−1)/n): another weight and another ε. */
function unbiased({ node, inputs: [input], compute }: Step, { parameters }: Evidence): Hypothesis[] {
  const { op } = node;
  if ((op.kind !== "instanceNorm" && op.kind !== "layerNorm") || !input) return [];
  const [images = 1, channels = 1] = input.shape;
  const count = input.data.length / images / (op.kind === "instanceNorm" ? channels : 1);
  const ratio = (count - 1) / count;
  const source: ParameterSource = (path) =>
    path === node.parameters.weight
      ? parameters(path).map((weight) => weight * Math.sqrt(ratio))
      : parameters(path);
  return [
    {
      cause: "unbiased-variance",
      says: "the variance is divided by n − 1, not n",
      output: () => compute({ node: withEpsilon(node, op.epsilon * ratio), parameters: source }),
    },
  ];
}

function batchNorms(step: Step, { parameters }: Evidence): Hypothesis[] {
  const { node, inputs, compute } = step;
  const paths = normOf(node);
  const epsilon = epsilonOf(node);
  const [input] = inputs;
  if (!paths || epsilon === undefined || !input) return [];
  const before = (): RealTensor => (node.foldedBatchNorm ? compute({ node: unfoldedNode(node) }) : input);
  const read = (path: string | undefined): Float64Array =>
    path === undefined ? new Float64Array() : parameters(path);
  const [gamma, beta, mean, variance] = [
    read(paths.weight),
    read(paths.bias),
    read(paths.runningMean),
    read(paths.runningVar),
  ];
  const normalised = (values: RealTensor, means: Float64Array, variances: Float64Array): Float64Array =>
    byChannel(
      values,
      (value, c) =>
        ((value - (means[c] as number)) * (gamma[c] as number)) /
          Math.sqrt((variances[c] as number) + epsilon) +
        (beta[c] as number),
    );
  return [
    {
      cause: "batch-norm-missing",
      says: "the batch norm is missing",
      output: () => {
        const values = before();
        return withData(values.shape, Float64Array.from(values.data));
      },
    },
    {
      cause: "batch-norm-twice",
      says: "the batch norm is applied twice",
      output: () => {
        const once = compute();
        return withData(once.shape, normalised(once, mean, variance));
      },
    },
    {
      cause: "training-mode",
      says: "the batch norm normalises by the batch's own mean and variance, as in training",
      output: () => {
        const values = before();
        const own = batchMoments(values);
        return withData(values.shape, normalised(values, own.means, own.variances));
      },
    },
  ];
}

function byChannel(
  { shape, data }: RealTensor,
  change: (value: number, channel: number) => number,
): Float64Array {
  const [images = 1, channels = 1] = shape;
  const plane = data.length / images / channels;
  return filled(new Float64Array(data.length), (i) =>
    change(data[i] as number, Math.floor(i / plane) % channels),
  );
}

function batchMoments(values: RealTensor): {
  readonly means: Float64Array;
  readonly variances: Float64Array;
} {
  const [images = 1, channels = 1] = values.shape;
  const count = values.data.length / channels;
  const plane = count / images;
  const average = (of: (value: number, channel: number) => number): Float64Array => {
    const sums = new Float64Array(channels);
    for (let i = 0; i < values.data.length; i++) {
      const channel = Math.floor(i / plane) % channels;
      sums[channel] = (sums[channel] as number) + of(values.data[i] as number, channel);
    }
    return sums.map((sum) => sum / count);
  };
  const means = average((value) => value);
  return { means, variances: average((value, channel) => (value - (means[channel] as number)) ** 2) };
}
