import { expect } from "vitest";

/**
 * Typed arrays of the same bytes are equal, which takes a thousandth of the time of asking vitest about each element. Others are left to
 * vitest: -0 is no 0, but what NaN is stored as does not matter.
 */
expect.addEqualityTesters([
  (a: unknown, b: unknown): boolean | undefined =>
    isTyped(a) &&
    isTyped(b) &&
    a.constructor === b.constructor &&
    a.byteLength === b.byteLength &&
    Buffer.compare(bytesOf(a), bytesOf(b)) === 0
      ? true
      : undefined,
]);

function isTyped(value: unknown): value is NodeJS.TypedArray {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

function bytesOf({ buffer, byteOffset, byteLength }: NodeJS.TypedArray): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
