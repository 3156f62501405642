import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import type { Checkpoint } from "../../src/convert/open/checkpoint.js";
import { openVerification } from "../../src/verify/open.js";
import type { ParityReport } from "../../src/verify/outcome/report.js";
import { type SuiteEntry, type SuiteReport, suiteReport } from "../../src/verify/suite/report.js";
import { verify } from "../../src/verify/verify.js";
import { openFixture, openReference, SMALL, withTensor, withValues } from "./osnet.js";

interface ReportOptions {
  /** Otherwise a gate's bias is changed. */
  readonly good?: boolean;
  /** Default: a real network. */
  readonly checkpoint?: Checkpoint;
}

/** The report of a model, small images. */
export async function reportOf({
  good = false,
  checkpoint = openFixture(),
}: ReportOptions = {}): Promise<ParityReport> {
  const { graph, stateDict } = checkpoint;
  const wrong = withTensor(stateDict, "conv3.0.gate.fc2.bias", (tensor) => withValues(tensor, { 5: 2.5 }));
  const bytes = encodeOnnx(lowerToOnnx(graph, good ? stateDict : wrong, { size: SMALL }));
  return verify(
    await openVerification({ name: "osnet_x0_25.onnx", bytes }, openReference(checkpoint, "osnet_x0_25.pth")),
  );
}

/** A suite of as many models as asked for, the eighth of which fails. */
export function suiteOf(count: number, good: ParityReport, bad: ParityReport): SuiteReport {
  const entries = Array.from({ length: count }, (_, index): SuiteEntry => {
    const report = index === 7 ? bad : good;
    const [model, candidate, backend] = [`model-${index}`, "onnx", "onnxruntime"] as const;
    return {
      id: [model, candidate, backend].join(" · "),
      model,
      candidate,
      backend,
      status: report.passed ? "pass" : "fail",
      fingerprint: null,
      report,
      error: null,
      run: { cached: index % 3 === 0, seconds: 1.5 },
    };
  });
  return suiteReport(`${count} models`, entries);
}
