/** A safetensors file of any header and data; `length` is what the header claims of itself. */
export function safetensors(
  header: string | Uint8Array,
  data: Uint8Array = new Uint8Array(),
  length?: bigint,
): Uint8Array {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const start = new Uint8Array(8);
  new DataView(start.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  return new Uint8Array(Buffer.concat([start, text, data]));
}
