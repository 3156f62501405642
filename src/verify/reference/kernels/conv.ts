import type { Op } from "../../../arch/graph.js";
import type { Shape } from "../../../core/tensor.js";
import { STRIP_ROWS, TILE_COLUMNS } from "../engine.js";
import { matrixConv, matrixScratch } from "./conv-matrix.js";
import { borderedPlanes, borderedSize, type Call, dimensions, fillPlanes } from "./kernel.js";

/** Nine weights and the bias. */
const TAPS = 10;

/** Elements of scratch memory: the taps, then one input plane with its border. */
function depthwiseScratch(op: Op<"conv">, input: Shape): number {
  return TAPS + borderedSize(op, input);
}

/** A 3×3 depthwise convolution of stride 1: each plane is copied into its border and correlated with its own kernel. */
function depthwise3x3({ op, inputs, parameters, output, engine, scratch }: Call<"conv">): void {
  const { memory } = engine;
  const { images, channels, height, width, plane } = dimensions(output);
  const bordered = borderedPlanes(op, inputs[0], 1, memory, scratch + TAPS);
  const place = { inputStride: bordered.rowStride, weights: scratch, outputStride: width, height };
  const outputStart = output.data.byteOffset / 8;
  const even = width - (width % 2);

  for (let index = 0; index < images * channels; index++) {
    const channel = index % channels;
    for (let tap = 0; tap < 9; tap++) memory[scratch + tap] = parameters.weight[9 * channel + tap] as number;
    memory[scratch + 9] = parameters.bias?.[channel] ?? 0;
    fillPlanes(op, inputs[0], index, 1, bordered, engine);
    const start = outputStart + index * plane;
    engine.correlate3x3({ ...place, input: bordered.start, output: start, width: even });
    // The last column of an odd width is computed with the one before it, once more.
    const last = width - 2;
    if (even < width)
      engine.correlate3x3({ ...place, input: bordered.start + last, output: start + last, width: 2 });
  }
}

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

/**
 * torch.nn.Conv2d: output channel o of pixel (y, x) is
 * `bias[o] + Σ weight[o][c][i][j] · input[c][y·stride − padding + i][x·stride − padding + j]`
 * over the channels c of o's group and the kernel's rows i and columns j, in this order; outside the image is zero.
 *
 * Three routes, one sum: 3×3 depthwise planes, matrix products, and the definition itself for what is left, such as
 * the gates, whose images are one pixel.
 */
export function conv(call: Call<"conv">): void {
  const route = routeOf(call.op, call.output.shape);
  if (route === "depthwise") depthwise3x3(call);
  else if (route === "matrix") matrixConv(call);
  else directConv(call);
}

/** Elements of scratch memory that `conv` uses for images of this shape. */
export function convScratch(op: Op<"conv">, input: Shape, output: Shape): number {
  const route = routeOf(op, output);
  if (route === "depthwise") return depthwiseScratch(op, input);
  return route === "matrix" ? matrixScratch(op, input) : 0;
}

function routeOf(op: Op<"conv">, [, , height = 1, width = 1]: Shape): "depthwise" | "matrix" | "direct" {
  const { groups, kernel, stride } = op;
  const depthwise = groups === op.inChannels && groups === op.outChannels;
  if (depthwise && kernel.every((size) => size === 3) && stride.every((step) => step === 1) && width >= 2)
    return "depthwise";
  // Strips and tiles that do not fit are moved back to overlap their neighbours, so one must fit.
  return op.outChannels / groups >= STRIP_ROWS && height * width >= TILE_COLUMNS ? "matrix" : "direct";
}

/** The definition, one output at a time. */
function directConv({ op, inputs: [input], parameters: { weight, bias }, output }: Call<"conv">): void {
  const from = dimensions(input);
  const to = dimensions(output);
  const [kernelY, kernelX] = op.kernel;
  const [strideY, strideX] = op.stride;
  const [paddingY, paddingX] = op.padding;
  const groupInputs = op.inChannels / op.groups;
  const groupOutputs = op.outChannels / op.groups;
  const pixels = input.data;
  let at = 0;
  for (let image = 0; image < to.images; image++)
    for (let out = 0; out < to.channels; out++) {
      const firstChannel = image * from.channels + Math.floor(out / groupOutputs) * groupInputs;
      for (let y = 0; y < to.height; y++)
        for (let x = 0; x < to.width; x++) {
          let sum = bias?.[out] ?? 0;
          let tap = out * groupInputs * kernelY * kernelX;
          for (let channel = 0; channel < groupInputs; channel++)
            for (let i = 0; i < kernelY; i++)
              for (let j = 0; j < kernelX; j++, tap++) {
                const row = y * strideY - paddingY + i;
                const column = x * strideX - paddingX + j;
                if (row < 0 || row >= from.height || column < 0 || column >= from.width) continue;
                const pixel = (firstChannel + channel) * from.plane + row * from.width + column;
                sum += (weight[tap] as number) * (pixels[pixel] as number);
              }
          output.data[at++] = sum;
        }
    }
}
