import type { Call } from "./kernel.js";

/** The sum of two or more tensors of one shape, from left to right: `x1 + x2 + x3 + x4` of a block's streams. */
export function add({ inputs: [first, second, ...rest], output }: Call<"add">): void {
  const sum = output.data;
  const a = first.data;
  const b = second.data;
  for (let i = 0; i < sum.length; i++) sum[i] = (a[i] as number) + (b[i] as number);
  for (const { data } of rest)
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (data[i] as number);
}
