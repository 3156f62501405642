import type { RealTensor, Tensor } from "../../tensor.js";
import { type Guess, type Hypothesis, mapped, type Step, withData } from "./hypothesis.js";

/** Guesses at pools of the other kind, and at windows that stand one pixel off. */
export const guessWindow: Guess = (step) => [...pools(step), ...samePadding(step)];

function pools(step: Step): Hypothesis[] {
  const { node, inputs, compute } = step;
  const { op } = node;
  const says = "the maximum is taken where the average is meant";
  const inverse = "the average is taken where the maximum is meant";
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
      cause: "same-padding",
      says: "the border is padded with zeros, which win over negative values",
      output: () => compute({ inputs: inputs.map((input) => mapped(input, (x) => Math.max(x, 0))) }),
    },
    { cause: "pooling", says: inverse, output: () => averaged(step, op, true) },
    { cause: "pooling", says: `${inverse}, borders not counted`, output: () => averaged(step, op, false) },
  ];
}

/** An average pool with symmetric padding, which the architecture has none of. */
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

/**
 * TensorFlow's SAME: at stride 2 on an even size, one pixel less is padded before than after, so that all windows stand
 * one pixel further on. Computed on a larger canvas, of which the outputs before or after are left out.
 */
function samePadding({ node, inputs: [input], shape, compute }: Step): Hypothesis[] {
  const { op } = node;
  if ((op.kind !== "conv" && op.kind !== "maxPool") || !input || op.padding[0] === 0) return [];
  const outside = op.kind === "maxPool" ? Number.NEGATIVE_INFINITY : 0;
  const steps = op.stride[0] === 1 ? 2 : 1;
  const from = (first: number) => (): Tensor<"float64"> => {
    const [images = 1, channels = 1, height = 1, width = 1] = shape;
    const larger = [images, channels, height + steps, width + steps];
    const result = compute({ inputs: [onCanvas(input, outside)], shape: larger });
    return withData(
      shape,
      Float64Array.from({ length: images * channels * height * width }, (_, i) => {
        const row = (Math.floor(i / width) % height) + first;
        const plane = Math.floor(i / (height * width)) * (height + steps);
        return result.data[(plane + row) * (width + steps) + (i % width) + first] as number;
      }),
    );
  };
  return [
    {
      cause: "same-padding",
      says: "the padding is asymmetric, one less before the image and one more after it",
      output: from(steps),
    },
    {
      cause: "same-padding",
      says: "the padding is asymmetric, one more before the image and one less after it",
      output: from(0),
    },
  ];
}

/** An image with a border of one pixel. */
function onCanvas({ shape, data }: RealTensor, outside: number): RealTensor {
  const [images = 1, channels = 1, height = 1, width = 1] = shape;
  const canvas = new Float64Array(images * channels * (height + 2) * (width + 2)).fill(outside);
  for (let row = 0; row < images * channels * height; row++) {
    const plane = Math.floor(row / height);
    const at = (plane * (height + 2) + (row % height) + 1) * (width + 2) + 1;
    canvas.set(data.subarray(row * width, (row + 1) * width), at);
  }
  return withData([images, channels, height + 2, width + 2], canvas);
}
