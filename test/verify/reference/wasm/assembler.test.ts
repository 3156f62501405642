import { describe, expect, test } from "vitest";
import { assemble, i32, local, v128 } from "../../../../src/verify/reference/assembler.js";

describe("assemble", () => {
  test("a module byte by byte", () => {
    const body = [local.get(0), local.get(0), v128.load(300), v128.store(0)];
    const bytes = assemble([{ name: "f", parameters: 1, integers: 0, vectors: 2, body }]);
    expect([...bytes]).toEqual(
      [
        [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
        // Type section: one function from (i32) to ().
        [1, 5, 1, 0x60, 1, 0x7f, 0],
        // Import section: memory "reference" "memory", at least 0 pages.
        [2, 21, 1, 9, ...ascii("reference"), 6, ...ascii("memory"), 2, 0, 0],
        // Function section: function 0 has type 0. Export section: function 0 is "f".
        [3, 2, 1, 0],
        [7, 5, 1, 1, ...ascii("f"), 0, 0],
        // Code section: 0 locals of i32, 2 of v128; 300 is 0xac 0x02 in LEB128.
        [10, 21, 1, 19, 2, 0, 0x7f, 2, 0x7b],
        [0x20, 0, 0x20, 0, 0xfd, 0, 3, 0xac, 2, 0xfd, 11, 3, 0, 0x0b],
      ].flat(),
    );
  });

  test.each([
    [0, [0x41, 0]],
    [63, [0x41, 0x3f]],
    [64, [0x41, 0xc0, 0]],
    [-1, [0x41, 0x7f]],
    [-65, [0x41, 0xbf, 0x7f]],
  ])("the constant %i in signed LEB128", (value, expected) => {
    expect([i32.const(value)].flat(9)).toEqual(expected);
  });
});

function ascii(text: string): number[] {
  return [...text].map((character) => character.charCodeAt(0));
}
