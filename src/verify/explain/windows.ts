import { filled } from "../../core/functions.js";
import type { RealTensor, Tensor } from "../../core/tensor.js";
import { type Evidence, type Guess, type Hypothesis, type Step, trialOf, withData } from "./hypothesis.js";

/** Hypotheses about pools of the other kind, and windows that are shifted by one pixel. */
export const guessWindow: Guess = (step, evidence) => [
  ...pools(step),
  ...generalizedMean(step, evidence),
  ...samePadding(step, evidence),
];

/** GeM clamps values to at least this before it raises them to a power. */
const GEM_LEAST = 1e-6;

/** The interval of powers searched, and the number of bisections. */
const GEM_POWERS = [1, 64] as const;
const HALVINGS = 48;

/**
 * (E[x^p])^(1/p) instead of the mean, with the p fitted to the plane of the largest difference: the result grows with
 * p.
 */
function generalizedMean(
  { node, inputs: [input], shape, compute }: Step,
  { actual }: Evidence,
): Hypothesis[] {
  if (node.op.kind !== "globalAvgPool" && node.op.kind !== "globalMaxPool") return [];
  if (!input || actual.data.length < MIN_PLANES) return [];
  const size = input.data.length / actual.data.length;
  const mean = (plane: number, power: number): number => {
    const values = input.data.subarray(plane * size, (plane + 1) * size);
    // Relative to the largest value, so that powers do not overflow.
    let largest = GEM_LEAST;
    for (const x of values) largest = Math.max(largest, x);
    let sum = 0;
    for (const x of values) sum += (Math.max(x, GEM_LEAST) / largest) ** power;
    return largest * (sum / size) ** (1 / power);
  };
  const own = compute();
  const farthest = own.data.reduce(
    (best, value, i) =>
      Math.abs((actual.data[i] as number) - value) >
      Math.abs((actual.data[best] as number) - (own.data[best] as number))
        ? i
        : best,
    0,
  );
  const wanted = actual.data[farthest] as number;
  let [low, high] = GEM_POWERS as readonly [number, number];
  if (!(wanted > mean(farthest, low) && wanted < mean(farthest, high))) return [];
  for (let i = 0; i < HALVINGS; i++) {
    const middle = (low + high) / 2;
    if (mean(farthest, middle) < wanted) low = middle;
    else high = middle;
  }
  const power = Number(low.toPrecision(5));
  return [
    {
      cause: "pooling",
      says: `a generalised mean (GeM) of power ${power} is taken`,
      output: () =>
        withData(
          shape,
          own.data.map((_, plane) => mean(plane, power)),
        ),
      rounding: (i) => GEM_ROUNDINGS * Math.abs(actual.data[i] as number),
    },
  ];
}

/** Minimum number of planes to fit a power to: one would fit anything. */
const MIN_PLANES = 4;

/** Rounding error of two powers in float32. */
const GEM_ROUNDINGS = 64 * 2 ** -24;

function pools(step: Step): Hypothesis[] {
  const { node, inputs, compute } = step;
  const { op } = node;
  const says = "the maximum is taken instead of the average";
  const inverse = "the average is taken instead of the maximum";
  if (op.kind === "globalAvgPool")
    return [
      { cause: "pooling", says, output: () => compute({ node: { ...node, op: { kind: "globalMaxPool" } } }) },
    ];
  if (op.kind === "globalMaxPool")
    return [
      {
        cause: "pooling",
        says: inverse,
        output: () => compute({ node: { ...node, op: { kind: "globalAvgPool" } } }),
      },
    ];
  if (op.kind === "avgPool")
    return [
      {
        cause: "pooling",
        says,
        output: () => compute({ node: { ...node, op: { ...op, kind: "maxPool", padding: [0, 0] } } }),
      },
    ];
  if (op.kind !== "maxPool") return [];
  return [
    {
      cause: "zero-padding",
      says: "the border is padded with zeros, which exceed negative values",
      output: () =>
        compute({
          node: { ...node, op: { ...op, padding: [0, 0] } },
          inputs: inputs.map((input) => onCanvas(input, op.padding, 0)),
        }),
    },
    { cause: "pooling", says: inverse, output: () => averaged(step, op, true) },
    {
      cause: "pooling",
      says: `${inverse}, not counting the border`,
      output: () => averaged(step, op, false),
    },
  ];
}

/** An average pool with symmetric padding, which the architecture never has. */
function averaged(
  { inputs: [input], shape }: Step,
  op: {
    readonly kernel: readonly [number, number];
    readonly stride: readonly [number, number];
    readonly padding: readonly [number, number];
  },
  countBorder: boolean,
): ReturnType<Hypothesis["output"]> {
  if (!input) return undefined;
  const [, , height = 1, width = 1] = input.shape;
  const [images = 1, channels = 1, rows = 1, columns = 1] = shape;
  const result = new Float64Array(images * channels * rows * columns);
  let k = 0;
  for (let plane = 0; plane < images * channels; plane++)
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) {
        let [sum, count] = [0, 0];
        for (let i = 0; i < op.kernel[0]; i++)
          for (let j = 0; j < op.kernel[1]; j++) {
            const row = y * op.stride[0] - op.padding[0] + i;
            const column = x * op.stride[1] - op.padding[1] + j;
            const inside = row >= 0 && row < height && column >= 0 && column < width;
            if (inside) sum += input.data[(plane * height + row) * width + column] as number;
            if (inside || countBorder) count++;
          }
        result[k++] = sum / count;
      }
  return withData(shape, result);
}

/** The shift of all windows along one axis. */
type Shift = "after" | "before" | "none";

const SHIFTS: readonly (readonly [rows: Shift, columns: Shift, says: string])[] = [
  ["after", "after", "one less before the image and one more after it"],
  ["before", "before", "one more before the image and one less after it"],
  ["after", "none", "one less above the image and one more below it"],
  ["before", "none", "one more above the image and one less below it"],
  ["none", "after", "one less to the left of the image and one more to the right"],
  ["none", "before", "one more to the left of the image and one less to the right"],
];

/**
 * TensorFlow's SAME: at stride 2 on an even size, one pixel less is padded before than after, so that all windows are
 * shifted by one pixel. Computed on a larger canvas, whose outputs before or after are dropped.
 */
function samePadding(step: Step, evidence: Evidence): Hypothesis[] {
  const { node, inputs, shape, compute } = step;
  const [input] = inputs;
  const { op } = node;
  if ((op.kind !== "conv" && op.kind !== "maxPool") || !input || op.padding[0] === 0) return [];
  const trial = trialOf(step, evidence);
  const pixels = (shift: Shift): number => (shift === "after" ? 1 : shift === "before" ? -1 : 0);
  const outside = op.kind === "maxPool" ? Number.NEGATIVE_INFINITY : 0;
  const steps = op.stride[0] === 1 ? 2 : 1;
  const [images = 1, channels = 1, height = 1, width = 1] = shape;
  const firstOf = (shift: Shift): number => (shift === "after" ? steps : 0);
  const shifted = (rows: Shift, columns: Shift) => (): Tensor<"float64"> => {
    const [top, left] = [rows === "none" ? 0 : 1, columns === "none" ? 0 : 1];
    const [high, wide] = [height + top * steps, width + left * steps];
    const larger = [images, channels, high, wide];
    const result = compute({ inputs: [onCanvas(input, [top, left], outside)], shape: larger });
    return withData(
      shape,
      filled(new Float64Array(images * channels * height * width), (i) => {
        const row = (Math.floor(i / width) % height) + firstOf(rows);
        const plane = Math.floor(i / (height * width)) * high;
        return result.data[(plane + row) * wide + (i % width) + firstOf(columns)] as number;
      }),
    );
  };
  return SHIFTS.map(([rows, columns, says]) => ({
    cause: "same-padding",
    says: `its windows are where asymmetric padding puts them, ${says}`,
    plausible: () => trial({ shift: [pixels(rows), pixels(columns)] }),
    output: shifted(rows, columns),
  }));
}

/** An image with a border of so many pixels above and below, and at both sides. */
function onCanvas(
  { shape, data }: RealTensor,
  [top, left]: readonly [number, number],
  outside: number,
): RealTensor {
  const [images = 1, channels = 1, height = 1, width = 1] = shape;
  const [high, wide] = [height + 2 * top, width + 2 * left];
  const canvas = new Float64Array(images * channels * high * wide).fill(outside);
  for (let row = 0; row < images * channels * height; row++) {
    const plane = Math.floor(row / height);
    const at = (plane * high + (row % height) + top) * wide + left;
    canvas.set(data.subarray(row * width, (row + 1) * width), at);
  }
  return withData([images, channels, high, wide], canvas);
}
