import { describe, expect, it } from "vitest";
import type { Fault, ParityReport } from "../../../src/verify/outcome/report.js";
import { renderText } from "../../../src/verify/reports/text.js";
import { layerResult, REPORT } from "./report.js";

describe("renderText", () => {
  it("renders a passing report, the worst layers first", () => {
    expect(renderText(REPORT)).toBe(`m.onnx in onnxruntime, against w.pth (osnet_x0_25)
images 2×3×64×32 from seed:0

Worst 2 of 2 layers
  margin: error divided by what tolerance 0.0001 allows; drift: from the reference network
        layer            op       shape  margin   drift  of max    rmse   cosine  ulp
  pass  conv2.0.gate[1]  relu  2×16×8×4     0.5  1.0e-5  5.0e-5  2.0e-6  1−3e-12   12
  pass  conv1.relu       relu  2×16×8×4    0.02  1.0e-5  2.0e-6  2.0e-6  1−3e-12   12

2 gates  range of the candidate's gate vectors, and the largest error
  block    stream 1         stream 2
  conv2.0  0.04–0.85 ±2e-7  0.04–0.85 ±2e-7

Embedding: fc.2, max abs 1.7e-5 (2.7e-6 of max), L2-normalised 7.4e-7, cosine 1.000000
Tap effect: with intermediate values as outputs the embedding changes by 5.5e-6
Weights: 316 of 316 constants are the checkpoint's, 80 layers with a folded batch norm
Coverage: 2 of 2 layers compared, 1 more are folded into the next layer

PASS  2 layers and 2 gates agree within 0.0001 of max`);
  });

  it("shows all layers in network order, and each gate by itself", () => {
    const lines = renderText(REPORT, { layers: true }).split("\n");
    expect(lines).toContain("All 2 layers");
    expect(lines.filter((line) => line.startsWith("  pass  ")).map((line) => line.split(/ +/)[2])).toEqual([
      "conv1.relu",
      "conv2.0.gate[1]",
      "conv2.0",
      "conv2.0",
    ]);
    expect(lines).toContain("  pass  conv2.0       2  0.0400  0.5000  0.8500  2.0e-7");
  });

  const fault: Fault = {
    layer: "conv1.relu",
    kind: "numeric",
    margin: null,
    explanation: "1 element is NaN",
  };
  const FAILING: ParityReport = {
    ...REPORT,
    passed: false,
    faults: [fault],
    layers: [layerResult("conv1.relu", null), ...REPORT.layers.slice(1)],
    gates: REPORT.gates.map((gate) => ({ ...gate, status: "fail" })),
    output: null,
    weights: null,
  };

  it("puts faults first and the verdict last, and NaN above all", () => {
    const text = renderText(FAILING);
    expect(text.split("\n\n")[1]).toBe("Faults\n  numeric conv1.relu: 1 element is NaN");
    expect(text).toContain("  fail  conv1.relu       relu  2×16×8×4       ∞  1.0e-5       ∞  2.0e-6");
    expect(text.indexOf("fail  conv1.relu")).toBeLessThan(text.indexOf("pass  conv2.0.gate[1]"));
    expect(text).toContain("2 gates, 2 failing");
    expect(text).not.toContain("Embedding");
    expect(text.split("\n").at(-1)).toBe("FAIL  1 fault, first at conv1.relu");
  });

  it("shows all faults, and a gate's with its streams", () => {
    const others = Array.from({ length: 22 }, (_, i) => ({ ...fault, layer: `conv${i + 2}.relu` }));
    const gate = { ...fault, layer: "conv2.0.gate[1].fc2", stream: 1, streams: [1, 2, 3] };
    const text = renderText({ ...FAILING, faults: [fault, ...others, gate] });
    expect(text.match(/numeric conv\d+\.relu/g)).toHaveLength(23);
    expect(text.match(/numeric conv2\.0\.gate\[1–3\]\.fc2/g)).toHaveLength(1);
    expect(text.split("\n").at(-1)).toBe("FAIL  24 faults, first at conv1.relu");
  });

  it("tells a layer's own error from its drift where each is judged by its own bound", () => {
    const [first, ...others] = REPORT.layers;
    const layers = [
      { ...first, localMaxAbs: 0, margin: 0 },
      { ...others[0], status: "untested", margin: null },
    ];
    const lines = renderText({
      ...REPORT,
      tolerance: { rule: "derived-bounds" },
      layers: layers as ParityReport["layers"],
    }).split("\n");
    const rows = lines.map((line) => line.trim().split(/ {2,}/).join(" | "));
    expect(rows).toContain("layer | op | shape | margin | local | drift | of max | rmse | cosine | ulp");
    expect(rows).toContain(
      "pass | conv1.relu | relu | 2×16×8×4 | 0 | 0 | 1.0e-5 | 2.0e-6 | 2.0e-6 | 1−3e-12 | 12",
    );
    expect(rows).toContain(
      "untested | conv2.0.gate[1] | relu | 2×16×8×4 | – | – | 1.0e-5 | 5.0e-5 | 2.0e-6 | 1−3e-12 | 12",
    );
  });

  it("paints what is good and bad, and keeps columns straight", () => {
    const paint = {
      good: (text: string) => `\u001b[32m${text}\u001b[39m`,
      bad: String,
      strong: String,
      faint: String,
    };
    const lines = renderText(REPORT, { paint }).split("\n");
    expect(lines.at(-1)).toBe("\u001b[32mPASS\u001b[39m  2 layers and 2 gates agree within 0.0001 of max");
    expect(lines).toContain(
      "  \u001b[32mpass\u001b[39m  conv1.relu       relu  2×16×8×4    0.02  1.0e-5  2.0e-6  2.0e-6  1−3e-12   12",
    );
  });

  it("lets no file's name steer the terminal", () => {
    const text = renderText({
      ...REPORT,
      candidate: { name: "\u001b]0;owned\u0007.onnx", format: "onnx" },
      input: { source: "a\nb", shape: [1] },
      faults: [{ ...fault, layer: "conv1\u001b[2J" }],
    });
    expect([...text].filter((character) => character < " " && character !== "\n")).toEqual([]);
    expect(text).toContain("�]0;owned�.onnx in onnxruntime");
    expect(text).toContain("from a�b\n");
  });
});
