import { wholeOf } from "./elements.js";
import { type Call, dimensions } from "./kernel.js";

/** The kernels of all operations but convolutions and linear layers, each straight from its definition. */

/** The sum of two or more tensors of one shape, from left to right: `x1 + x2 + x3 + x4` of a block's streams. */
export function add({ inputs: [first, second, ...rest], output, engine }: Call<"add">): void {
  const sum = output.data;
  const run = wholeOf(sum);
  engine.add(first.data, second.data, sum, run);
  for (const { data } of rest) engine.add(sum, data, sum, run);
}

/** `torch.flatten` and the network's input: the same elements in the same order, in any shape. */
export function copy({ inputs: [input], output }: Call<"input" | "flatten">): void {
  output.data.set(input.data);
}

/** torch.nn.ReLU: max(x, 0). NaN stays NaN. */
export function relu({ inputs: [input], output, engine }: Call<"relu">): void {
  engine.rectify(input.data, output.data, wholeOf(output.data));
}

/** A stream [N, C, H, W] times its gate [N, C, 1, 1]: each channel of each image by one number. */
export function scale({ inputs: [stream, gate], output, engine }: Call<"scale">): void {
  const { plane } = dimensions(stream);
  for (let channel = 0; channel < gate.data.length; channel++) {
    const run = { start: channel * plane, count: plane };
    engine.scale(stream.data, output.data, run, gate.data[channel] as number);
  }
}

/** torch.nn.Sigmoid: 1 / (1 + e⁻ˣ). Where e⁻ˣ overflows to infinity the quotient is the correct limit, 0. */
export function sigmoid({ inputs: [input], output }: Call<"sigmoid">): void {
  const source = input.data;
  const target = output.data;
  for (let i = 0; i < target.length; i++) target[i] = 1 / (1 + Math.exp(-(source[i] as number)));
}

/** Mean and biased variance (divided by n, not n − 1). */
interface Moments {
  readonly mean: number;
  readonly variance: number;
}

/**
 * The moments of `values[start … end)`, in two passes: the variance is the mean of squared deviations, which does not
 * cancel as E[x²] − E[x]² does.
 */
function moments(values: Float64Array, start: number, end: number): Moments {
  let sum = 0;
  for (let i = start; i < end; i++) sum += values[i] as number;
  const mean = sum / (end - start);
  let squares = 0;
  for (let i = start; i < end; i++) squares += ((values[i] as number) - mean) ** 2;
  return { mean, variance: squares / (end - start) };
}

/**
 * torch.nn.BatchNorm1d and BatchNorm2d in evaluation mode, over NC or NCHW:
 * `(x − runningMean) · weight / √(runningVar + ε) + bias`, channel by channel.
 */
export function batchNorm({ op, inputs: [input], parameters, output, engine }: Call<"batchNorm">): void {
  const { weight, bias, runningMean, runningVar } = parameters;
  const { images, channels, plane } = dimensions(input);
  for (let image = 0; image < images; image++)
    for (let channel = 0; channel < channels; channel++) {
      const mean = runningMean[channel] as number;
      const factor = (weight[channel] as number) / Math.sqrt((runningVar[channel] as number) + op.epsilon);
      const shift = bias[channel] as number;
      const run = { start: (image * channels + channel) * plane, count: plane };
      engine.affine(input.data, output.data, run, mean, factor, shift);
    }
}

/**
 * torch.nn.InstanceNorm2d(affine=True): `(x − mean) · weight / √(variance + ε) + bias`, with the mean and biased
 * variance of each channel of each image over its H×W pixels.
 */
export function instanceNorm({
  op,
  inputs: [input],
  parameters,
  output,
  engine,
}: Call<"instanceNorm">): void {
  const { images, channels, plane } = dimensions(input);
  for (let image = 0; image < images; image++)
    for (let channel = 0; channel < channels; channel++) {
      const start = (image * channels + channel) * plane;
      const { mean, variance } = moments(input.data, start, start + plane);
      const factor = (parameters.weight[channel] as number) / Math.sqrt(variance + op.epsilon);
      const shift = parameters.bias[channel] as number;
      engine.affine(input.data, output.data, { start, count: plane }, mean, factor, shift);
    }
}

/**
 * torch.nn.LayerNorm((C, 1, 1)) over [N, C, 1, 1]: `(x − mean) / √(variance + ε) · weight + bias`, with the mean and
 * biased variance of each image over all its channels; weight and bias are one number to a channel.
 */
export function layerNorm({ op, inputs: [input], parameters, output }: Call<"layerNorm">): void {
  const { images, channels, plane } = dimensions(input);
  const source = input.data;
  const target = output.data;
  const size = channels * plane;
  for (let image = 0; image < images; image++) {
    const { mean, variance } = moments(source, image * size, (image + 1) * size);
    const deviation = Math.sqrt(variance + op.epsilon);
    for (let channel = 0; channel < channels; channel++) {
      const factor = (parameters.weight[channel] as number) / deviation;
      const shift = parameters.bias[channel] as number;
      const start = image * size + channel * plane;
      for (let i = start; i < start + plane; i++) target[i] = ((source[i] as number) - mean) * factor + shift;
    }
  }
}

/** torch.nn.MaxPool2d, symmetric padding: only pixels count, so padding is never the maximum. */
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
