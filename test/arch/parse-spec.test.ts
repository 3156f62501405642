import { describe, expect, it } from "vitest";
import { parseSpec, VARIANT_NAMES, variant } from "../../src/arch/index.js";
import { InputError } from "../../src/core/errors.js";

const SPEC = variant("osnet_ain_x0_25");
const parse = (value: unknown): ReturnType<typeof parseSpec> => parseSpec(JSON.stringify(value), "spec.json");

function refusal(text: string): InputError {
  try {
    parseSpec(text, "spec.json");
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error("not refused");
}

describe("parseSpec", () => {
  it.each(VARIANT_NAMES)("reads %s back", (name) => {
    expect(parse(variant(name))).toEqual(variant(name));
  });

  it("reads a network without classifier and embedding", () => {
    expect(parse({ ...SPEC, head: null, embedding: [] })).toEqual({ ...SPEC, head: null, embedding: [] });
  });

  it.each([
    ["text that is not JSON", "{"],
    ["the spec: expected an object", "[]"],
    ["the spec: expected an object", "null"],
    [
      'dialect: found "osnet2", expected "osnet" or "osnet_ain"',
      JSON.stringify({ ...SPEC, dialect: "osnet2" }),
    ],
    ['pooling: found nothing, expected "avg" or "max"', JSON.stringify({ ...SPEC, pooling: undefined })],
    ["stem: expected an object", JSON.stringify({ ...SPEC, stem: 64 })],
    ["embedding: expected a list", JSON.stringify({ ...SPEC, embedding: 512 })],
    ['embedding[1]: found "512", expected a number', JSON.stringify({ ...SPEC, embedding: [512, "512"] })],
    ["width: unknown field", JSON.stringify({ ...SPEC, width: 0.25 })],
    [
      "gate.layerNorm: found 1, expected true or false",
      JSON.stringify({ ...SPEC, gate: { ...SPEC.gate, layerNorm: 1 } }),
    ],
    [
      "stages[0].blocks: expected a list",
      JSON.stringify({ ...SPEC, stages: [{ ...SPEC.stages[0], blocks: {} }] }),
    ],
  ])("refuses: %s", (found, text) => {
    const { message, details } = refusal(text);
    expect(message).toBe(
      `spec.json: found ${found}, expected an OSNet architecture description; see docs/architecture.md for its fields.`,
    );
    expect(details).toEqual([]);
  });

  it("lists all problems, by their paths", () => {
    const [first, ...stages] = SPEC.stages;
    const blocks = [{ ...first?.blocks[0], streams: "4", instanceNorm: "some" }, null];
    const { message, details } = refusal(
      JSON.stringify({
        ...SPEC,
        head: { classes: 5, loss: "arcface" },
        stages: [{ ...first, blocks }, ...stages],
      }),
    );
    expect(message).toContain("spec.json: found 4 problems, expected");
    expect(details).toEqual([
      'head.loss: found "arcface", expected "softmax" or "triplet" or "sigmoid"',
      'stages[0].blocks[0].streams: found "4", expected a number',
      'stages[0].blocks[0].instanceNorm: found "some", expected "none" or "inside" or "outside" or "both"',
      "stages[0].blocks[1]: expected an object",
    ]);
  });

  it("refuses numbers that no network has", () => {
    expect(refusal(JSON.stringify({ ...SPEC, stem: { ...SPEC.stem, channels: 0.5 } })).details).toContain(
      "stem.channels 0.5, which is not a positive whole number",
    );
  });

  it("does not take inherited fields for the spec's", () => {
    expect(refusal('{"__proto__": {"dialect": "osnet"}}').details).toContain("__proto__: unknown field");
  });
});
