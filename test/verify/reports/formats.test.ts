import { XMLParser } from "fast-xml-parser";
import { describe, expect, it } from "vitest";
import { compareToBaseline } from "../../../src/verify/outcome/baseline.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { renderReport, renderSuite } from "../../../src/verify/reports/index.js";
import { renderText } from "../../../src/verify/reports/text.js";
import { suiteReport } from "../../../src/verify/suite/report.js";
import { hostileReport } from "../../support/hostile.js";
import { schemaOf } from "../../support/schemas.js";
import { layerResult, REPORT } from "./report.js";

const FAILING: ParityReport = {
  ...REPORT,
  passed: false,
  faults: [
    {
      layer: "conv2.0.gate[1].fc1",
      stream: 1,
      kind: "weights",
      margin: null,
      explanation: "1 of 24 values differ",
    },
    { layer: "conv1.relu", kind: "numeric", margin: 2140, explanation: "2140 times its bound" },
  ],
  layers: [layerResult("conv1.relu", 2140), ...REPORT.layers.slice(1)],
};

it("HTML links a fault to its cell and its row, and says at the top what the verdict rests on", async () => {
  const page = await renderReport(FAILING, "html");
  const links = [...page.matchAll(/href="#((?:cell|layer)-\d+)"/g)].map(([, id]) => id);
  expect(links).toContain("layer-0");
  for (const id of links) expect(page.split(` id="${id}"`)).toHaveLength(2);
  const proof = { status: "proven", grounds: ["every operator"], images: 2 } as const;
  const proven = await renderReport({ ...REPORT, proof }, "html");
  expect(proven.slice(0, proven.indexOf("<main"))).toContain("<dd>Proven</dd>");
  const within = { ...REPORT, proof: { ...proof, within: 256 } };
  expect(await renderReport(within, "html")).toContain("for all images within ±256, not only for these");
  expect(await renderReport(within, "md")).toContain("proven for all images within ±256");
});

const suite = suiteReport("nightly", [
  {
    id: "a · onnx · onnxruntime",
    model: "a",
    candidate: "onnx",
    backend: "onnxruntime",
    status: "pass",
    fingerprint: "0",
    report: REPORT,
    error: null,
    run: { cached: true, seconds: 1 },
  },
  {
    id: "b · onnx · onnxruntime",
    model: "b",
    candidate: "onnx",
    backend: "onnxruntime",
    status: "fail",
    fingerprint: "1",
    report: FAILING,
    error: null,
  },
  {
    id: "c · onnx",
    model: "c",
    candidate: "onnx",
    backend: "auto",
    status: "error",
    fingerprint: null,
    report: null,
    error: "c.onnx: found no such file",
  },
]);

describe("JSON", () => {
  const validate = schemaOf("osnet-parity-1.schema.json");

  it.each([
    ["passing", REPORT],
    ["failing", FAILING],
    ["compared", compareToBaseline(FAILING, REPORT, { name: "old.json" })],
    ["with everything in it", hostileReport("x")],
  ])("a report that is %s is valid against the published schema", async (_, report) => {
    validate(JSON.parse(await renderReport(report, "json")));
    expect(validate.errors).toBeNull();
  });

  it("a suite is valid, and a report with a surplus key is not", async () => {
    const validateSuite = schemaOf("osnet-parity-suite-1.schema.json");
    validateSuite(JSON.parse(await renderSuite(suite, "json")));
    expect(validateSuite.errors).toBeNull();
    expect(validate({ ...REPORT, surplus: 1 })).toBe(false);
  });
});

describe("JUnit XML", () => {
  const parse = (xml: string) =>
    new XMLParser({ ignoreAttributes: false, isArray: (name) => /^(testcase|testsuite)$/.test(name) }).parse(
      xml,
    ).testsuites.testsuite;

  it("has a case for each part and each gate, and counts what it lists", async () => {
    const [one] = parse(await renderReport(FAILING, "xml"));
    const failed = one.testcase.filter((test: { failure?: object }) => test.failure);
    expect(one["@_tests"]).toBe(String(one.testcase.length));
    expect(one["@_failures"]).toBe(String(failed.length));
    const byName = new Map(
      one.testcase.map((test: Record<string, unknown>) => [test["@_name"], test.failure]),
    );
    expect(byName.get("conv1: 1 layer (1 of 1 differ)")).toMatchObject({
      "@_type": "numeric",
      "#text": "conv1.relu: 2140 times its bound (margin 2140)",
    });
    expect(byName.get("conv2.0 gate of stream 1")).toMatchObject({ "@_type": "weights" });
    expect(byName.has("conv2.0 gate of stream 2")).toBe(true);
    expect(byName.get("conv2.0 gate of stream 2")).toBeUndefined();
  });

  it.each([
    ["none", "no layer", 1],
    ["another layer", "conv1.relu", 0],
    ["the embedding", "fc.2", 1],
  ])("has a failure of the embedding where the fault is at: %s", async (_, layer, count) => {
    const { output } = REPORT;
    const fault = { layer, kind: "numeric", margin: 2, explanation: "" } as const;
    const [one] = parse(
      await renderReport(
        {
          ...REPORT,
          faults: layer === "no layer" ? [] : [fault],
          output: output && { ...output, layer: "fc.2", status: "fail" },
        },
        "xml",
      ),
    );
    const failed = one.testcase.filter((test: { failure?: object }) => test.failure);
    const ofEmbedding = failed.filter((test: Record<string, string>) => test["@_name"] === "embedding fc.2");
    expect(ofEmbedding).toHaveLength(count);
  });

  it("has cases for what was run again, and for images with one embedding", async () => {
    const { output } = REPORT;
    const alone = { how: "alone", images: 2, status: "fail", maxAbs: 0.5, relMax: 0.2 } as const;
    const unoptimised = { ...alone, how: "unoptimised", status: "pass" } as const;
    const [one] = parse(
      await renderReport(
        {
          ...REPORT,
          output: output && { ...output, reruns: [unoptimised, alone] },
          vacuity: { untested: [], collapsed: [[0, 1]] },
        },
        "xml",
      ),
    );
    const byName = new Map(
      one.testcase.map((test: Record<string, unknown>) => [test["@_name"], test.failure ?? test.skipped]),
    );
    expect(byName.has("embedding: Without optimisations")).toBe(true);
    expect(byName.get("embedding: Without optimisations")).toBeUndefined();
    expect(byName.get("embedding: 2 images alone")).toMatchObject({
      "@_type": "structure",
      "#text": "changes the embedding by 5.0e-1 (2.0e-1 of max)",
    });
    expect(byName.get("different images have different embeddings")).toMatchObject({
      "@_message": "images with the same embedding: 0 and 1",
    });
  });

  it("a suite has one test suite per entry, and an unusable file is an error", async () => {
    const suites = parse(await renderSuite(suite, "xml"));
    expect(suites.map((one: Record<string, string>) => [one["@_name"], one["@_errors"]])).toEqual([
      ["c · onnx", "1"],
      ["b · onnx · onnxruntime", "0"],
      ["a · onnx · onnxruntime", "0"],
    ]);
  });
});

describe("Markdown", () => {
  it("says the verdict first, then faults, worst layers, gates", async () => {
    const text = await renderReport(FAILING, "md");
    expect(
      text.startsWith("## ❌ Parity does not hold: `m.onnx`\n\n**2 faults, first at `conv2.0.gate"),
    ).toBe(true);
    const order = ["### Faults", "### Worst 2 of 2 layers", "### 2 gates"].map((heading) =>
      text.indexOf(heading),
    );
    expect(order.every((at, index) => at > (order[index - 1] ?? 0))).toBe(true);
    expect(text).toContain("| `conv1.relu` | numeric | 2140 | 2140 times its bound |");
  });

  it("stays under 60 KB whatever the model is called and however large it is", async () => {
    const name = `${"|`<é&".repeat(200)}`;
    const [gate] = REPORT.gates;
    if (!gate) throw new Error("no gate");
    const huge: ParityReport = {
      ...hostileReport(name),
      faults: Array.from({ length: 500 }, () => ({
        layer: name,
        kind: "numeric",
        margin: 2,
        explanation: name,
      })),
      layers: Array.from({ length: 5000 }, (_, index) => layerResult(`${name}${index}`, 2)),
      gates: Array.from({ length: 4000 }, (_, index) => ({
        ...gate,
        block: `${name}${index >> 4}`,
        stream: index % 16,
      })),
    };
    for (const text of [
      await renderReport(huge, "md"),
      await renderSuite(
        suiteReport(
          name,
          Array.from({ length: 900 }, (_, index) => ({
            id: `${index} ${name}`,
            model: name,
            candidate: name,
            backend: "onnxruntime",
            status: "fail" as const,
            fingerprint: null,
            report: huge,
            error: null,
          })),
        ),
        "md",
      ),
    ])
      expect(Buffer.byteLength(text)).toBeLessThan(60_000);
  });
});

describe("SARIF", () => {
  it("has a result per fault, at the model's path, with its layer", async () => {
    const { version, runs } = JSON.parse(await renderReport(FAILING, "sarif", { path: "models/m 1.onnx" }));
    expect(version).toBe("2.1.0");
    const { results, tool } = runs[0];
    expect(results).toHaveLength(2);
    expect(results[1]).toMatchObject({
      ruleId: "osnet/numeric",
      level: "error",
      locations: [
        {
          physicalLocation: { artifactLocation: { uri: "models/m%201.onnx" } },
          logicalLocations: [{ fullyQualifiedName: "conv1.relu" }],
        },
      ],
    });
    for (const { ruleId, ruleIndex } of results) expect(tool.driver.rules[ruleIndex].id).toBe(ruleId);
  });
});

/** As many faults as fit into Markdown: of layers by themselves, of a gate in all streams, and of one in two. */
const MANY: ParityReport = {
  ...FAILING,
  faults: [
    ...Array.from({ length: 25 }, (_, i) => ({
      layer: `conv4.${i}.conv1.conv`,
      kind: "numeric" as const,
      margin: i + 2,
      explanation: `weight ${i} is another`,
    })),
    {
      layer: "conv2.0.gate[1].fc1",
      stream: 1,
      streams: [1, 2],
      kind: "weights",
      margin: 7,
      cause: "bias",
      explanation: "1 of 24 values differ",
    },
    {
      layer: "conv2.0.gate[2]",
      stream: 2,
      kind: "numeric",
      margin: null,
      explanation: "1 element is NaN",
    },
  ],
};

describe("every report counts the same faults and shows all of them", () => {
  const { faults } = MANY;
  const explanations = [...new Set(faults.map(({ explanation }) => explanation))];
  const many = suiteReport("nightly", [
    {
      id: "a · onnx",
      model: "a",
      candidate: "onnx",
      backend: "auto",
      status: "fail",
      fingerprint: "0",
      report: MANY,
      error: null,
    },
  ]);
  const { length: count } = faults;

  it("of one model", async () => {
    const [json, sarif, md, page, xml, text] = [
      await renderReport(MANY, "json"),
      await renderReport(MANY, "sarif"),
      await renderReport(MANY, "md"),
      await renderReport(MANY, "html"),
      await renderReport(MANY, "xml"),
      renderText(MANY),
    ];
    expect(JSON.parse(json).faults).toHaveLength(count);
    expect(JSON.parse(sarif).runs[0].results).toHaveLength(count);
    expect(md).toContain(`**${count} faults, first at \`conv4.0.conv1.conv\`**`);
    expect(page).toContain(`>${count} faults</h2>`);
    expect(page.match(/<li class=""><div class="what">/g)).toHaveLength(count);
    expect(xml).toContain(`<property name="faults" value="${count}"/>`);
    expect(text.split("\n").at(-1)).toBe(`FAIL  ${count} faults, first at conv4.0.conv1.conv`);
    for (const report of [json, sarif, md, page, xml, text])
      for (const explanation of explanations) expect(report).toContain(explanation);
    for (const report of [md, page, text, xml, sarif]) expect(report).toContain("conv2.0.gate[1, 2].fc1");
  });

  it("of a suite", async () => {
    const [json, sarif, md, page, xml] = [
      await renderSuite(many, "json"),
      await renderSuite(many, "sarif"),
      await renderSuite(many, "md"),
      await renderSuite(many, "html"),
      await renderSuite(many, "xml"),
    ];
    expect(JSON.parse(json).faults).toHaveLength(count);
    expect(JSON.parse(sarif).runs[0].results).toHaveLength(count);
    expect(md).toContain(`${count} faults, first at`);
    expect(page.match(/<li class=""><div class="what">/g)).toHaveLength(count);
    expect(xml).toContain(`<property name="faults" value="${count}"/>`);
    for (const report of [json, sarif, md, page, xml])
      for (const explanation of explanations) expect(report).toContain(explanation);
  });

  it("a gate's test cases fail in each of its streams, and its results name each of its layers", async () => {
    const xml = await renderReport(MANY, "xml");
    expect(xml.match(/>conv2\.0\.gate\[1, 2\]\.fc1: 1 of 24 values differ \(margin 7\)/g)).toHaveLength(2);
    const { results } = JSON.parse(await renderReport(MANY, "sarif")).runs[0];
    const layers = results[25].locations[0].logicalLocations.map(
      ({ fullyQualifiedName }: { fullyQualifiedName: string }) => fullyQualifiedName,
    );
    expect(layers).toEqual(["conv2.0.gate[1].fc1", "conv2.0.gate[2].fc1"]);
  });

  it("and is valid against the published schemas", () => {
    const validate = schemaOf("osnet-parity-1.schema.json");
    validate(MANY);
    expect(validate.errors).toBeNull();
    const validateSuite = schemaOf("osnet-parity-suite-1.schema.json");
    validateSuite(JSON.parse(JSON.stringify(many)));
    expect(validateSuite.errors).toBeNull();
  });
});

it.each(["json", "md", "xml", "html", "sarif"] as const)(
  "%s is the same for the same result",
  async (format) => {
    expect(await renderReport(structuredClone(FAILING), format)).toBe(await renderReport(FAILING, format));
    expect(await renderSuite(structuredClone(suite), format)).toBe(await renderSuite(suite, format));
  },
);

it.each(["md", "html"] as const)("%s says that different images have the same embedding", async (format) => {
  const vacuity = { untested: [], collapsed: [[0, 1]] } as const;
  const sentence = "different images have the same embedding: 0 and 1";
  expect(await renderReport({ ...REPORT, vacuity }, format)).toContain(sentence);
  expect(await renderReport(REPORT, format)).not.toContain(sentence);
});
