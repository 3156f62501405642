import { describe, expect, it } from "vitest";
import { expand } from "../../../src/arch/expand.js";
import { withoutNorms } from "../../../src/convert/export/write.js";
import { fileOutputs } from "../../../src/convert/open/lift.js";
import { SMALL_SPEC } from "../export/graphs.js";

const graph = expand(SMALL_SPEC);
const { features = "", logits = "" } = graph.outputs;
const plain = (name: string, layer: string) => ({ name, layer, tail: [], operations: [] });
const floors = [{ of: "length", how: "max", epsilon: 1e-12 } as const];
const unit = (name: string, layer: string) => ({
  name,
  layer,
  tail: ["l2Normalize"],
  operations: [{ kind: "l2Normalize" as const, floors }],
});
const outputsOf = (...outputs: Parameters<typeof fileOutputs>[0]["outputs"]) =>
  fileOutputs(
    { graph, outputs },
    outputs.map(({ name }) => name),
  );

describe("what a file gives", () => {
  it("are its results, in its order", () => {
    expect(outputsOf(plain("b", logits), plain("a", features))).toEqual({
      results: [
        { kind: "logits", name: "b" },
        { kind: "features", name: "a" },
      ],
      hasGates: false,
      beyond: [],
    });
  });

  it("may be divided by its L2 norm, beside the result as it is", () => {
    const both = outputsOf(plain("a", features), unit("b", features));
    expect(both.results).toEqual([
      { kind: "features", name: "a" },
      { kind: "features", name: "b", floors },
    ]);
    expect(both.beyond).toEqual([]);
    const without = withoutNorms(both);
    expect(without.results).toEqual([{ kind: "features", name: "a" }]);
    expect(without.beyond).toMatchObject([{ kind: "tail", output: "b", isL2: true }]);
  });

  it("is the network's where only a changed one is given", () => {
    const changed = outputsOf({ name: "a", layer: features, tail: ["Slice"], operations: undefined });
    expect(changed.results).toEqual([{ kind: "features", name: "a" }]);
    expect(changed.beyond).toMatchObject([{ kind: "tail", output: "a", isL2: false }]);
  });

  it("are its gates, if they are all there, and no layer besides", () => {
    const gates = graph.gates.map(({ layer }) => plain(layer, layer));
    expect(outputsOf(plain("a", features), ...gates)).toMatchObject({ hasGates: true, beyond: [] });
    expect(outputsOf(plain("a", features), ...gates.slice(1)).beyond).toHaveLength(gates.length - 1);
    expect(outputsOf(plain("a", features), plain("b", "conv1.relu")).beyond).toMatchObject([{ output: "b" }]);
  });
});
