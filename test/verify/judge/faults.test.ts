import { describe, expect, it } from "vitest";
import type { LayerGraph, LayerNode } from "../../../src/arch/index.js";
import { consequences, numericFaults, outputFaults } from "../../../src/verify/judge/faults.js";
import type { LayerResult, OutputResult, Status } from "../../../src/verify/report.js";
import { graphOf } from "../../convert/export/graphs.js";

const layer = (name: string, ...inputs: string[]): LayerNode => ({
  name,
  op: { kind: "relu" },
  inputs,
  parameters: {},
});
/** a → b → c → d, and e beside them. */
const CHAIN = graphOf(
  layer("a", "images"),
  layer("b", "a"),
  layer("c", "b"),
  layer("d", "c"),
  layer("e", "images"),
);

const result = (name: string, status: Status, margin: number | null = 2): LayerResult => ({
  name,
  op: "relu",
  shape: [1],
  status,
  margin,
  maxAbs: 0.25,
  relMax: 0.5,
  rmse: 0,
  cosine: 1,
  ulp: 0,
  nonFinite: margin === null ? 3 : 0,
});

function blamed(
  graph: LayerGraph,
  verdicts: Readonly<Record<string, LayerResult>>,
): readonly (readonly [layer: string, margin: number | null])[] {
  const tolerance = { rule: "relative-to-max", value: 1e-4 } as const;
  return numericFaults(graph, new Map(Object.entries(verdicts)), tolerance).map((fault) => [
    fault.layer,
    fault.margin,
  ]);
}

describe("numericFaults", () => {
  const pass = (name: string) => result(name, "pass", 0.1);
  const fail = (name: string, margin: number | null = 2) => result(name, "fail", margin);

  it("names where the trouble starts, and nothing downstream", () => {
    expect(blamed(CHAIN, { a: pass("a"), b: fail("b"), c: fail("c", 90), d: fail("d", 99) })).toEqual([
      ["b", 2],
    ]);
  });

  it("does not blame a layer that a fault reaches through one that passes, or was not compared", () => {
    expect(blamed(CHAIN, { a: fail("a"), b: pass("b"), c: fail("c", 90), d: pass("d") })).toEqual([["a", 2]]);
    expect(blamed(CHAIN, { a: fail("a"), d: fail("d", 90) })).toEqual([["a", 2]]);
  });

  it("names independent faults, the worst first, NaN before all", () => {
    expect(blamed(CHAIN, { b: fail("b", 3), e: fail("e", 7) })).toEqual([
      ["e", 7],
      ["b", 3],
    ]);
    expect(blamed(CHAIN, { b: fail("b", null), e: fail("e", 7) })).toEqual([
      ["b", null],
      ["e", 7],
    ]);
  });

  it("finds nothing where all passes", () => {
    expect(blamed(CHAIN, { a: pass("a"), b: pass("b") })).toEqual([]);
  });

  it.each([
    [
      result("b", "fail"),
      "max |actual − expected| 0.250, 5.00e-1 of max, over the tolerance 0.0001; what feeds it agrees",
    ],
    [
      { ...result("b", "fail"), relMax: null },
      "max |actual − expected| 0.250, where the reference is 0 throughout, over the tolerance 0.0001; what feeds it agrees",
    ],
    [result("b", "fail", null), "3 elements are NaN or infinite and do not match"],
  ])("explains %#", (verdict, explanation) => {
    const tolerance = { rule: "relative-to-max", value: 1e-4 } as const;
    const [fault] = numericFaults(CHAIN, new Map([["b", verdict]]), tolerance);
    expect(fault).toMatchObject({ layer: "b", kind: "numeric", explanation });
  });
});

describe("outputFaults", () => {
  const output: OutputResult = {
    layer: "d",
    status: "fail",
    maxAbs: 1,
    relMax: 1,
    cosine: 0,
    normalizedMaxAbs: 1,
    tappingMaxAbs: 0.5,
  };

  it("blames a model that gives another embedding when it is not looked into", () => {
    expect(outputFaults(output, new Map([["d", result("d", "pass")]]))).toEqual([
      {
        layer: "d",
        kind: "numeric",
        margin: null,
        explanation:
          "run without its inner values as outputs, the model gives another embedding (max |difference| 0.500)",
      },
    ]);
  });

  it("says nothing of an embedding that a layer's fault explains, that is right, or that is not there", () => {
    expect(outputFaults(output, new Map([["d", result("d", "fail")]]))).toEqual([]);
    expect(outputFaults({ ...output, status: "pass" }, new Map([["d", result("d", "pass")]]))).toEqual([]);
    expect(outputFaults(null, new Map())).toEqual([]);
  });
});

describe("consequences", () => {
  it("are missing layers that only a faulty one would read, or that are behind one that is another", () => {
    expect([...consequences(CHAIN, new Set(["a", "b"]), new Set(["c"]), [])]).toEqual(["a", "b"]);
    expect([...consequences(CHAIN, new Set(["b", "c"]), new Set(), [{ layer: "a" }])]).toEqual(["b", "c"]);
  });

  it("are none where a right layer reads them, or nothing does", () => {
    expect([...consequences(CHAIN, new Set(["b"]), new Set(["d"]), [])]).toEqual([]);
    expect([...consequences(CHAIN, new Set(["d", "e"]), new Set(["c"]), [{ layer: "b" }])]).toEqual([]);
  });
});
