import { expect, it } from "vitest";
import { Memo } from "../../../../../src/convert/formats/pth/pickle/values.js";

it("a memo keeps entries that are numbered in any order, and counts them", () => {
  const memo = new Memo();
  memo.set(0, "a");
  memo.set(2 ** 32 - 1, "far");
  memo.set(2, "c");
  memo.set(1, "b");
  expect([0, 1, 2, 2 ** 32 - 1].map((index) => memo.get(index))).toEqual(["a", "b", "c", "far"]);
  expect(memo.get(3)).toBeUndefined();
  memo.set(2, "again");
  memo.set(0, "first");
  expect([memo.get(0), memo.get(2), memo.size]).toEqual(["first", "again", 4]);
});
