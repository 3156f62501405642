import { type Call, dimensions, type Operand } from "./kernel.js";

/** torch.nn.MaxPool2d, padding symmetric: only pixels count, so that padding never wins over negative ones. */
export function maxPool({ op, inputs: [input], output }: Call<"maxPool">): void {
  const { height, width } = dimensions(input);
  const [strideY, strideX] = op.stride;
  const [paddingY, paddingX] = op.padding;
  const [kernelY, kernelX] = op.kernel;
  const source = input.data;
  forEachWindow(input, output, (plane, y, x) => {
    const top = y * strideY - paddingY;
    const left = x * strideX - paddingX;
    const bottom = Math.min(top + kernelY, height);
    const right = Math.min(left + kernelX, width);
    let result = Number.NEGATIVE_INFINITY;
    for (let row = Math.max(top, 0); row < bottom; row++)
      for (let column = Math.max(left, 0); column < right; column++)
        result = Math.max(result, source[plane + row * width + column] as number);
    return result;
  });
}

/** torch.nn.AvgPool2d without padding: the mean of each whole window. */
export function avgPool({ op, inputs: [input], output }: Call<"avgPool">): void {
  const { width } = dimensions(input);
  const [strideY, strideX] = op.stride;
  const [kernelY, kernelX] = op.kernel;
  const source = input.data;
  forEachWindow(input, output, (plane, y, x) => {
    let sum = 0;
    for (let row = y * strideY; row < y * strideY + kernelY; row++)
      for (let column = x * strideX; column < x * strideX + kernelX; column++)
        sum += source[plane + row * width + column] as number;
    return sum / (kernelY * kernelX);
  });
}

/** Fills every output pixel (y, x) from the input plane, which starts at `plane`, of the same channel and image. */
function forEachWindow(
  input: Operand,
  output: Operand,
  reduce: (plane: number, y: number, x: number) => number,
): void {
  const { plane: inputPlane } = dimensions(input);
  const { images, channels, height, width } = dimensions(output);
  let at = 0;
  for (let channel = 0; channel < images * channels; channel++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) output.data[at++] = reduce(channel * inputPlane, y, x);
}

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
