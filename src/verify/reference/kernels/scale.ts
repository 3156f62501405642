import { type Call, dimensions } from "./kernel.js";

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
