import type { Call } from "./kernel.js";

/** torch.nn.Linear: `x · weightᵀ + bias`, from [N, in] to [N, out]; the bias is the first term of the sum. */
export function linear({ op, inputs: [input], parameters, output }: Call<"linear">): void {
  const { inFeatures, outFeatures } = op;
  const { weight, bias } = parameters;
  const source = input.data;
  const target = output.data;
  for (let image = 0; image * outFeatures < target.length; image++)
    for (let row = 0; row < outFeatures; row++) {
      let sum = bias[row] as number;
      for (let k = 0; k < inFeatures; k++)
        sum += (weight[row * inFeatures + k] as number) * (source[image * inFeatures + k] as number);
      target[image * outFeatures + row] = sum;
    }
}
