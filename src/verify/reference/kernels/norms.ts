import { type Call, dimensions } from "./kernel.js";

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
