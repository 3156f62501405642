import type { BaselineComparison, Fault, ParityReport, Rerun, Vacuity } from "../../report.js";
import { formatError, formatMargin, plural } from "../facts.js";
import { rerunFinding } from "../findings.js";
import { groupLayers, type LayerGroup } from "../groups.js";
import type { TestCase } from "./xml.js";

type Outcome = Pick<TestCase, "outcome">;

/** Lines of one failure. */
const MOST = 20;

/** A test case for each part of the network, for each gate, and for what stands beside them: weights, embedding, baseline. */
export function testCases(report: ParityReport, className: string): readonly TestCase[] {
  return [
    ...groupLayers(report).flatMap((group) => [
      { ...groupCase(report, group), className },
      ...gateCases(group).map((one) => ({ ...one, className })),
    ]),
    ...wholeCases(report).map((one) => ({ ...one, className })),
  ];
}

type Unclassed = Omit<TestCase, "className">;

function groupCase({ faults }: ParityReport, group: LayerGroup): Unclassed {
  const own = group.faults.filter((fault) => !isOfGate(fault, group));
  const failing = group.layers.filter(({ status }) => status === "fail").length;
  // Layers that differ only because of a fault before them are no failure of this part.
  const note = failing > 0 && faults.length > 0 ? ` (${failing} of ${group.layers.length} differ)` : "";
  return {
    name: `${group.name}: ${plural(group.layers.length, "layer")}${own.length > 0 ? note : ""}`,
    ...faultOutcome(own),
  };
}

function gateCases(group: LayerGroup): readonly Unclassed[] {
  return group.gates.map((gate) => {
    const own = group.faults.filter((fault) => isOfGate(fault, group) && (fault.stream ?? 0) === gate.stream);
    const name = `${gate.block} gate of stream ${gate.stream}`;
    if (own.length > 0 || gate.status !== "untested") return { name, ...faultOutcome(own) };
    const text = "the images do not exercise this gate";
    return { name, outcome: { kind: "skipped", type: "untested", text } };
  });
}

/** A fault inside a gate whose stream has a test case of its own. */
function isOfGate({ layer, stream }: Fault, { gates }: LayerGroup): boolean {
  return layer.includes(".gate[") && gates.some((gate) => gate.stream === stream);
}

function wholeCases({ output, weights, vacuity, baseline, faults }: ParityReport): readonly Unclassed[] {
  const cases: Unclassed[] = [];
  if (weights)
    cases.push({
      name: `weights: ${weights.identical} of ${weights.compared} constants are the checkpoint's`,
      ...faultOutcome(faults.filter(({ kind }) => kind === "weights")),
    });
  if (output) {
    const text = `max abs ${formatError(output.maxAbs)}, cosine ${output.cosine}`;
    cases.push({
      name: `embedding ${output.layer}`,
      ...(output.status === "fail" ? failure("numeric", text) : {}),
    });
    cases.push(...(output.reruns ?? []).map(rerunCase));
  }
  if (vacuity)
    cases.push({ name: "different images have different embeddings", ...collapseOutcome(vacuity) });
  if (baseline) cases.push({ name: `baseline ${baseline.name}`, ...baselineOutcome(baseline) });
  return cases;
}

function rerunCase(run: Rerun): Unclassed {
  const [how, finding] = rerunFinding(run);
  const type = run.how === "alone" ? "structure" : "numeric";
  return { name: `embedding: ${how}`, ...(run.status === "fail" ? failure(type, finding) : {}) };
}

/** A checkpoint whose images have one embedding gives any faithful file the same: no failure of the file. */
function collapseOutcome({ collapsed }: Vacuity): Outcome {
  if (collapsed.length === 0) return {};
  const text = `images with the same embedding: ${collapsed.map((pair) => pair.join(" and ")).join(", ")}`;
  return { outcome: { kind: "skipped", type: "collapsed", text } };
}

function baselineOutcome({ regressions, policy }: BaselineComparison): Outcome {
  if (regressions.length === 0 || policy === "warn") return {};
  const lines = regressions.map(
    ({ layer, figure, before, after }) =>
      `${layer}: ${figure} ${formatMargin(before)} → ${formatMargin(after)}`,
  );
  return failure("regression", bounded(lines));
}

function faultOutcome(faults: readonly Fault[]): Outcome {
  const [first] = faults;
  if (!first) return {};
  const lines = faults.map(
    ({ layer, margin, explanation }) => `${layer}: ${explanation} (margin ${formatMargin(margin)})`,
  );
  return failure(first.kind, bounded(lines));
}

function bounded(lines: readonly string[]): string {
  const more = lines.length > MOST ? [`… and ${lines.length - MOST} more`] : [];
  return [...lines.slice(0, MOST), ...more].join("\n");
}

function failure(type: string, text: string): Outcome {
  return { outcome: { kind: "failure", type, text } };
}
