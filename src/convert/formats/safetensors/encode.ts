import type { StateDict } from "../../../state-dict.js";
import type { Tensor } from "../../../tensor.js";
import { LENGTH_BYTES } from "./decode.js";
import { dtypeToName, rankOf } from "./dtypes.js";
import { type Header, serializeHeader, type TensorInfo } from "./header.js";
import { malformed } from "./refusals.js";
import { MAX_HEADER_BYTES, validate } from "./validate.js";

/** The header is padded with spaces so that the data is aligned to its widest elements. */
const ALIGNMENT = 8;

const SPACE = 0x20;

/**
 * The bytes of a safetensors file, the same that the official library writes: tensors by element type, then by name,
 * metadata by key. What order the state dict had cannot be read back.
 *
 * @throws InputError (`format`) if a tensor's data does not fill its shape, or a name cannot be written
 */
export function encodeSafetensors(
  stateDict: StateDict,
  { subject, metadata = new Map() }: { readonly subject: string; readonly metadata?: Header["metadata"] },
): Uint8Array {
  const ordered = [...stateDict].toSorted(
    ([a, { dtype: left }], [b, { dtype: right }]) => rankOf(left) - rankOf(right) || compareText(a, b),
  );
  const { tensors, dataBytes } = layOut(ordered);
  const header = {
    metadata: new Map([...metadata].toSorted(([a], [b]) => compareText(a, b))),
    tensors,
  };
  validate(header, dataBytes, subject);

  const text = new TextEncoder().encode(serializeHeader(header));
  const headerBytes = Math.ceil(text.length / ALIGNMENT) * ALIGNMENT;
  if (headerBytes > MAX_HEADER_BYTES)
    throw malformed(subject, `a header of ${headerBytes} bytes`, `at most ${MAX_HEADER_BYTES}`);
  const bytes = new Uint8Array(LENGTH_BYTES + headerBytes + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.set(text, LENGTH_BYTES);
  bytes.fill(SPACE, LENGTH_BYTES + text.length, LENGTH_BYTES + headerBytes);
  let position = LENGTH_BYTES + headerBytes;
  for (const [, { data }] of ordered) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), position);
    position += data.byteLength;
  }
  return bytes;
}

/** One tensor after the other. */
function layOut(ordered: readonly (readonly [string, Tensor])[]): {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly dataBytes: number;
} {
  let position = 0;
  const tensors = new Map<string, TensorInfo>();
  for (const [name, { dtype, shape, data }] of ordered) {
    const end = position + data.byteLength;
    tensors.set(name, { dtype: dtypeToName(dtype), shape, dataOffsets: [position, end] });
    position = end;
  }
  return { tensors, dataBytes: position };
}

/** By code point, which is the order of UTF-8's bytes and not that of UTF-16's units. */
function compareText(a: string, b: string): number {
  for (let index = 0; index < a.length && index < b.length; index++) {
    const [left, right] = [a.charCodeAt(index), b.charCodeAt(index)];
    if (left !== right) return byCodePoint(left) - byCodePoint(right);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above all that one unit holds, and are themselves below U+E000. */
function byCodePoint(unit: number): number {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}
