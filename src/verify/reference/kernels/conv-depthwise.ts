import type { Op } from "../../../arch/ops.js";
import type { Shape } from "../../../tensor.js";
import { type Call, dimensions } from "./kernel.js";

/** Nine weights and the bias. */
const TAPS = 10;

/** Elements of scratch memory: the taps, then one input plane with its border of padding. */
export function depthwiseScratch(op: Op<"conv">, [, , height = 1, width = 1]: Shape): number {
  return TAPS + (height + 2 * op.padding[0]) * (width + 2 * op.padding[1]);
}

/** A 3×3 depthwise convolution of stride 1: each plane is copied into its border and correlated with its own kernel. */
export function depthwise3x3(call: Call<"conv">): void {
  const { op, inputs, parameters, output, engine, scratch } = call;
  const { memory } = engine;
  const [input] = inputs;
  const from = dimensions(input);
  const { images, channels, height, width, plane } = dimensions(output);
  const [paddingY, paddingX] = op.padding;
  const bordered = scratch + TAPS;
  const inputStride = from.width + 2 * paddingX;
  memory.fill(0, bordered, scratch + depthwiseScratch(op, input.shape));
  const place = { inputStride, weights: scratch, outputStride: width, height };

  for (let image = 0; image < images; image++)
    for (let channel = 0; channel < channels; channel++) {
      for (let tap = 0; tap < 9; tap++)
        memory[scratch + tap] = parameters.weight[9 * channel + tap] as number;
      memory[scratch + 9] = parameters.bias?.[channel] ?? 0;
      const index = image * channels + channel;
      const interior = bordered + paddingY * inputStride + paddingX;
      copyRows(input.data, index * from.plane, from.width, memory, interior, inputStride, from.height);
      const start = output.data.byteOffset / 8 + index * plane;
      const even = width - (width % 2);
      engine.correlate3x3({ ...place, input: bordered, output: start, width: even });
      // The last column of an odd width is computed with the one before it, once more.
      if (even < width)
        engine.correlate3x3({ ...place, input: bordered + width - 2, output: start + width - 2, width: 2 });
    }
}

function copyRows(
  source: Float64Array,
  sourceStart: number,
  width: number,
  target: Float64Array,
  targetStart: number,
  targetStride: number,
  rows: number,
): void {
  for (let row = 0; row < rows; row++) {
    const from = sourceStart + row * width;
    const to = targetStart + row * targetStride;
    for (let x = 0; x < width; x++) target[to + x] = source[from + x] as number;
  }
}
