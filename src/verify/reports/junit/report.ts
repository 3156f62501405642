import type { ParityReport } from "../../report.js";
import { failuresFirst, type SuiteEntry, type SuiteReport } from "../../suite/report.js";
import { allowance, formatError, formatMargin, title, worstFirst } from "../facts.js";
import { testCases } from "./cases.js";
import { junitDocument, type TestSuite } from "./xml.js";

/** JUnit XML: a test suite of a case for each part of the network and each gate; a failure carries its explanation. */
export function renderJunit(report: ParityReport): string {
  return junitDocument([testSuite(report, title(report))]);
}

/** A test suite per entry, those that fail first; an entry that could not be run is one erroneous test case. */
export function renderSuiteJunit({ entries }: SuiteReport): string {
  return junitDocument(failuresFirst(entries).map(entrySuite));
}

function entrySuite({ id, report, error, run }: SuiteEntry): TestSuite {
  const seconds = run?.seconds ?? 0;
  if (report) {
    const suite = testSuite(report, id);
    const cached = run?.cached ? [["cached", "true"] as const] : [];
    return { ...suite, seconds, properties: [...(suite.properties ?? []), ...cached] };
  }
  const text = error ?? "nothing was compared";
  const outcome = { kind: "error", type: "unusable input", text } as const;
  return { name: id, cases: [{ name: "input", className: id, outcome }], seconds, errors: [text] };
}

function testSuite(report: ParityReport, name: string): TestSuite {
  const { candidate, reference, backend, tolerance, input, run } = report;
  return {
    name,
    cases: testCases(report, name),
    properties: [
      ["candidate", candidate.name],
      ["reference", reference.name],
      ["backend", backend],
      ["tolerance", allowance(tolerance)],
      ["images", `${input.shape.join("x")} from ${input.source}`],
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
