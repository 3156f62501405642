import { expect, it } from "vitest";
import { wrapLines } from "../../src/core/text.js";

it("breaks lines at words, and lets words that are wider stand", () => {
  const sentence = "w.pth: found a PyTorch checkpoint, expected a TensorFlow.js model; check the path.";
  const lines = wrapLines(`short\n  ${sentence}\n${"x".repeat(70)} y`, 60).split("\n");
  expect(lines[0]).toBe("short");
  expect(lines.slice(1, 3).every((line) => line.length <= 60)).toBe(true);
  expect(lines.slice(1, 3).join(" ").trim().replace(/\s+/g, " ")).toBe(sentence);
  expect(lines.slice(3)).toEqual(["x".repeat(70), "  y"]);
});

it("does not count colours", () => {
  const painted = "\u001b[1mname\u001b[22m of ten";
  expect(wrapLines(painted, 11)).toBe(painted);
});
