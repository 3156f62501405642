import { type Fault, faultLayers, faultName, type ParityReport } from "../outcome/report.js";
import { failuresFirst, type SuiteEntry, type SuiteReport } from "../suite/report.js";
import { pathToUri, printable } from "./escape.js";
import { title } from "./facts.js";

/**
 * SARIF 2.1.0 (OASIS): a result per fault, which points at the model file and names the layers that it is in as logical
 * locations; a regression against a baseline is an error or a warning, as its policy says.
 *
 * @param path the model's path relative to the repository's root, if it is more than its name
 */
export function renderSarif(report: ParityReport, { path }: { readonly path?: string } = {}): string {
  return document(resultsOf(report, path ?? report.candidate.name));
}

/**
 * The faults of all entries, the first of each before the others, since viewers show few. An entry that could not be
 * run is a separate result.
 */
export function renderSuiteSarif({ entries }: SuiteReport): string {
  const byEntry = failuresFirst(entries).map(entryResults);
  return document([...byEntry.flatMap((all) => all.slice(0, 1)), ...byEntry.flatMap((all) => all.slice(1))]);
}

function entryResults({ id: entry, report, error, candidate }: SuiteEntry): readonly Result[] {
  if (report) return resultsOf(report, report.candidate.name).map((one) => ({ ...one, entry }));
  const text = `${entry}: ${error ?? "nothing was compared"}`;
  return [{ rule: "unusable-input", level: "error", text, uri: candidate, entry }];
}

const RULES = {
  numeric: "A layer computes different values from the reference.",
  structure: "A layer has a different shape or operation from the network's.",
  weights: "A parameter differs from the checkpoint's.",
  missing: "A layer of the network is not in the model.",
  regression: "A figure is worse than in the baseline.",
  "unusable-input": "A file could not be used, and nothing was compared.",
} as const satisfies Record<Fault["kind"] | "regression" | "unusable-input", string>;

type Rule = keyof typeof RULES;

interface Result {
  readonly rule: Rule;
  readonly level: "error" | "warning";
  readonly text: string;
  readonly uri: string;
  readonly layers?: readonly string[];
  readonly entry?: string;
  readonly margin?: number | null;
}

function resultsOf(report: ParityReport, path: string): Result[] {
  const { faults, baseline } = report;
  return [
    ...faults.map((fault): Result => {
      const text = `${faultName(fault)}: ${fault.explanation} (${title(report)})`;
      const layers = faultLayers(fault);
      return { rule: fault.kind, level: "error", text, uri: path, layers, margin: fault.margin };
    }),
    ...(baseline?.regressions ?? []).map(({ layer, figure, before, after }): Result => {
      const text = `${layer}: ${figure} ${before} in ${baseline?.name}, now ${after} (${title(report)})`;
      return {
        rule: "regression",
        level: baseline?.policy === "fail" ? "error" : "warning",
        text,
        uri: path,
        layers: [layer],
      };
    }),
  ];
}

function document(results: readonly Result[]): string {
  const ids = Object.keys(RULES) as Rule[];
  const log = {
    $schema: "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
    version: "2.1.0",
    runs: [
      {
        tool: {
          driver: {
            name: "osnet-verify",
            rules: ids.map((id) => ({ id: `osnet/${id}`, shortDescription: { text: RULES[id] } })),
          },
        },
        columnKind: "utf16CodeUnits",
        results: results.map(({ rule, level, text, uri, layers = [], entry, margin }) => ({
          ruleId: `osnet/${rule}`,
          ruleIndex: ids.indexOf(rule),
          level,
          message: { text: printable(text) },
          locations: [
            {
              // A model is not text: its first line represents all of it, since GitHub shows no results without a
              // region.
              physicalLocation: { artifactLocation: { uri: pathToUri(uri) }, region: { startLine: 1 } },
              ...(layers.length === 0
                ? {}
                : {
                    logicalLocations: layers.map((layer) => ({
                      fullyQualifiedName: printable(layer),
                      kind: "member",
                    })),
                  }),
            },
          ],
          partialFingerprints: {
            "osnetLayer/v1": printable([entry ?? uri, rule, layers[0] ?? ""].join(" · ")),
          },
          ...(margin === undefined ? {} : { properties: { margin } }),
        })),
      },
    ],
  };
  return `${JSON.stringify(log, null, 2)}\n`;
}
