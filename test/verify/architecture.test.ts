import { expect, it } from "vitest";
import { type OsnetSpec, variant } from "../../src/arch/index.js";
import type { OpenFile } from "../../src/convert/open/open-file.js";
import { architectureOf } from "../../src/verify/architecture.js";
import { tinyCheckpoint } from "../mutation/families.js";

it("instance norms in all of a family's places are another network, in any width", () => {
  const plain = variant("osnet_x0_25");
  const [first, ...others] = plain.stages;
  const blocks = (first?.blocks ?? []).map((block) => ({ ...block, instanceNorm: "outside" }) as const);
  const ibn: OsnetSpec = {
    ...plain,
    stem: { ...plain.stem, norm: "instance" },
    stages: [{ transition: true, blocks }, ...others],
  };
  const file = (name: string, spec: OsnetSpec): { name: string; file: OpenFile } => ({
    name,
    file: { kind: "checkpoint", format: "pth", checkpoint: { ...tinyCheckpoint("block"), spec } },
  });
  expect(() => architectureOf(file("ibn", ibn), file("plain", plain))).toThrow(
    expect.objectContaining({
      problem: expect.objectContaining({ code: "spec", subject: "ibn against plain" }),
    }),
  );
  // A norm in one place may be a fault.
  const stem = { ...plain, stem: ibn.stem };
  expect(() => architectureOf(file("stem", stem), file("plain", plain))).not.toThrow();
});

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
