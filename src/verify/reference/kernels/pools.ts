import { type Call, dimensions } from "./kernel.js";

/** torch.nn.MaxPool2d, padding symmetric: only pixels count, so that padding never wins over negative ones. */
export function maxPool({ op, inputs: [input], output }: Call<"maxPool">): void {
  const { height, width } = dimensions(input);
  const [strideY, strideX] = op.stride;
  const [paddingY, paddingX] = op.padding;
  const [kernelY, kernelX] = op.kernel;
  const source = input.data;
  const target = output.data;
  const to = dimensions(output);
  let at = 0;
  for (let plane = 0; plane < source.length; plane += height * width)
    for (let y = 0; y < to.height; y++)
      for (let x = 0; x < to.width; x++) {
        const top = y * strideY - paddingY;
        const left = x * strideX - paddingX;
        const bottom = Math.min(top + kernelY, height);
        const right = Math.min(left + kernelX, width);
        let result = Number.NEGATIVE_INFINITY;
        for (let row = Math.max(top, 0); row < bottom; row++)
          for (let column = Math.max(left, 0); column < right; column++)
            result = Math.max(result, source[plane + row * width + column] as number);
        target[at++] = result;
      }
}

/** torch.nn.AvgPool2d without padding: the mean of each whole window. */
export function avgPool({ op, inputs: [input], output }: Call<"avgPool">): void {
  const { width, plane: inputPlane } = dimensions(input);
  const [strideY, strideX] = op.stride;
  const [kernelY, kernelX] = op.kernel;
  const source = input.data;
  const target = output.data;
  const to = dimensions(output);
  let at = 0;
  for (let plane = 0; plane < source.length; plane += inputPlane)
    for (let y = 0; y < to.height; y++)
      for (let x = 0; x < to.width; x++) {
        let sum = 0;
        for (let row = y * strideY; row < y * strideY + kernelY; row++)
          for (let column = x * strideX; column < x * strideX + kernelX; column++)
            sum += source[plane + row * width + column] as number;
        target[at++] = sum / (kernelY * kernelX);
      }
}

/** torch.nn.AdaptiveAvgPool2d(1): the mean of each channel of each image, [N, C, H, W] to [N, C, 1, 1]. */
export function globalAvgPool({ inputs: [input], output }: Call<"globalAvgPool">): void {
  const { plane } = dimensions(input);
  const source = input.data;
  for (let channel = 0; channel < output.data.length; channel++) {
    let sum = 0;
    for (let i = channel * plane; i < (channel + 1) * plane; i++) sum += source[i] as number;
    output.data[channel] = sum / plane;
  }
}

/** torch.nn.AdaptiveMaxPool2d(1): the maximum of each channel of each image. NaN wins. */
export function globalMaxPool({ inputs: [input], output }: Call<"globalMaxPool">): void {
  const { plane } = dimensions(input);
  const source = input.data;
  for (let channel = 0; channel < output.data.length; channel++) {
    let result = Number.NEGATIVE_INFINITY;
    for (let i = channel * plane; i < (channel + 1) * plane; i++)
      result = Math.max(result, source[i] as number);
    output.data[channel] = result;
  }
}
