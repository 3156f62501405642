import { type Call, dimensions } from "./kernel.js";
import { moments } from "./moments.js";

/**
 * torch.nn.InstanceNorm2d(affine=True): `(x − mean) · weight / √(variance + ε) + bias`, with the mean and biased
 * variance of each channel of each image over its H×W pixels.
 */
export function instanceNorm({ op, inputs: [input], parameters, output }: Call<"instanceNorm">): void {
  const { images, channels, plane } = dimensions(input);
  const source = input.data;
  const target = output.data;
  for (let image = 0; image < images; image++)
    for (let channel = 0; channel < channels; channel++) {
      const start = (image * channels + channel) * plane;
      const { mean, variance } = moments(source, start, start + plane);
      const factor = (parameters.weight[channel] as number) / Math.sqrt(variance + op.epsilon);
      const shift = parameters.bias[channel] as number;
      for (let i = start; i < start + plane; i++) target[i] = ((source[i] as number) - mean) * factor + shift;
    }
}
