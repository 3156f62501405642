import { type Call, dimensions } from "./kernel.js";
import { moments } from "./moments.js";

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
