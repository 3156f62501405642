import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { mulberry32 } from "../../../src/core/functions.js";
import type { RealTensor, Tensor } from "../../../src/core/tensor.js";
import { onnxruntimeBackend } from "../../../src/verify/backends/onnxruntime.js";

/**
 * Settles whether two ONNX files compute one function, by running both in onnxruntime: on normal images, on others 100 and
 * 100,000 times as large, and on flat ones, whose rows are different colours.
 */

const [HEIGHT, WIDTH] = [64, 32];

/** How far two computations of one function may be apart, as a share of the largest value: weights may be rounded otherwise. */
const NEAR = 1e-3;

function images(count: number, value: (image: number) => number): Tensor<"float32"> {
  const size = 3 * HEIGHT * WIDTH;
  const data = Float32Array.from({ length: count * size }, (_, index) => value(Math.floor(index / size)));
  return { dtype: "float32", shape: [count, 3, HEIGHT, WIDTH], data };
}

/** What two files are compared on, as float32 [N, 3, H, W]. */
export function inputs(count: number): readonly Tensor<"float32">[] {
  const random = mulberry32(7);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return [
    images(count, normal),
    images(count, () => 100 * normal()),
    images(count, () => 1e5 * normal()),
    images(count, (image) => image - 0.5),
  ];
}

/** What a file gives for each of the images, or why it does not run. */
async function outputsOf(model: OnnxModel, count: number): Promise<readonly RealTensor[] | string> {
  const [first] = model.graph.outputs;
  const loaded = onnxruntimeBackend({ bytes: encodeOnnx(model) }, model, [], "edited.onnx").load([
    { name: first?.name ?? "", index: 0 },
  ]);
  try {
    const results: RealTensor[] = [];
    for (const batch of inputs(count)) results.push(...(await loaded.run(batch)));
    return results;
  } catch (error) {
    return String(error);
  } finally {
    await loaded.release();
  }
}

/** How many images a file is given: as many as it fixes, or two. */
function countOf({ graph }: OnnxModel): number {
  const [batch] = graph.inputs.find(({ name }) => !graph.initializers.has(name))?.shape ?? [];
  return typeof batch === "number" ? batch : 2;
}

/** What files give that edits are made of, by the number of images. */
const originals = new WeakMap<OnnxModel, Map<number, ReturnType<typeof outputsOf>>>();

/** In what two files differ, in words; undefined if they are the same function, or the second one does not run. */
export async function difference(original: OnnxModel, edited: OnnxModel): Promise<string | undefined> {
  const count = countOf(edited);
  const found = await outputsOf(edited, count);
  if (typeof found === "string") return undefined;
  const known = originals.get(original) ?? new Map<number, ReturnType<typeof outputsOf>>();
  originals.set(original, known);
  if (!known.has(count)) known.set(count, outputsOf(original, count));
  const expected = (await known.get(count)) ?? "";
  // A file that fixes another number of images is another file: then nothing can be said.
  if (typeof expected === "string") return undefined;
  return differs(expected, found);
}

/** In what results differ beyond rounding, in words. */
export function differs(expected: readonly RealTensor[], found: readonly RealTensor[]): string | undefined {
  for (const [index, { shape, data }] of expected.entries()) {
    const other = found[index];
    if (String(other?.shape) !== String(shape))
      return `shape [${other?.shape}] for [${shape}] on images ${index}`;
    let [largest, off] = [0, 0];
    for (const [at, value] of data.entries()) {
      const actual = other?.data[at] ?? Number.NaN;
      if (Object.is(value, actual)) continue;
      largest = Math.max(largest, Math.abs(value));
      off = Number.isFinite(actual - value)
        ? Math.max(off, Math.abs(actual - value))
        : Number.POSITIVE_INFINITY;
    }
    if (off > NEAR * largest) return `${off} of ${largest} on images ${index}`;
  }
  return undefined;
}
