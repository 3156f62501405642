import type { StateDict } from "../core/tensor.js";
import { formatShape, sameShape, type Tensor } from "../core/tensor.js";

/**
 * Every way in which two state dicts differ, one to a line; empty if they hold the same tensors bit for bit, NaNs and
 * signs of zero included. Their order does not matter.
 */
export function compareBits(expected: StateDict, actual: StateDict): readonly string[] {
  const problems = [...expected].flatMap(([path, tensor]) => {
    const problem = differenceOf(tensor, actual.get(path));
    return problem === undefined ? [] : [`${path}: ${problem}`];
  });
  const surplus = [...actual.keys()].filter((path) => !expected.has(path));
  return [...problems, ...surplus.map((path) => `${path}: not in the source`)];
}

function differenceOf(expected: Tensor, actual: Tensor | undefined): string | undefined {
  if (!actual) return "missing";
  if (actual.dtype !== expected.dtype) return `${actual.dtype} instead of ${expected.dtype}`;
  if (!sameShape(actual.shape, expected.shape))
    return `shape ${formatShape(actual.shape)} instead of ${formatShape(expected.shape)}`;
  const [a, b] = [bytesOf(expected), bytesOf(actual)];
  if (a.length !== b.length) return `${b.length} bytes instead of ${a.length}`;
  const at = a.findIndex((byte, index) => byte !== b[index]);
  if (at < 0) return undefined;
  return `element ${Math.floor(at / expected.data.BYTES_PER_ELEMENT)} differs`;
}

function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
