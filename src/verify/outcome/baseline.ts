import { InputError } from "../../core/errors.js";
import type { BaselinePolicy, Change, ParityReport } from "./report.js";

/** How to compare a report with an earlier one. */
export interface BaselineOptions {
  /** The baseline's name in the report. */
  readonly name: string;
  /** Default: 2. */
  readonly factor?: number;
  /** Default: fail. */
  readonly policy?: BaselinePolicy;
}

/**
 * Floors below which nothing is a regression, since other kernels and processors change small figures by any factor.
 */
const FLOORS = { margin: 0.05, drift: 1e-6 } as const satisfies Record<Change["figure"], number>;

const DEFAULT_BASELINE_FACTOR = 2;

/**
 * The report with its comparison to an earlier one: every layer's margin, and the drift at every layer and at the
 * embedding. A figure has regressed if it is more than `factor` times what it was and above a floor (margin 0.05, drift
 * 1e-6 of max). Margins with different tolerances are not comparable; then only drift is compared.
 *
 * @throws InputError (`argument`) if the two have no layer in common
 */
export function compareToBaseline(
  report: ParityReport,
  baseline: ParityReport,
  { name, factor = DEFAULT_BASELINE_FACTOR, policy = "fail" }: BaselineOptions,
): ParityReport {
  const sameTolerance = JSON.stringify(report.tolerance) === JSON.stringify(baseline.tolerance);
  const before = new Map(baseline.layers.map((layer) => [layer.name, layer]));
  const after = new Set(report.layers.map((layer) => layer.name));
  const changes = report.layers.flatMap((layer): Change[] => {
    const earlier = before.get(layer.name);
    if (!earlier) return [];
    return [
      ...(sameTolerance
        ? [{ layer: layer.name, figure: "margin" as const, before: earlier.margin, after: layer.margin }]
        : []),
      { layer: layer.name, figure: "drift" as const, before: earlier.relMax, after: layer.relMax },
    ];
  });
  // A verification without layers has already failed.
  if (changes.length === 0 && report.layers.length > 0)
    throw new InputError({
      code: "argument",
      subject: name,
      found: "no layer of this verification",
      expected: "a report of the same network",
      remedy: "use an earlier report of this model",
    });
  const reversed = (change: Change): Change => ({ ...change, before: change.after, after: change.before });
  const regressions = changes.filter((change) => isWorse(change, factor)).sort((a, b) => ratio(b) - ratio(a));
  const improvements = changes
    .filter((change) => isWorse(reversed(change), factor))
    .sort((a, b) => ratio(a) - ratio(b));
  return {
    ...report,
    passed: report.passed && (policy === "warn" || regressions.length === 0),
    baseline: {
      name,
      factor,
      policy,
      regressions,
      improvements,
      added: report.layers.filter((layer) => !before.has(layer.name)).map((layer) => layer.name),
      removed: baseline.layers.filter((layer) => !after.has(layer.name)).map((layer) => layer.name),
      notes: notes(report, baseline, sameTolerance),
    },
  };
}

function isWorse({ figure, before, after }: Change, factor: number): boolean {
  const now = after ?? Infinity;
  const then = before ?? Infinity;
  return now > FLOORS[figure] && now > then * factor;
}

function ratio({ before, after }: Change): number {
  const then = before ?? Infinity;
  const now = after ?? Infinity;
  if (now === then) return 1;
  return then === 0 ? Infinity : now / then;
}

function notes(report: ParityReport, baseline: ParityReport, sameTolerance: boolean): string[] {
  const images = ({ input }: ParityReport): string => `${input.shape.join("×")} from ${input.source}`;
  return [
    ...(sameTolerance ? [] : ["different tolerance: margins are not compared"]),
    ...(report.backend === baseline.backend ? [] : [`the baseline ran in ${baseline.backend}`]),
    ...(images(report) === images(baseline) ? [] : [`the baseline's images were ${images(baseline)}`]),
    ...(report.reference.sha256 === baseline.reference.sha256
      ? []
      : ["different reference file: the network has other weights"]),
  ];
}
