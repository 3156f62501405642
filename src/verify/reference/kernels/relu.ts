import type { Call } from "./kernel.js";

/** torch.nn.ReLU: max(x, 0). NaN stays NaN. */
export function relu({ inputs: [input], output }: Call<"relu">): void {
  const source = input.data;
  const target = output.data;
  for (let i = 0; i < target.length; i++) target[i] = Math.max(source[i] as number, 0);
}
