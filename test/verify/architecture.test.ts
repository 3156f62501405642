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

it("of two checkpoints, what one has and the other lacks is another network, and not left out", () => {
  const checkpoint = tinyCheckpoint("block");
  const { spec } = checkpoint;
  const file = (name: string, spec: OsnetSpec): { name: string; file: OpenFile } => ({
    name,
    file: { kind: "checkpoint", format: "pth", checkpoint: { ...checkpoint, spec } },
  });
  const streams = spec.stages.map((stage) => ({
    ...stage,
    blocks: stage.blocks.map((block) => ({ ...block, streams: block.streams + 1 })),
  }));
  const others: readonly OsnetSpec[] = [
    { ...spec, embedding: [...spec.embedding, 8] },
    { ...spec, embedding: [] },
    { ...spec, stem: { ...spec.stem, norm: "instance" } },
    { ...spec, stages: streams },
  ];
  for (const other of others)
    for (const [one, two] of [
      [other, spec],
      [spec, other],
    ] as const)
      expect(() => architectureOf(file("a", one), file("b", two))).toThrow(
        expect.objectContaining({
          problem: expect.objectContaining({ code: "spec", subject: "a against b" }),
        }),
      );
  // Its classifier may be of another set.
  const head = spec.head && { ...spec.head, classes: 99 };
  expect(architectureOf(file("a", { ...spec, head }), file("b", spec))).toBe(checkpoint.graph);
});
