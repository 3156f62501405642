import type { Call } from "./kernel.js";

/** torch.nn.Sigmoid: 1 / (1 + e⁻ˣ). Where e⁻ˣ overflows to infinity the quotient is the correct limit, 0. */
export function sigmoid({ inputs: [input], output }: Call<"sigmoid">): void {
  const source = input.data;
  const target = output.data;
  for (let i = 0; i < target.length; i++) target[i] = 1 / (1 + Math.exp(-(source[i] as number)));
}
