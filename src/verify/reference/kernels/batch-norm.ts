import { type Call, dimensions } from "./kernel.js";

/**
 * torch.nn.BatchNorm1d and BatchNorm2d in evaluation mode, over NC or NCHW:
 * `(x − runningMean) · weight / √(runningVar + ε) + bias`, channel by channel.
 */
export function batchNorm({ op, inputs: [input], parameters, output }: Call<"batchNorm">): void {
  const { weight, bias, runningMean, runningVar } = parameters;
  const { images, channels, plane } = dimensions(input);
  const source = input.data;
  const target = output.data;
  for (let image = 0; image < images; image++)
    for (let channel = 0; channel < channels; channel++) {
      const mean = runningMean[channel] as number;
      const factor = (weight[channel] as number) / Math.sqrt((runningVar[channel] as number) + op.epsilon);
      const shift = bias[channel] as number;
      const start = (image * channels + channel) * plane;
      for (let i = start; i < start + plane; i++) target[i] = ((source[i] as number) - mean) * factor + shift;
    }
}
