import type { ParityReport } from "../../src/verify/outcome/report.js";
import { REPORT } from "../verify/reports/report.js";

/** What a model file may call its tensors to harm whoever reads a report. */
export const HOSTILE: readonly string[] = [
  "</script><script>alert(1)</script>",
  '"><img src=x onerror=alert(1)>',
  "]]><evil/>",
  "\u001b]0;owned\u0007\u001b[2J",
  "a | b `c` ``` <!-- @everyone #1 [x](http://evil.example) ![y](http://evil.example/z)",
  "=cmd|'/c calc'!A1",
  "\u202egnp.exe",
  "lone \ud800 half \uffff",
  "line\nbreak\r\n## heading",
  "\u2028::error::owned\u200b\u2066",
  "long".repeat(300_000),
];

/** A failing report that says every hostile text in every place that a file's names reach. */
export function hostileReport(text: string): ParityReport {
  return {
    ...REPORT,
    candidate: { name: text, format: "onnx" },
    reference: { name: text, format: "pth" },
    input: { source: text, shape: [1] },
    passed: false,
    faults: [{ layer: text, kind: "structure", margin: null, explanation: text }],
    layers: REPORT.layers.map((layer) => ({ ...layer, name: `${text}${layer.name}`, op: text })),
    gates: REPORT.gates.map((gate) => ({
      ...gate,
      block: text,
      channels: { reference: [0.2, 0.8], candidate: [0.2, 0.8], maxAbs: [0, 1e-7] },
    })),
    baseline: {
      name: text,
      factor: 2,
      policy: "warn",
      regressions: [{ layer: text, figure: "drift", before: 1e-6, after: null }],
      improvements: [],
      added: [text],
      removed: [],
      notes: [text],
    },
  };
}
