import type { Preprocess } from "../../convert/import/foreign.js";
import { towardsNchw } from "../../convert/import/layouts.js";
import { InputError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";

/** Images for a file that normalises its input itself: what it must be given so that the network reads them. */

/**
 * The file's input for images [N, C, H, W]: its preprocessing undone, in its order of channels and axes. Whole numbers
 * where the file takes integers.
 *
 * @throws InputError (`unsupported`) if the preprocessing drops a channel or multiplies by zero
 */
export function rawImages(images: Tensor<"float32">, preprocess: Preprocess): Tensor<"float32"> {
  const { order, scale, shift, layout, dtype } = preprocess;
  const [batch = 0, channels = 0, height = 0, width = 0] = images.shape;
  if (scale.length !== channels || scale.some((value) => value === 0 || !Number.isFinite(value)))
    throw new InputError({
      code: "unsupported",
      subject: "preprocessing of the ONNX file",
      found: `channels multiplied by ${scale.join(", ")}`,
      expected: `${channels} numbers other than zero`,
      remedy: "export the network without its preprocessing",
    });
  const sizes = [batch, channels, height, width];
  const shape = layout.map((axis) => sizes[axis] ?? 1);
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
  const [perImage = 0, perChannel = 0, perRow = 0, perColumn = 0] = towardsNchw(layout).map(
    (axis) => strides[axis] ?? 0,
  );
  const limits = LIMITS[dtype ?? ""];
  const data = new Float32Array(images.data.length);
  let source = 0;
  for (let image = 0; image < batch; image++)
    for (let channel = 0; channel < channels; channel++) {
      const [factor, offset] = [scale[channel] ?? 1, shift[channel] ?? 0];
      const start = image * perImage + (order[channel] ?? channel) * perChannel;
      for (let row = 0; row < height; row++)
        for (let column = 0; column < width; column++) {
          const raw = ((images.data[source++] ?? 0) - offset) / factor;
          data[start + row * perRow + column * perColumn] = limits
            ? Math.min(limits[1], Math.max(limits[0], Math.round(raw)))
            : raw;
        }
    }
  return { dtype: "float32", shape, data };
}

/** The images nearest to these that the file can be given: the same ones unless it takes integers. */
export function nearestImages(images: Tensor<"float32">, preprocess: Preprocess): Tensor<"float32"> {
  if (!LIMITS[preprocess.dtype ?? ""]) return images;
  const plain = { ...preprocess, layout: [0, 1, 2, 3] };
  const raw = rawImages(images, plain).data;
  const { order, scale, shift } = preprocess;
  const [, channels = 0, height = 0, width = 0] = images.shape;
  const plane = height * width;
  const data = Float32Array.from(images.data, (_, index) => {
    const channel = Math.floor(index / plane) % channels;
    const from = index + ((order[channel] ?? channel) - channel) * plane;
    return (raw[from] ?? 0) * (scale[channel] ?? 1) + (shift[channel] ?? 0);
  });
  return { ...images, data };
}

/** The range of each integer type that pixels have. */
const LIMITS: Readonly<Record<string, readonly [least: number, most: number]>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  int32: [0, 255],
};
