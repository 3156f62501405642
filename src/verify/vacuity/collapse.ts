import type { RealTensor } from "../../tensor.js";
import type { Vacuity } from "../report.js";
import { sameValues } from "./watch.js";

/** Embeddings as they come, image after image, and which images they are of. */
export class Embeddings {
  private readonly rows: Float64Array[] = [];

  /** @param tensor [N, D], or [N, …] where the network has no embedding layer */
  add({ shape: [count = 0], data }: RealTensor): void {
    const width = count > 0 ? data.length / count : 0;
    for (let image = 0; image < count; image++)
      this.rows.push(Float64Array.from(data.subarray(image * width, (image + 1) * width)));
  }

  /** Pairs of different images with one embedding. */
  collapsed(images: RealTensor | undefined, share: number): Vacuity["collapsed"] {
    return this.rows.flatMap((row, image) =>
      this.rows
        .slice(0, image)
        .flatMap((other, earlier) =>
          sameValues(other, row, share) && !sameImage(images, earlier, image)
            ? [[earlier, image] as const]
            : [],
        ),
    );
  }
}

function sameImage(images: RealTensor | undefined, a: number, b: number): boolean {
  if (!images) return false;
  const size = images.data.length / (images.shape[0] ?? 1);
  for (let index = 0; index < size; index++)
    if (images.data[a * size + index] !== images.data[b * size + index]) return false;
  return true;
}
