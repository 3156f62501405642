import { describe, expect, it } from "vitest";
import type { LayerGraph, LayerNode } from "../../../src/arch/index.js";
import type { Explanation } from "../../../src/verify/explain/index.js";
import { consequences, numericFaults, outputFaults } from "../../../src/verify/judge/faults.js";
import { mergeFaults } from "../../../src/verify/judge/find-faults.js";
import type {
  Fault,
  FaultDraft,
  LayerResult,
  OutputResult,
  Status,
} from "../../../src/verify/outcome/report.js";
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
      "max |actual − expected| 0.250, 5.00e-1 of max, over the tolerance 0.0001; its inputs agree",
    ],
    [
      { ...result("b", "fail"), relMax: null },
      "max |actual − expected| 0.250, where the reference is 0 throughout, over the tolerance 0.0001; its inputs agree",
    ],
    [result("b", "fail", null), "3 elements are NaN or infinite and do not match"],
  ])("explains %#", (verdict, explanation) => {
    const tolerance = { rule: "relative-to-max", value: 1e-4 } as const;
    const results = new Map([
      ["a", pass("a")],
      ["b", verdict],
    ]);
    const [fault] = numericFaults(CHAIN, results, tolerance);
    expect(fault).toMatchObject({ layer: "b", kind: "numeric", explanation });
  });

  it("does not say of inputs that were not compared that they agree", () => {
    const tolerance = { rule: "relative-to-max", value: 1e-4 } as const;
    const [fault] = numericFaults(CHAIN, new Map([["b", result("b", "fail")]]), tolerance);
    expect(fault?.explanation).toMatch(/; its inputs were not compared$/);
  });
});

describe("mergeFaults, of streams", () => {
  const fault = (stream: number, margin: number | null, more: Partial<FaultDraft> = {}): FaultDraft => ({
    layer: `conv2.0.gate[${stream}].fc2`,
    stream,
    kind: "numeric",
    margin,
    explanation: `off by ${margin}`,
    ...more,
  });
  const found = (layer: string, says: string, margin: number): [string, Explanation] => [
    layer,
    { cause: "gates-crossed", says, sentence: `${says}: the error falls from ${margin}` },
  ];

  it("puts a gate's fault in several streams together, with the largest margin", () => {
    const [first, last] = [fault(1, 3), fault(3, 9)];
    const other: Fault = { layer: "fc.0", kind: "numeric", margin: 5, explanation: "off by 5" };
    expect(mergeFaults(CHAIN, [first, other, last], new Map())).toEqual([
      { ...last, layer: first.layer, stream: 1, streams: [1, 3] },
      other,
    ]);
    expect(mergeFaults(CHAIN, [first, fault(2, null)], new Map())[0]).toMatchObject({ margin: null });
  });

  it("has one fault for a shared parameter, explained where its values show it", () => {
    const explanation = "fc2.bias: 1 of 24 values differ";
    const bias = {
      cause: "bias",
      says: "channel 3 has 1 too much",
      sentence: "channel 3 has 1 too much: so",
    };
    const streams: Fault[] = [
      fault(1, null, { kind: "weights", explanation }),
      fault(2, 4, {
        kind: "weights",
        explanation: `${explanation}; ${bias.sentence}`,
        says: explanation,
        cause: "bias",
      }),
    ];
    const merged = mergeFaults(CHAIN, streams, new Map([["conv2.0.gate[2].fc2", bias as Explanation]]));
    expect(merged).toHaveLength(1);
    expect(merged[0]).toMatchObject({ layer: "conv2.0.gate[1].fc2", streams: [1, 2], cause: "bias" });
    expect(merged[0]?.explanation).toContain(bias.sentence);
  });

  it("keeps apart what is wrong in other ways", () => {
    const cause = "gates-crossed";
    const crossed = [1, 2].map((stream) => fault(stream, 2, { layer: `conv2.0.gate[${stream}]`, cause }));
    const explanations = new Map([
      found("conv2.0.gate[1]", "stream 2's gate is applied", 2),
      found("conv2.0.gate[2]", "stream 1's gate is applied", 3),
    ]);
    expect(mergeFaults(CHAIN, crossed, explanations)).toEqual(crossed);
    const shared = new Map([
      found("conv2.0.gate[1]", "stream 3's gate is applied", 2),
      found("conv2.0.gate[2]", "stream 3's gate is applied", 3),
    ]);
    expect(mergeFaults(CHAIN, crossed, shared)).toHaveLength(1);
    const structures: Fault[] = ["Relu", "Elu"].map((explanation, i) =>
      fault(i + 1, null, { kind: "structure", explanation }),
    );
    expect(mergeFaults(CHAIN, structures, new Map())).toEqual(structures);
  });
});

describe("mergeFaults, of layers", () => {
  it("a norm that was moved in each block is one", () => {
    const blocks = ["conv2.0", "conv2.1", "conv3.0"];
    const inBlock = (block: string, name: string): LayerNode => ({
      ...layer(`${block}.${name}`, "images"),
      block,
    });
    const network = graphOf(
      ...blocks.flatMap((block) => [inBlock(block, "add"), inBlock(block, "IN")]),
      layer("end", "images"),
    );
    const faults = blocks.flatMap((block): FaultDraft[] => {
      const explanation = `found an instance norm before ${block}, expected one after ${block}.conv3`;
      const fault = { kind: "structure", margin: null, explanation } as const;
      return [
        { ...fault, layer: `${block}.add`, difference: "second" },
        { ...fault, layer: `${block}.IN` },
      ];
    });
    expect(mergeFaults(network, faults, new Map())).toMatchObject([{ layer: "conv2.0.IN" }]);
    expect(mergeFaults(network, faults.slice(0, 2), new Map())).toMatchObject([{ layer: "conv2.0.IN" }]);
    const worst = faults.flatMap((fault, at) => (at % 2 === 0 ? [] : { ...fault, margin: at }));
    const [merged] = mergeFaults(network, worst, new Map());
    expect(merged).toMatchObject({ layer: "conv2.0.IN", margin: 5 });
    expect(merged?.explanation).toContain("expected one after conv2.0.conv3");
  });

  const found = (explanation: string) => (layer: string) =>
    ({ layer, kind: "structure", margin: null, explanation }) as const;

  it("makes one fault of the same difference in many layers, and keeps two apart", () => {
    const [clips, others] = [["a", "c", "d"].map(found("Clip")), ["b", "e"].map(found("Elu"))];
    expect(mergeFaults(CHAIN, [...clips, ...others], new Map())).toEqual([
      { ...clips[0], explanation: "Clip; the same at 3 of 5 layers of its kind" },
      ...others,
    ]);
  });

  it("keeps the same operator with other numbers apart where the values show them", () => {
    const cause = "relu-other" as const;
    const leaky = ["a", "b", "c", "d", "e"].map((layer) => ({
      ...found("LeakyRelu")(layer),
      ...(layer === "d" ? {} : { cause }),
    }));
    const explanations = new Map(
      leaky.map(({ layer }) => [
        layer,
        { cause, says: layer === "e" ? "slope 0.3" : "slope 0.1", sentence: "so" },
      ]),
    );
    const merged = mergeFaults(CHAIN, leaky, explanations);
    // Of "d" nothing is shown.
    expect(merged.map(({ layer }) => layer)).toEqual(["a", "d", "e"]);
    expect(merged[0]?.explanation).toContain("the same at 3 of 5 layers");
    const streams = [1, 2, 3].map((stream) => ({ ...found("Elu")(`gate[${stream}].relu`), stream, cause }));
    const slopes = new Map(
      streams.map(({ layer, stream }) => [layer, { cause, says: `slope ${stream >> 1}`, sentence: "so" }]),
    );
    expect(mergeFaults(CHAIN, streams, slopes).map((fault) => fault.streams)).toEqual([undefined, [2, 3]]);
  });

  it("goes by the explanation of weights", () => {
    const others = (cause: "kernel-transposed" | "weights-other") =>
      ["a", "b", "c"].map(
        (layer) =>
          ({ layer, kind: "weights", margin: 1, cause, explanation: `${layer}.weight: turned` }) as const,
      );
    const explanations = new Map(
      ["a", "b", "c"].map((layer) => [
        layer,
        { cause: "kernel-transposed", says: "turned", sentence: "turned: so" } as const,
      ]),
    );
    expect(mergeFaults(CHAIN, others("kernel-transposed"), explanations)).toHaveLength(1);
    expect(mergeFaults(CHAIN, others("weights-other"), explanations)).toHaveLength(3);
  });

  it("counts a gate once for all its streams", () => {
    const gates = [1, 2, 3].map((stream) => ({ ...found("Clip")(`gate[${stream}].relu`), stream }));
    const names = [...gates.map(({ layer }) => layer), "f", "g"];
    const graph = graphOf(...CHAIN.nodes, ...names.map((name) => layer(name, "images")));
    expect(mergeFaults(graph, gates, new Map())).toEqual([{ ...gates[0], streams: [1, 2, 3] }]);
    const all = [...["a", "b"].map(found("Clip")), ...gates];
    expect(mergeFaults(graph, all, new Map())).toEqual([
      { ...all[0], explanation: "Clip; the same at b, gate[1].relu" },
    ]);
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
          "without intermediate values as outputs, the model computes a different embedding (max |difference| 0.500)",
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
  it("are missing layers that only a faulty one would read, or that follow a replaced one", () => {
    expect([...consequences(CHAIN, new Set(["a", "b"]), new Set(["c"]), [])]).toEqual(["a", "b"]);
    expect([...consequences(CHAIN, new Set(["b", "c"]), new Set(), [{ layer: "a" }])]).toEqual(["b", "c"]);
  });

  it("do not occur if a correct layer reads them, or nothing does", () => {
    expect([...consequences(CHAIN, new Set(["b"]), new Set(["d"]), [])]).toEqual([]);
    expect([...consequences(CHAIN, new Set(["d", "e"]), new Set(["c"]), [{ layer: "b" }])]).toEqual([]);
  });
});
