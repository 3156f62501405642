import { type Call, dimensions } from "./kernel.js";

/** torch.nn.AdaptiveAvgPool2d(1): the mean of each channel of each image, [N, C, H, W] to [N, C, 1, 1]. */
export function globalAvgPool({ inputs: [input], output }: Call<"globalAvgPool">): void {
  const { plane } = dimensions(input);
  reducePlanes(input.data, output.data, plane, 0, (sum, value) => sum + value);
  for (let i = 0; i < output.data.length; i++) output.data[i] = (output.data[i] as number) / plane;
}

/** torch.nn.AdaptiveMaxPool2d(1): the maximum of each channel of each image. NaN wins. */
export function globalMaxPool({ inputs: [input], output }: Call<"globalMaxPool">): void {
  reducePlanes(input.data, output.data, dimensions(input).plane, Number.NEGATIVE_INFINITY, Math.max);
}

function reducePlanes(
  source: Float64Array,
  target: Float64Array,
  plane: number,
  initial: number,
  combine: (result: number, value: number) => number,
): void {
  for (let channel = 0; channel < target.length; channel++) {
    let result = initial;
    const end = (channel + 1) * plane;
    for (let i = channel * plane; i < end; i++) result = combine(result, source[i] as number);
    target[channel] = result;
  }
}
