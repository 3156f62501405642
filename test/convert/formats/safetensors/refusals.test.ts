import { describe, expect, it } from "vitest";
import { decodeSafetensors, encodeSafetensors } from "../../../../src/convert/formats/safetensors.js";
import { InputError } from "../../../../src/core/errors.js";
import type { Tensor } from "../../../../src/core/tensor.js";
import { safetensors } from "./build.js";

const AGAIN = "; download or copy the file again, or save it with the safetensors library.";

function messageOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error("not refused");
}

/** `NAME: dtype, shape, begin, end` as the header has it. */
function entry(name: string, dtype: string, shape: string, begin: number, end: number): string {
  return `"${name}":{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
}

const A = entry("a", "F32", "[1]", 0, 4);

describe("decodeSafetensors refuses", () => {
  it.each<readonly [what: string, bytes: Uint8Array, problem: string]>([
    ["an empty file", new Uint8Array(), "0 bytes, expected at least the 8 of the header's length"],
    ["no header", safetensors("", undefined, 0n), "the end at character 0 of the header, expected an object"],
    [
      "a header over 100 MB",
      safetensors("{}", undefined, 100_000_001n),
      "a header of 100000001 bytes, expected at most 100000000",
    ],
    [
      "a header length beyond any number",
      safetensors("{}", undefined, 2n ** 64n - 1n),
      "a header of 18446744073709551615 bytes, expected at most 100000000",
    ],
    [
      "a header cut short",
      safetensors("{}", undefined, 3n),
      "a header of 3 bytes, expected at most the 2 that follow",
    ],
    [
      "bytes that are not UTF-8",
      safetensors(Uint8Array.of(0x7b, 0xff, 0x7d)),
      "a header that is not UTF-8, expected UTF-8",
    ],
    ["a byte order mark", safetensors("\ufeff{}"), '"?" at character 0 of the header, expected an object'],
    ["an array", safetensors("[]"), '"[" at character 0 of the header, expected an object'],
    [
      "text after the header",
      safetensors("{} {}"),
      '"{" at character 3 of the header, expected nothing but spaces after the header\'s object',
    ],
    [
      "a trailing comma",
      safetensors(`{${A},}`, new Uint8Array(4)),
      '"}" at character 54 of the header, expected a string',
    ],
    ["a missing colon", safetensors(`{"a" 1}`), '"1" at character 5 of the header, expected ":"'],
    [
      "an open string",
      safetensors(`{"a`),
      "an unterminated string at character 1 of the header, expected JSON",
    ],
    [
      "a bad escape",
      safetensors(`{"\\x":{}}`),
      "a malformed string at character 1 of the header, expected JSON",
    ],
    [
      "a line feed in a string",
      safetensors(`{"\n":{}}`),
      "a malformed string at character 1 of the header, expected JSON",
    ],
    [
      "a tensor that is no object",
      safetensors(`{"a":1}`),
      '"1" at character 5 of the header, expected an object',
    ],
    [
      "a tensor called twice",
      safetensors(`{${A},${A}}`, new Uint8Array(4)),
      'two keys "a" in the header, expected one',
    ],
    [
      "a tensor called twice, once with escapes",
      safetensors(`{${A},${entry("\\u0061", "F32", "[1]", 0, 4)}}`, new Uint8Array(4)),
      'two keys "a" in the header, expected one',
    ],
    [
      "a field given twice",
      safetensors(`{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, new Uint8Array(1)),
      'two keys "dtype" in tensor "a", expected one',
    ],
    [
      "__proto__ given twice",
      safetensors(`{${entry("__proto__", "U8", "[0]", 0, 0)},${entry("__proto__", "U8", "[0]", 0, 0)}}`),
      'two keys "__proto__" in the header, expected one',
    ],
    [
      "metadata given twice",
      safetensors(`{"__metadata__":{},"__metadata__":{}}`),
      'two keys "__metadata__" in the header, expected one',
    ],
    [
      "metadata that is no text",
      safetensors(`{"__metadata__":{"a":1}}`),
      '"1" at character 21 of the header, expected a string',
    ],
    [
      "an unknown field",
      safetensors(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, new Uint8Array(1)),
      'tensor "a" with a field "x", expected dtype, shape, data_offsets',
    ],
    [
      "a missing field",
      safetensors(`{"a":{"dtype":"U8","shape":[1]}}`),
      'tensor "a" with an incomplete description, expected dtype, shape, data_offsets',
    ],
    [
      "one offset",
      safetensors(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}`),
      'tensor "a" with an incomplete description, expected dtype, shape, data_offsets',
    ],
    [
      "three offsets",
      safetensors(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}`),
      '"2" at character 51 of the header, expected at most 2 numbers',
    ],
    [
      "a fraction",
      safetensors(`{"a":{"dtype":"U8","shape":[1.5]}}`),
      '"." at character 29 of the header, expected "," or "]"',
    ],
    [
      "a negative size",
      safetensors(`{"a":{"dtype":"U8","shape":[-1]}}`),
      '"-" at character 28 of the header, expected a whole number from 0 to 2^53',
    ],
    [
      "a leading zero",
      safetensors(`{"a":{"dtype":"U8","shape":[01]}}`),
      '"0" at character 28 of the header, expected a whole number from 0 to 2^53',
    ],
    [
      "a number beyond 2^53",
      safetensors(`{"a":{"dtype":"U8","shape":[99999999999999999999]}}`),
      '"9" at character 28 of the header, expected a whole number from 0 to 2^53',
    ],
    [
      "65 dimensions",
      safetensors(`{"a":{"dtype":"U8","shape":[${"1,".repeat(64)}1]}}`),
      '"1" at character 156 of the header, expected at most 64 numbers',
    ],
    [
      "a shape whose product overflows",
      safetensors(`{${entry("a", "F32", "[4503599627370496,4503599627370496]", 0, 4)}}`, new Uint8Array(4)),
      'tensor "a" in 4 bytes, expected the 8.112963841460668e+31 that F32 [4503599627370496, 4503599627370496] takes',
    ],
    [
      "a shape that does not fit its bytes",
      safetensors(`{${entry("a", "F32", "[2]", 0, 4)}}`, new Uint8Array(4)),
      'tensor "a" in 4 bytes, expected the 8 that F32 [2] takes',
    ],
    [
      "a hole before the first tensor",
      safetensors(`{${entry("a", "F32", "[1]", 4, 8)}}`, new Uint8Array(8)),
      'tensor "a" at bytes 4 to 8 of the data, expected it to begin at byte 0, where the previous tensor ends',
    ],
    [
      "a hole between tensors",
      safetensors(`{${A},${entry("b", "U8", "[1]", 5, 6)}}`, new Uint8Array(6)),
      'tensor "b" at bytes 5 to 6 of the data, expected it to begin at byte 4, where the previous tensor ends',
    ],
    [
      "an overlap",
      safetensors(`{${A},${entry("b", "U8", "[2]", 3, 5)}}`, new Uint8Array(5)),
      'tensor "b" at bytes 3 to 5 of the data, expected it to begin at byte 4, where the previous tensor ends',
    ],
    [
      "two tensors of the same bytes",
      safetensors(`{${A},${entry("b", "F32", "[1]", 0, 4)}}`, new Uint8Array(4)),
      'tensor "b" at bytes 0 to 4 of the data, expected it to begin at byte 4, where the previous tensor ends',
    ],
    [
      "an end before the beginning",
      safetensors(`{${A},${entry("b", "U8", "[0]", 4, 3)}}`, new Uint8Array(4)),
      'tensor "b" at bytes 4 to 3 of the data, expected it to begin at byte 4, where the previous tensor ends',
    ],
    [
      "data that no tensor has",
      safetensors(`{${A}}`, new Uint8Array(5)),
      "5 bytes of data, expected the 4 that the header describes",
    ],
    [
      "data cut short",
      safetensors(`{${A}}`, new Uint8Array(3)),
      "3 bytes of data, expected the 4 that the header describes",
    ],
    [
      "half a character",
      safetensors(`{${entry("\\ud800", "U8", "[0]", 0, 0)}}`),
      'the name "?", which is not Unicode, expected text that can be encoded as UTF-8',
    ],
    [
      "more metadata than any file has",
      safetensors(`{"__metadata__":{${Array.from({ length: 10_001 }, (_, i) => `"${i}":""`).join(",")}}}`),
      "more than 10000 keys in __metadata__, expected fewer",
    ],
    [
      "more tensors than any file has",
      safetensors(
        `{${Array.from({ length: 100_001 }, (_, i) => entry(`${i}`, "U8", "[0]", 0, 0)).join(",")}}`,
      ),
      "more than 100000 tensors, expected fewer",
    ],
  ])("%s", (_, bytes, problem) => {
    expect(messageOf(() => decodeSafetensors(bytes, "w.safetensors"))).toBe(
      `w.safetensors: found ${problem}${AGAIN}`,
    );
  });

  it("element types that no network here has", () => {
    const bytes = safetensors(`{${entry("a", "F8_E4M3", "[1]", 0, 1)}}`, new Uint8Array(1));
    expect(messageOf(() => decodeSafetensors(bytes, "w.safetensors"))).toBe(
      'w.safetensors: found tensor "a" of type "F8_E4M3", expected elements of a type used for training; save the weights again in float32.',
    );
  });
});

describe("encodeSafetensors refuses", () => {
  const tensor: Tensor = { dtype: "float32", shape: [2], data: Float32Array.of(1) };
  it.each<readonly [what: string, name: string, tensor: Tensor, problem: string]>([
    [
      "data that does not fill its shape",
      "a",
      tensor,
      'tensor "a" in 4 bytes, expected the 8 that F32 [2] takes',
    ],
    [
      "the name of the metadata",
      "__metadata__",
      { ...tensor, shape: [1] },
      "a tensor called __metadata__, expected another name",
    ],
  ])("%s", (_, name, value, problem) => {
    expect(messageOf(() => encodeSafetensors(new Map([[name, value]]), { subject: "out" }))).toBe(
      `out: found ${problem}${AGAIN}`,
    );
  });

  it("more tensors or metadata than it reads", () => {
    const many = (count: number) => Array.from({ length: count }, (_, index) => String(index));
    const empty: Tensor = { dtype: "uint8", shape: [0], data: new Uint8Array() };
    const tensors = new Map(many(100_001).map((name) => [name, empty]));
    expect(messageOf(() => encodeSafetensors(tensors, { subject: "out" }))).toBe(
      `out: found 100001 tensors, expected at most 100000${AGAIN}`,
    );
    const metadata = new Map(many(10_001).map((key) => [key, ""]));
    expect(messageOf(() => encodeSafetensors(new Map(), { subject: "out", metadata }))).toBe(
      `out: found 10001 keys in __metadata__, expected at most 10000${AGAIN}`,
    );
  });
});
