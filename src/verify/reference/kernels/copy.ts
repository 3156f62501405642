import type { Call } from "./kernel.js";

/** `torch.flatten` and the network's input: the same elements in the same order, whatever the shape says. */
export function copy({ inputs: [input], output }: Call<"input" | "flatten">): void {
  output.data.set(input.data);
}
