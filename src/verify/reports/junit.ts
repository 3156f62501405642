import { plural } from "../../core/text.js";
import {
  type BaselineComparison,
  type Fault,
  faultName,
  type OutputResult,
  type ParityReport,
  type Vacuity,
} from "../outcome/report.js";
import { failuresFirst, type SuiteEntry, type SuiteReport } from "../suite/report.js";
import { escapeMarkup } from "./escape.js";
import {
  allowance,
  checkText,
  embeddingFinding,
  formatError,
  formatMargin,
  groupLayers,
  type LayerGroup,
  rerunFinding,
  runtimeClause,
  title,
  weightsFinding,
  worstFirst,
} from "./facts.js";

/** A test case and its outcome. */
interface TestCase {
  readonly name: string;
  readonly className: string;
  readonly outcome?: {
    readonly kind: "failure" | "error" | "skipped";
    readonly type: string;
    readonly text: string;
  };
}

interface TestSuite {
  readonly name: string;
  readonly cases: readonly TestCase[];
  readonly properties?: readonly (readonly [name: string, value: string])[];
  readonly seconds: number;
  /** Lines of `system-out`. */
  readonly output?: readonly string[];
  /** Lines of `system-err`. */
  readonly errors?: readonly string[];
}

/** The same result must give the same report, so there is no time of day. */
const NO_TIME = "1970-01-01T00:00:00";

/**
 * A JUnit XML document, valid against both schemas in use, the Ant task's (windyroad/JUnit-Schema) and Jenkins's
 * (xunit-plugin, junit-10.xsd): all of the former's required attributes, and no other.
 */
export function junitDocument(suites: readonly TestSuite[]): string {
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    "<testsuites>",
    ...suites.map(suiteElement),
    "</testsuites>",
    "",
  ].join("\n");
}

function suiteElement(
  { name, cases, properties = [], seconds, output = [], errors = [] }: TestSuite,
  index: number,
): string {
  const count = (kind: string): number => cases.filter(({ outcome }) => outcome?.kind === kind).length;
  const attributes = {
    name,
    package: "osnet-verify",
    id: String(index),
    timestamp: NO_TIME,
    hostname: "localhost",
    tests: String(cases.length),
    failures: String(count("failure")),
    errors: String(count("error")),
    skipped: String(count("skipped")),
    time: seconds.toFixed(3),
  };
  return [
    `  <testsuite${attributeText(attributes)}>`,
    "    <properties>",
    ...properties.map(([key, value]) => `      <property${attributeText({ name: key, value })}/>`),
    "    </properties>",
    ...cases.map(caseElement),
    `    <system-out>${lines(output)}</system-out>`,
    `    <system-err>${lines(errors)}</system-err>`,
    "  </testsuite>",
  ].join("\n");
}

function caseElement({ name, className, outcome }: TestCase): string {
  const opening = `    <testcase${attributeText({ name, classname: className, time: "0.000" })}`;
  if (!outcome) return `${opening}/>`;
  const { kind, type, text } = outcome;
  const message = text.split("\n", 1)[0] ?? "";
  // Neither schema allows both a message and a type for skipped cases.
  const attributes = kind === "skipped" ? { message } : { message, type };
  return `${opening}>\n      <${kind}${attributeText(attributes)}>${lines(text.split("\n"))}</${kind}>\n    </testcase>`;
}

function attributeText(attributes: Readonly<Record<string, string>>): string {
  return Object.entries(attributes)
    .map(([name, value]) => ` ${name}="${escapeMarkup(value.trim()) || "–"}"`)
    .join("");
}

function lines(texts: readonly string[]): string {
  return texts.map(escapeMarkup).join("\n");
}

type Outcome = Pick<TestCase, "outcome">;

/** Lines of a failure against a baseline, which may name every layer. */
const MAX_LINES = 20;

/** A test case for each part of the network, for each gate, and for embedding and baseline. */
function testCases(report: ParityReport, className: string): readonly TestCase[] {
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
  // Layers that differ only because of an earlier fault are not failures of this part.
  const note = failing > 0 && faults.length > 0 ? ` (${failing} of ${group.layers.length} differ)` : "";
  return {
    name: `${group.name}: ${plural(group.layers.length, "layer")}${own.length > 0 ? note : ""}`,
    ...faultOutcome(own),
  };
}

function gateCases(group: LayerGroup): readonly Unclassed[] {
  return group.gates.map((gate) => {
    const own = group.faults.filter(
      (fault) => isOfGate(fault, group) && streamsOf(fault).includes(gate.stream),
    );
    const name = `${gate.block} gate of stream ${gate.stream}`;
    if (own.length > 0 || gate.status !== "untested") return { name, ...faultOutcome(own) };
    const text = "these images do not exercise this gate";
    return { name, outcome: { kind: "skipped", type: "untested", text } };
  });
}

/** A fault inside a gate whose streams each have their own test case. */
function isOfGate(fault: Fault, { gates }: LayerGroup): boolean {
  const tested = new Set(gates.map(({ stream }) => stream));
  const streams = streamsOf(fault);
  return (
    fault.layer.includes(".gate[") && streams.length > 0 && streams.every((stream) => tested.has(stream))
  );
}

function streamsOf({ stream, streams }: Fault): readonly number[] {
  return streams ?? (stream === undefined ? [] : [stream]);
}

function wholeCases(report: ParityReport): readonly Unclassed[] {
  const { output, vacuity, baseline, faults } = report;
  const cases: Unclassed[] = [];
  if (output) {
    // An embedding that differs only because of an earlier fault is not a failure of its own.
    const isOwn = faults.length === 0 || faults.some(({ layer }) => layer === output.layer);
    const caseOf = (name: string, status: OutputResult["status"], type: string, text: string): Unclassed => ({
      name,
      ...(status === "fail" && isOwn ? failure(type, text) : {}),
    });
    const [, embedding] = embeddingFinding(report, output);
    cases.push(caseOf(`embedding ${output.layer}`, output.status, "numeric", embedding));
    for (const run of output.reruns ?? []) {
      const [how, finding] = rerunFinding(run);
      const type = run.how === "alone" ? "structure" : "numeric";
      cases.push(caseOf(`embedding: ${how}`, run.status, type, finding));
    }
  }
  if (vacuity)
    cases.push({ name: "different images have different embeddings", ...collapseOutcome(vacuity) });
  if (baseline) cases.push({ name: `baseline ${baseline.name}`, ...baselineOutcome(baseline) });
  return cases;
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
    (fault) => `${faultName(fault)}: ${fault.explanation} (margin ${formatMargin(fault.margin)})`,
  );
  return failure(first.kind, lines.join("\n"));
}

function bounded(lines: readonly string[]): string {
  const more = lines.length > MAX_LINES ? [`… and ${lines.length - MAX_LINES} more`] : [];
  return [...lines.slice(0, MAX_LINES), ...more].join("\n");
}

function failure(type: string, text: string): Outcome {
  return { outcome: { kind: "failure", type, text } };
}

/** JUnit XML: a test suite of a case for each part of the network and each gate; a failure carries its explanation. */
export function renderJunit(report: ParityReport): string {
  return junitDocument([testSuite(report, title(report))]);
}

/** A test suite per entry, those that fail first; an entry that could not be run is one erroneous test case. */
export function renderSuiteJunit({ entries }: SuiteReport): string {
  return junitDocument(failuresFirst(entries).map(entrySuite));
}

function entrySuite({ id, report, ranking, error, run }: SuiteEntry): TestSuite {
  const seconds = run?.seconds ?? 0;
  if (report) {
    const suite = testSuite(report, id);
    const cached = run?.cached ? [["cached", "true"] as const] : [];
    const ranked = (ranking?.checks ?? []).map((check): TestCase => {
      const text = checkText(check);
      const outcome = check.passed ? undefined : ({ kind: "failure", type: "ranking", text } as const);
      return { name: `ranking ${check.figure}`, className: id, ...(outcome ? { outcome } : {}) };
    });
    return {
      ...suite,
      cases: [...suite.cases, ...ranked],
      seconds,
      properties: [...(suite.properties ?? []), ...cached],
    };
  }
  const text = error ?? "nothing was compared";
  const outcome = { kind: "error", type: "unusable input", text } as const;
  return { name: id, cases: [{ name: "input", className: id, outcome }], seconds, errors: [text] };
}

function testSuite(report: ParityReport, name: string): TestSuite {
  const { candidate, reference, backend, tolerance, input, weights, run } = report;
  const ran = runtimeClause(report);
  return {
    name,
    cases: testCases(report, name),
    properties: [
      ["candidate", candidate.name],
      ["reference", reference.name],
      ["backend", backend],
      ...(ran === "" ? [] : [["runtime", ran] as const]),
      ["tolerance", allowance(tolerance)],
      ["images", `${input.shape.join("x")} from ${input.source}`],
      ...(weights ? [["weights", weightsFinding(weights, reference)] as const] : []),
      // The number of failing test cases differs: a part of the network may have several faults, and a gate
      // fails in each stream.
      ["faults", String(report.faults.length)],
      ...Object.entries(run?.versions ?? {}),
    ],
    seconds: run?.seconds ?? 0,
    output: worstFirst(report)
      .slice(0, 10)
      .map(
        ({ name: layer, margin, maxAbs }) =>
          `${layer}: margin ${formatMargin(margin)}, max abs ${formatError(maxAbs)}`,
      ),
  };
}
