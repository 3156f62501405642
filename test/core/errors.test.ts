import { expect, it } from "vitest";
import { InputError } from "../../src/core/errors.js";

const problem = { code: "format", subject: "w.pth", found: "x", expected: "y", remedy: "do z" } as const;

it("a refusal is one sentence of four parts", () => {
  expect(new InputError(problem).message).toBe("w.pth: found x, expected y; do z.");
});

it("a refusal without an expectation is a clause and a remedy", () => {
  const { expected: _, ...others } = problem;
  const missing = { ...others, found: "no such file or folder", remedy: "did you mean x.pth?" };
  expect(new InputError(missing)).toMatchObject({ problem: missing });
  expect(new InputError(missing).message).toBe("w.pth: no such file or folder; did you mean x.pth?");
});

it("nothing in a refusal breaks its line or commands a terminal", () => {
  const evil = "a\nb\x1b[31m\x9b\u202e\u2028\ud800";
  const { message, details } = new InputError({ ...problem, subject: evil, found: evil, details: [evil] });
  expect(message).toBe("a?b?[31m????: found a?b?[31m????, expected y; do z.");
  expect(details).toEqual(["a?b?[31m????"]);
  expect(new InputError({ ...problem, subject: "modèle–行人.pth" }).message).toContain("modèle–行人.pth: ");
});

it("a part of any length is cut", () => {
  const { message } = new InputError({ ...problem, found: "x".repeat(1 << 20) });
  expect(message.length).toBeLessThan(600);
  expect(message).toContain("xxx..., expected y; do z.");
});
