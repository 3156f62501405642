/**
 * The protobuf wire format (https://protobuf.dev/programming-guides/encoding/), as far as walking over a message's own
 * fields needs it: each is a varint tag, number × 8 + wire type, and a payload whose length the wire type tells.
 */

const WIRE = { varint: 0, fixed64: 1, lengthDelimited: 2, fixed32: 5 } as const;

/**
 * The payloads of one length-delimited field of a message, in the order of the bytes, as views.
 *
 * @throws RangeError if the message ends inside a field or has a wire type that proto3 does not use.
 */
export function topLevelPayloads(bytes: Uint8Array, field: number): readonly Uint8Array[] {
  const payloads: Uint8Array[] = [];
  let offset = 0;
  const varint = (): number => {
    // Numbers, not 32-bit integers: a length may have 64 bits, and must then fail rather than wrap around.
    for (let value = 0, scale = 1; offset < bytes.length && scale < 2 ** 70; scale *= 128) {
      const byte = bytes[offset++] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new RangeError(`unterminated number at byte ${offset}`);
  };
  const skip = (length: number): Uint8Array => {
    if (length > bytes.length - offset) throw new RangeError(`field of ${length} bytes at byte ${offset}`);
    offset += length;
    return bytes.subarray(offset - length, offset);
  };
  while (offset < bytes.length) {
    const tag = varint();
    const wireType = tag % 8;
    if (wireType === WIRE.varint) varint();
    else if (wireType === WIRE.fixed64) skip(8);
    else if (wireType === WIRE.fixed32) skip(4);
    else if (wireType === WIRE.lengthDelimited) {
      const payload = skip(varint());
      if ((tag - wireType) / 8 === field) payloads.push(payload);
    } else throw new RangeError(`wire type ${wireType} at byte ${offset}`);
  }
  return payloads;
}
