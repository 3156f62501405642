import type { Op } from "../../../arch/ops.js";
import type { Shape } from "../../../tensor.js";
import { borderedPlanes, borderedSize, fillPlanes } from "./bordered-planes.js";
import { type Call, dimensions } from "./kernel.js";

/** Nine weights and the bias. */
const TAPS = 10;

/** Elements of scratch memory: the taps, then one input plane with its border. */
export function depthwiseScratch(op: Op<"conv">, input: Shape): number {
  return TAPS + borderedSize(op, input);
}

/** A 3×3 depthwise convolution of stride 1: each plane is copied into its border and correlated with its own kernel. */
export function depthwise3x3({ op, inputs, parameters, output, engine, scratch }: Call<"conv">): void {
  const { memory } = engine;
  const { images, channels, height, width, plane } = dimensions(output);
  const bordered = borderedPlanes(op, inputs[0], 1, memory, scratch + TAPS);
  const place = { inputStride: bordered.rowStride, weights: scratch, outputStride: width, height };
  const outputStart = output.data.byteOffset / 8;
  const even = width - (width % 2);

  for (let index = 0; index < images * channels; index++) {
    const channel = index % channels;
    memory.set(parameters.weight.subarray(9 * channel, 9 * channel + 9), scratch);
    memory[scratch + 9] = parameters.bias?.[channel] ?? 0;
    fillPlanes(op, inputs[0], index, 1, bordered);
    const start = outputStart + index * plane;
    engine.correlate3x3({ ...place, input: bordered.start, output: start, width: even });
    // The last column of an odd width is computed with the one before it, once more.
    const last = width - 2;
    if (even < width)
      engine.correlate3x3({ ...place, input: bordered.start + last, output: start + last, width: 2 });
  }
}
