import type { Fault, ParityReport } from "../report.js";
import type { SuiteEntry, SuiteReport } from "../suite/report.js";
import { escapeMarkup } from "./escape.js";
import { allowance, formatError, formatMargin, plural, title, worstFirst } from "./facts.js";
import { groupLayers, type LayerGroup } from "./groups.js";

/**
 * JUnit XML: a test case for each part of the network, for each gate, and for what stands beside them (weights,
 * embedding, baseline); a failure carries its explanation.
 *
 * Written so that it is valid against both schemas in use, the Ant task's (windyroad/JUnit-Schema) and Jenkins's
 * (xunit-plugin, junit-10.xsd): all of the former's required attributes, and no other.
 */
export function renderJunit(report: ParityReport): string {
  return document([testSuite(report, title(report), 0)]);
}

/** A test suite per entry; an entry that could not be run is one erroneous test case. */
export function renderSuiteJunit({ entries }: SuiteReport): string {
  return document(entries.map((entry, index) => entrySuite(entry, index)));
}

/** Of a test case: what it is called, and what is wrong. */
interface TestCase {
  readonly name: string;
  readonly className: string;
  readonly outcome?: {
    readonly kind: "failure" | "error" | "skipped";
    readonly type: string;
    readonly text: string;
  };
}

/** Reports are the same for the same result, so that they carry no time of day. */
const NO_TIME = "1970-01-01T00:00:00";

function document(suites: readonly string[]): string {
  return ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>", ...suites, "</testsuites>", ""].join(
    "\n",
  );
}

function entrySuite(entry: SuiteEntry, index: number): string {
  if (entry.report) return testSuite(entry.report, entry.id, index, entry);
  const text = entry.error ?? "nothing was compared";
  const cases: TestCase[] = [
    { name: "input", className: entry.id, outcome: { kind: "error", type: "unusable input", text } },
  ];
  return suiteElement(entry.id, index, cases, [], entry.run?.seconds ?? 0, text);
}

function testSuite(report: ParityReport, name: string, index: number, entry?: SuiteEntry): string {
  const cases = [
    ...groupLayers(report).flatMap((group) => [
      groupCase(report, group, name),
      ...gateCases(report, group, name),
    ]),
    ...wholeCases(report, name),
  ];
  const properties = [
    ["candidate", report.candidate.name],
    ["reference", report.reference.name],
    ["backend", report.backend],
    ["tolerance", allowance(report.tolerance)],
    ["images", `${report.input.shape.join("x")} from ${report.input.source}`],
    ...(entry?.run?.cached ? [["cached", "true"]] : []),
    ...Object.entries(report.run?.versions ?? {}),
  ] as const;
  const worst = worstFirst(report.layers)
    .slice(0, 10)
    .map(
      (layer) => `${layer.name}: margin ${formatMargin(layer.margin)}, max abs ${formatError(layer.maxAbs)}`,
    );
  return suiteElement(
    name,
    index,
    cases,
    properties,
    entry?.run?.seconds ?? report.run?.seconds ?? 0,
    "",
    worst,
  );
}

function groupCase({ faults }: ParityReport, group: LayerGroup, className: string): TestCase {
  const own = group.faults.filter((fault) => !isOfGate(fault, group));
  const failing = group.layers.filter(({ status }) => status === "fail").length;
  // Layers that differ only because of a fault before them are no failure of this part.
  const note = failing > 0 && faults.length > 0 ? ` (${failing} of ${group.layers.length} differ)` : "";
  return {
    name: `${group.name}: ${plural(group.layers.length, "layer")}${own.length > 0 ? note : ""}`,
    className,
    ...faultOutcome(own),
  };
}

function gateCases(_report: ParityReport, group: LayerGroup, className: string): TestCase[] {
  return group.gates.map((gate) => {
    const own = group.faults.filter((fault) => isOfGate(fault, group) && (fault.stream ?? 0) === gate.stream);
    const name = `${gate.block} gate of stream ${gate.stream}`;
    if (own.length > 0 || gate.status !== "untested") return { name, className, ...faultOutcome(own) };
    const text = "the images do not exercise this gate";
    return { name, className, outcome: { kind: "skipped", type: "untested", text } };
  });
}

/** A fault inside a gate whose stream has a test case of its own. */
function isOfGate({ layer, stream }: Fault, { gates }: LayerGroup): boolean {
  return layer.includes(".gate[") && gates.some((gate) => gate.stream === stream);
}

function wholeCases({ output, weights, baseline, faults }: ParityReport, className: string): TestCase[] {
  const weightFaults = faults.filter(({ kind }) => kind === "weights");
  return [
    ...(weights
      ? [
          {
            name: `weights: ${weights.identical} of ${weights.compared} constants are the checkpoint's`,
            className,
            ...faultOutcome(weightFaults),
          },
        ]
      : []),
    ...(output
      ? [
          {
            name: `embedding ${output.layer}`,
            className,
            ...(output.status === "fail"
              ? failure("numeric", `max abs ${formatError(output.maxAbs)}, cosine ${output.cosine}`)
              : {}),
          },
        ]
      : []),
    ...(baseline
      ? [
          {
            name: `baseline ${baseline.name}`,
            className,
            ...(baseline.regressions.length > 0 && baseline.policy === "fail"
              ? failure(
                  "regression",
                  baseline.regressions
                    .slice(0, 20)
                    .map((change) => `${change.layer}: ${change.figure} ${change.before} → ${change.after}`)
                    .join("\n"),
                )
              : {}),
          },
        ]
      : []),
  ];
}

function faultOutcome(faults: readonly Fault[]): Pick<TestCase, "outcome"> {
  const [first] = faults;
  if (!first) return {};
  const lines = faults
    .slice(0, 20)
    .map(({ layer, margin, explanation }) => `${layer}: ${explanation} (margin ${formatMargin(margin)})`);
  const more = faults.length > 20 ? [`… and ${faults.length - 20} more`] : [];
  return failure(first.kind, [...lines, ...more].join("\n"));
}

function failure(type: string, text: string): Pick<TestCase, "outcome"> {
  return { outcome: { kind: "failure", type, text } };
}

function suiteElement(
  name: string,
  index: number,
  cases: readonly TestCase[],
  properties: readonly (readonly [string, string] | readonly string[])[],
  seconds: number,
  errorText = "",
  output: readonly string[] = [],
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
    ...properties.map(([key = "", value = ""]) => `      <property${attributeText({ name: key, value })}/>`),
    "    </properties>",
    ...cases.map(caseElement),
    `    <system-out>${lines(output)}</system-out>`,
    `    <system-err>${lines(errorText === "" ? [] : [errorText])}</system-err>`,
    "  </testsuite>",
  ].join("\n");
}

function caseElement({ name, className, outcome }: TestCase): string {
  const opening = `    <testcase${attributeText({ name, classname: className, time: "0.000" })}`;
  if (!outcome) return `${opening}/>`;
  const { kind, type, text } = outcome;
  const message = text.split("\n", 1)[0] ?? "";
  // Neither schema knows both a message and a type of what was skipped.
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
