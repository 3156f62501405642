import { InputError } from "../../core/errors.js";
import { formatShape, type StateDict, sameShape, type Tensor } from "../../core/tensor.js";
import { castFloat, FLOAT_DTYPES, type FloatDType, toReal } from "../../core/tensor-cast.js";
import { encodeNpz } from "../formats/npz.js";
import { encodePth } from "../formats/pth/encode.js";
import type { WeightsFormat } from "../formats/registry.js";
import { encodeSafetensors } from "../formats/safetensors.js";

/**
 * The state dict with its floating-point tensors in another type, each value rounded at most once, to nearest even.
 * Integers (`num_batches_tracked`) stay as they are.
 *
 * @throws InputError (`tensor`) listing every tensor with a value that is too large for the type
 */
export function castStateDict(stateDict: StateDict, dtype: FloatDType, subject: string): StateDict {
  const overflows: string[] = [];
  const cast = [...stateDict].map(([path, tensor]): [string, Tensor] => {
    if (!FLOAT_DTYPES.some((float) => float === tensor.dtype)) return [path, tensor];
    const result = castFloat(tensor, dtype, path);
    if (result !== tensor) {
      const lost = overflowOf(tensor, result, path);
      if (lost !== undefined) overflows.push(`${path}: ${lost}`);
    }
    return [path, result];
  });
  if (overflows.length > 0)
    throw new InputError({
      code: "tensor",
      subject,
      found: `values that overflow ${dtype} in ${overflows.length} ${overflows.length === 1 ? "tensor" : "tensors"}`,
      expected: "weights within its range",
      remedy: `choose ${dtype === "float16" ? "bfloat16 or float32" : "float32 or float64"}`,
      details: overflows,
    });
  return new Map(cast);
}

/** How many finite values became infinite, and the largest of them; undefined for none. */
function overflowOf(tensor: Tensor, cast: Tensor, path: string): string | undefined {
  const before = toReal(tensor, path).data;
  const after = toReal(cast, path).data;
  let count = 0;
  let largest = 0;
  for (let index = 0; index < before.length; index++) {
    const value = before[index] ?? 0;
    if (Math.abs(after[index] ?? 0) !== Infinity || Math.abs(value) === Infinity) continue;
    count++;
    if (Math.abs(value) > Math.abs(largest)) largest = value;
  }
  return count > 0 ? `${count} ${count === 1 ? "value" : "values"}, the largest ${largest}` : undefined;
}

/** What a safetensors file of PyTorch weights says of itself: transformers refuses one that does not. */
const PYTORCH_METADATA: ReadonlyMap<string, string> = new Map([["format", "pt"]]);

type Encoder = (stateDict: StateDict, subject: string, metadata: ReadonlyMap<string, string>) => Uint8Array;

const ENCODERS: Readonly<Record<WeightsFormat, Encoder>> = {
  pth: (stateDict, subject) => encodePth(stateDict, { subject }),
  safetensors: (stateDict, subject, metadata) => encodeSafetensors(stateDict, { subject, metadata }),
  npz: (stateDict, subject) => encodeNpz(stateDict, { subject }),
};

/**
 * The bytes of a file of weights; the same state dict always gives the same bytes.
 *
 * @param metadata what a safetensors file is to say of itself, if not that its weights are PyTorch's
 * @throws InputError (`unsupported`) for an element type that the format does not have
 */
export function encodeWeights(
  stateDict: StateDict,
  format: WeightsFormat,
  { subject, metadata }: { readonly subject: string; readonly metadata?: ReadonlyMap<string, string> },
): Uint8Array {
  return ENCODERS[format](stateDict, subject, metadata?.size ? metadata : PYTORCH_METADATA);
}

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
