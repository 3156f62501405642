import type { Op } from "../../arch/index.js";
import type { RealTensor } from "../../core/tensor.js";
import { castFloat, toReal } from "../../core/tensor-cast.js";
import { errorAt } from "../bounds/bound.js";
import type { ParameterSource } from "../reference/evaluate-layer.js";
import { type Evidence, type Guess, type Hypothesis, mapped, type Step } from "./hypothesis.js";

/** Maximum number of weights of an output channel: the memory of the equations grows with its square. */
const MAX_WEIGHTS = 256;

/** Minimum number of equations for each unknown: fewer would fit anything. */
const MIN_EQUATIONS = 4;

/** Maximum number of wrong output channels, if single weights are wrong: more have another cause. */
const MAX_CHANNELS = 4;

/** One wrong weight in an output channel: the channel's error is then a multiple of that weight's input. */
export const guessSingleWeight: Guess = (step, { actual, recomputed, group }) => {
  const { op } = step.node;
  const [input] = step.inputs;
  if (op.kind !== "conv" || !input || group.nodes.length !== 1) return [];
  const [images = 1, channels = 1, height = 1, width = 1] = step.shape;
  const plane = height * width;
  if (images * plane < MIN_EQUATIONS) return [];
  const own = step.compute();
  const off = wrongChannels(own, actual, recomputed);
  if (off.size === 0 || off.size > MAX_CHANNELS) return [];
  const found: string[] = [];
  for (const channel of off) {
    const rows = patches(op, input, Math.floor(channel / (channels / op.groups)), step.shape);
    const at = (row: number): number =>
      Math.floor(row / plane) * channels * plane + channel * plane + (row % plane);
    const errors = rows.map((_, row) => (actual.data[at(row)] as number) - (own.data[at(row)] as number));
    const { tap, factor } = nearestTap(rows, errors);
    if (tap < 0) return [];
    for (const [row, values] of rows.entries())
      own.data[at(row)] = (own.data[at(row)] as number) + factor * (values[tap] as number);
    found.push(`[${[channel, ...position(tap, op.kernel)].join(", ")}] by ${factor.toPrecision(3)}`);
  }
  return [
    { cause: "weights-other", says: `single weights are wrong: ${found.join("; ")}`, output: () => own },
  ];
};

/** The input that fits the errors best, up to a factor. */
function nearestTap(
  rows: readonly Float64Array[],
  errors: readonly number[],
): { readonly tap: number; readonly factor: number } {
  let best = { tap: -1, factor: 0, explained: 0 };
  for (let tap = 0; tap < (rows[0]?.length ?? 1) - 1; tap++) {
    let [dot, squares] = [0, 0];
    for (const [row, values] of rows.entries()) {
      const x = values[tap] as number;
      dot += x * (errors[row] as number);
      squares += x * x;
    }
    if (squares > 0 && (dot * dot) / squares > best.explained)
      best = { tap, factor: dot / squares, explained: (dot * dot) / squares };
  }
  return best;
}

function position(tap: number, [height, width]: readonly [number, number]): readonly number[] {
  return [Math.floor(tap / (height * width)), Math.floor(tap / width) % height, tap % width];
}

/**
 * Weights by least squares from the candidate's values: if some weights explain all values, the operation is right,
 * and only its weights differ.
 */
export const guessFit: Guess = (step, { actual, group }) => {
  const { op } = step.node;
  const [input] = step.inputs;
  if (op.kind !== "conv" || !input || group.nodes.length !== 1) return [];
  const unknowns = (op.inChannels / op.groups) * op.kernel[0] * op.kernel[1] + 1;
  const [images = 1, , height = 1, width = 1] = step.shape;
  const equations = images * height * width;
  if (unknowns > MAX_WEIGHTS || equations < MIN_EQUATIONS * unknowns) return [];
  return [
    {
      cause: "weights-other",
      says: "the operation is right, but its weights are not the checkpoint's",
      output: () => fitted(step, op, input, actual),
      work: unknowns,
    },
  ];
};

/** The combination of inputs that is closest to each of the candidate's output channels. */
function fitted(
  step: Step,
  op: Op<"conv">,
  input: RealTensor,
  actual: RealTensor,
): ReturnType<typeof mapped> {
  const [, channels = 1, height = 1, width = 1] = step.shape;
  const plane = height * width;
  const result = mapped(actual, () => 0);
  for (let group = 0; group < op.groups; group++) {
    const rows = patches(op, input, group, step.shape);
    const size = rows[0]?.length ?? 0;
    const normal = factor(normalMatrix(rows, size), size);
    const perGroup = channels / op.groups;
    for (let o = group * perGroup; o < (group + 1) * perGroup; o++) {
      const at = (row: number): number =>
        Math.floor(row / plane) * channels * plane + o * plane + (row % plane);
      const right = new Float64Array(size);
      for (const [row, values] of rows.entries()) {
        const y = actual.data[at(row)] as number;
        for (let k = 0; k < size; k++) right[k] = (right[k] as number) + (values[k] as number) * y;
      }
      const weights = solve(normal, right, size);
      for (const [row, values] of rows.entries()) {
        let sum = 0;
        for (let k = 0; k < size; k++) sum += (weights[k] as number) * (values[k] as number);
        result.data[at(row)] = sum;
      }
    }
  }
  return result;
}

/** The inputs of each output pixel's sum, and a 1 for the bias. */
function patches(
  op: Op<"conv">,
  input: RealTensor,
  group: number,
  output: readonly number[],
): Float64Array[] {
  const [images = 1, channels = 1, height = 1, width = 1] = input.shape;
  const [, , rows = 1, columns = 1] = output;
  const perGroup = op.inChannels / op.groups;
  const result: Float64Array[] = [];
  for (let image = 0; image < images; image++)
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) {
        const values = new Float64Array(perGroup * op.kernel[0] * op.kernel[1] + 1);
        let k = 0;
        for (let c = 0; c < perGroup; c++)
          for (let i = 0; i < op.kernel[0]; i++)
            for (let j = 0; j < op.kernel[1]; j++, k++) {
              const row = y * op.stride[0] - op.padding[0] + i;
              const column = x * op.stride[1] - op.padding[1] + j;
              if (row < 0 || column < 0 || row >= height || column >= width) continue;
              const channel = image * channels + group * perGroup + c;
              values[k] = input.data[(channel * height + row) * width + column] as number;
            }
        values[k] = 1;
        result.push(values);
      }
  return result;
}

/** XᵀX with a slightly larger diagonal, since inputs that are always 0 leave their weights undetermined. */
function normalMatrix(rows: readonly Float64Array[], size: number): Float64Array {
  const matrix = new Float64Array(size * size);
  for (const values of rows)
    for (let i = 0; i < size; i++) {
      const x = values[i] as number;
      if (x === 0) continue;
      for (let j = 0; j <= i; j++)
        matrix[i * size + j] = (matrix[i * size + j] as number) + x * (values[j] as number);
    }
  let largest = 0;
  for (let i = 0; i < size; i++) largest = Math.max(largest, matrix[i * size + i] as number);
  for (let i = 0; i < size; i++) matrix[i * size + i] = (matrix[i * size + i] as number) + 1e-13 * largest;
  return matrix;
}

/** Cholesky's lower factor, in place. */
function factor(matrix: Float64Array, size: number): Float64Array {
  for (let i = 0; i < size; i++)
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * size + j] as number;
      for (let k = 0; k < j; k++) sum -= (matrix[i * size + k] as number) * (matrix[j * size + k] as number);
      matrix[i * size + j] =
        i === j ? Math.sqrt(Math.max(sum, Number.MIN_VALUE)) : sum / (matrix[j * size + j] as number);
    }
  return matrix;
}

function solve(lower: Float64Array, right: Float64Array, size: number): Float64Array {
  const x = right.slice();
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < i; k++) x[i] = (x[i] as number) - (lower[i * size + k] as number) * (x[k] as number);
    x[i] = (x[i] as number) / (lower[i * size + i] as number);
  }
  for (let i = size - 1; i >= 0; i--) {
    for (let k = i + 1; k < size; k++)
      x[i] = (x[i] as number) - (lower[k * size + i] as number) * (x[k] as number);
    x[i] = (x[i] as number) / (lower[i * size + i] as number);
  }
  return x;
}

/** Hypotheses fitted to the values, if no particular one is confirmed. */
export const guessResidue: Guess = (step, evidence) => {
  const last = evidence.group.nodes.at(-1);
  return last?.name === step.node.name ? [...scaled(step, evidence), ...constants(step, evidence)] : [];
};

/** If no weights fit either, all values may be in another precision. */
export const guessPrecision: Guess = (step, evidence) =>
  evidence.group.nodes.at(-1)?.name === step.node.name ? precisions(step, evidence) : [];

/** Each channel is off by one number: a bias. */
function constants(step: Step, { actual }: Evidence): Hypothesis[] {
  if (!("parameters" in step.node) || Object.keys(step.node.parameters).length === 0) return [];
  const own = step.compute();
  const [images = 1, channels = 1] = own.shape;
  const plane = own.data.length / images / channels;
  // With a single value per channel, any error is a constant.
  if (images * plane < 2) return [];
  const channel = channelOf(own);
  const shifts = new Float64Array(channels);
  for (let i = 0; i < own.data.length; i++)
    shifts[channel(i)] =
      (shifts[channel(i)] as number) + (actual.data[i] as number) - (own.data[i] as number);
  for (let c = 0; c < channels; c++) shifts[c] = (shifts[c] as number) / (images * plane);
  const worst = shifts.reduce(
    (best, shift, c) => (Math.abs(shift) > Math.abs(shifts[best] as number) ? c : best),
    0,
  );
  return [
    {
      cause: "bias",
      says: `its bias differs: by ${(shifts[worst] as number).toPrecision(3)} in channel ${worst}, in others by less or not at all`,
      output: () => mapped(step.compute(), (y, i) => y + (shifts[channel(i)] as number)),
    },
  ];
}

/** All values are multiplied by one factor. */
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

/**
 * Minimum share of values that a narrower type represents exactly, if all were rounded to it: by chance, one in
 * thousands is.
 */
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

/**
 * Minimum number of values for each of the two numbers that are fitted to a channel: fewer would fit anything.
 */
const MIN_VALUES = 8;

/** Maximum relative spread of factors that count as one number. */
const ONE_FACTOR = 1e-2;

/** Norms with other parameters: each channel's values are a multiple of the correct ones, plus a constant. */
export const guessChannels: Guess = (step, { actual, group, parameters }) => {
  const { node } = step;
  const isNorm = node.op.kind === "batchNorm" || node.op.kind === "instanceNorm";
  if (group.nodes.at(-1)?.name !== node.name || !(isNorm || node.foldedBatchNorm)) return [];
  const own = step.compute();
  const channel = channelOf(own);
  const [images = 1, channels = 1] = own.shape;
  if (own.data.length / channels < 2 * MIN_VALUES || images < 1) return [];
  const fit = fittedByChannel(own, actual, channel, channels);
  return [
    ...corrected(step, fit, parameters),
    {
      cause: "weights-other",
      says: "each channel is scaled and shifted: the norm's parameters are not the checkpoint's",
      output: () =>
        mapped(own, (y, i) => (fit.factors[channel(i)] as number) * y + (fit.shifts[channel(i)] as number)),
    },
  ];
};

interface Fit {
  readonly factors: Float64Array;
  readonly shifts: Float64Array;
}

/** Least squares of a·own + b to a candidate's values, channel by channel. */
function fittedByChannel(
  own: RealTensor,
  actual: RealTensor,
  channel: (index: number) => number,
  channels: number,
): Fit {
  const count = own.data.length / channels;
  const [x, y] = [new Float64Array(channels), new Float64Array(channels)];
  for (let i = 0; i < own.data.length; i++) {
    const c = channel(i);
    x[c] = (x[c] as number) + (own.data[i] as number) / count;
    y[c] = (y[c] as number) + (actual.data[i] as number) / count;
  }
  const [xx, xy] = [new Float64Array(channels), new Float64Array(channels)];
  for (let i = 0; i < own.data.length; i++) {
    const c = channel(i);
    const dx = (own.data[i] as number) - (x[c] as number);
    xx[c] = (xx[c] as number) + dx * dx;
    xy[c] = (xy[c] as number) + dx * ((actual.data[i] as number) - (y[c] as number));
  }
  const factors = xy.map((value, c) => ((xx[c] as number) > 0 ? value / (xx[c] as number) : 1));
  return { factors, shifts: y.map((mean, c) => mean - (factors[c] as number) * (x[c] as number)) };
}

/**
 * All running variances are n/(n − 1) times the checkpoint's: Bessel's correction was applied twice, since PyTorch
 * stores corrected ones.
 */
function corrected({ node, compute }: Step, { factors }: Fit, parameters: ParameterSource): Hypothesis[] {
  const norm = node.foldedBatchNorm ?? (node.op.kind === "batchNorm" ? node : undefined);
  const path = norm?.parameters.runningVar;
  const epsilon = node.foldedBatchNorm?.epsilon ?? ("epsilon" in node.op ? node.op.epsilon : 0);
  if (path === undefined) return [];
  const variances = parameters(path);
  const ratios = factors.map((a, c) => {
    const variance = variances[c] as number;
    return ((variance + epsilon) / a ** 2 - epsilon) / variance;
  });
  const ratio = ratios.toSorted()[Math.floor(ratios.length / 2)] ?? 1;
  const count = ratio / (ratio - 1);
  const spread = ratios.filter((r) => Math.abs(r - ratio) > ONE_FACTOR * Math.abs(ratio - 1) + 1e-6).length;
  if (!(count >= 2 && count < 1e6) || spread > ratios.length / 4) return [];
  return [
    {
      cause: "unbiased-variance",
      says: `the running variances are ${ratio.toPrecision(6)} times the checkpoint's, n/(n − 1) with n = ${Math.round(count)}`,
      output: () =>
        compute({
          parameters: (wanted) =>
            wanted === path ? parameters(wanted).map((value) => value * ratio) : parameters(wanted),
        }),
    },
  ];
}

/** Maximum share of wrong channels, if only some channels are wrong. */
const FEW = 0.25;

/** Some channels are wrong and all others are right: only weights are specific to a channel. */
export const guessFewChannels: Guess = (step, { actual, recomputed, group }) => {
  const { kind } = step.node.op;
  if (group.nodes.length !== 1) return [];
  if (kind !== "conv" && kind !== "linear" && kind !== "batchNorm" && kind !== "instanceNorm") return [];
  const own = step.compute();
  const channel = channelOf(own);
  const off = wrongChannels(own, actual, recomputed);
  const [, channels = 1] = own.shape;
  if (off.size === 0 || off.size > Math.max(1, FEW * channels) || channels < 2) return [];
  const named = [...off].slice(0, 4).join(", ");
  return [
    {
      cause: "weights-other",
      says: `only ${off.size === 1 ? "channel" : "channels"} ${named}${off.size > 4 ? " …" : ""} of ${channels} ${off.size === 1 ? "is" : "are"} wrong: other weights are used there`,
      output: () => mapped(own, (y, i) => (off.has(channel(i)) ? (actual.data[i] as number) : y)),
    },
  ];
};

/** The channels with a value that is off by more than its bound. */
function wrongChannels(
  own: RealTensor,
  actual: RealTensor,
  { bound }: Evidence["recomputed"],
): ReadonlySet<number> {
  const channel = channelOf(own);
  const off = new Set<number>();
  for (let i = 0; i < own.data.length; i++)
    if (Math.abs((actual.data[i] as number) - (own.data[i] as number)) > errorAt(bound.elements, i))
      off.add(channel(i));
  return off;
}

function channelOf({ shape, data }: RealTensor): (index: number) => number {
  const [images = 1, channels = 1] = shape;
  const plane = data.length / images / channels;
  return (index) => Math.floor(index / plane) % channels;
}
