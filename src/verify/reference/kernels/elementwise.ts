import { type Call, dimensions } from "./kernel.js";

/** The sum of two or more tensors of one shape, from left to right: `x1 + x2 + x3 + x4` of a block's streams. */
export function add({ inputs: [first, second, ...rest], output }: Call<"add">): void {
  const sum = output.data;
  const a = first.data;
  const b = second.data;
  for (let i = 0; i < sum.length; i++) sum[i] = (a[i] as number) + (b[i] as number);
  for (const { data } of rest)
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (data[i] as number);
}

/** `torch.flatten` and the network's input: the same elements in the same order, whatever the shape says. */
export function copy({ inputs: [input], output }: Call<"input" | "flatten">): void {
  output.data.set(input.data);
}

/** torch.nn.ReLU: max(x, 0). NaN stays NaN. */
export function relu({ inputs: [input], output }: Call<"relu">): void {
  const source = input.data;
  const target = output.data;
  for (let i = 0; i < target.length; i++) target[i] = Math.max(source[i] as number, 0);
}

/** A stream [N, C, H, W] times its gate [N, C, 1, 1]: each channel of each image by one number. */
export function scale({ inputs: [stream, gate], output }: Call<"scale">): void {
  const { plane } = dimensions(stream);
  const source = stream.data;
  const target = output.data;
  for (const [channel, factor] of gate.data.entries()) {
    const end = (channel + 1) * plane;
    for (let i = channel * plane; i < end; i++) target[i] = (source[i] as number) * factor;
  }
}

/** torch.nn.Sigmoid: 1 / (1 + e⁻ˣ). Where e⁻ˣ overflows to infinity the quotient is the correct limit, 0. */
export function sigmoid({ inputs: [input], output }: Call<"sigmoid">): void {
  const source = input.data;
  const target = output.data;
  for (let i = 0; i < target.length; i++) target[i] = 1 / (1 + Math.exp(-(source[i] as number)));
}
