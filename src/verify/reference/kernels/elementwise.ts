import { wholeOf } from "../elements.js";
import { type Call, dimensions } from "./kernel.js";

/** The sum of two or more tensors of one shape, from left to right: `x1 + x2 + x3 + x4` of a block's streams. */
export function add({ inputs: [first, second, ...rest], output, engine }: Call<"add">): void {
  const sum = output.data;
  const run = wholeOf(sum);
  engine.add(first.data, second.data, sum, run);
  for (const { data } of rest) engine.add(sum, data, sum, run);
}

/** `torch.flatten` and the network's input: the same elements in the same order, whatever the shape says. */
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
