import { expect, it } from "vitest";
import { asNumber } from "../../../../src/convert/formats/tfjs/json.js";

it("numbers that JSON.parse makes infinite are refused", () => {
  const value = JSON.parse("-1e999") as number;
  expect(() => asNumber({ value, at: "m.min" })).toThrow(/^m\.min: found .* expected a finite number/);
  expect(asNumber({ value: 1.5, at: "m.min" })).toBe(1.5);
});
