import { expect, it } from "vitest";
import type { OpenFile } from "../../src/convert/open/open-file.js";
import { architectureOf } from "../../src/verify/architecture.js";
import { tinyCheckpoint } from "../mutation/families.js";

it("a candidate whose modules show other gates than the reference has is another network", () => {
  const checkpoint = tinyCheckpoint("block");
  const file = (activation: "sigmoid" | "relu"): { name: string; file: OpenFile } => {
    const spec = { ...checkpoint.spec, gate: { ...checkpoint.spec.gate, activation } };
    return {
      name: activation,
      file: { kind: "checkpoint", format: "pth", checkpoint: { ...checkpoint, spec } },
    };
  };
  expect(() => architectureOf(file("relu"), file("sigmoid"))).toThrow(
    expect.objectContaining({ problem: expect.objectContaining({ code: "spec", subject: "relu" }) }),
  );
  expect(architectureOf(file("relu"), file("relu"))).toBe(checkpoint.graph);
  // Weights alone do not show it.
  expect(architectureOf(file("sigmoid"), file("relu"))).toBe(checkpoint.graph);
});
