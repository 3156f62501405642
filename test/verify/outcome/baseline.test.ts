import { describe, expect, it } from "vitest";
import { compareToBaseline } from "../../../src/verify/outcome/baseline.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { layerResult, REPORT } from "../reports/report.js";

const withMargins = (...margins: readonly number[]): ParityReport => ({
  ...REPORT,
  layers: margins.map((margin, index) => ({ ...layerResult(`l${index}`, margin), relMax: margin * 1e-5 })),
});

describe("compareToBaseline", () => {
  it("fails what is worse by more than the factor and above the floor, worst first", () => {
    const { passed, baseline } = compareToBaseline(
      withMargins(0.3, 0.9, 0.04),
      withMargins(0.2, 0.1, 0.001),
      {
        name: "old.json",
      },
    );
    expect(passed).toBe(false);
    expect(baseline?.regressions).toEqual([
      { layer: "l1", figure: "margin", before: 0.1, after: 0.9 },
      { layer: "l1", figure: "drift", before: 0.1 * 1e-5, after: 0.9 * 1e-5 },
    ]);
    expect(baseline?.improvements).toEqual([]);
  });

  it("warns if asked to, and counts improvements the other way round", () => {
    const options = { name: "old.json", policy: "warn", factor: 3 } as const;
    expect(compareToBaseline(withMargins(0.9), withMargins(0.1), options).passed).toBe(true);
    const better = compareToBaseline(withMargins(0.1), withMargins(0.9), options);
    expect(better.baseline?.improvements.map(({ figure }) => figure)).toEqual(["margin", "drift"]);
  });

  it("does not compare margins of another tolerance, and says so", () => {
    const old: ParityReport = { ...withMargins(0.01), tolerance: { rule: "derived-bounds" } };
    const { baseline, passed } = compareToBaseline(withMargins(0.06), old, { name: "old.json" });
    expect(passed).toBe(true);
    expect(baseline?.notes).toEqual(["different tolerance: margins are not compared"]);
  });

  it("names layers that only one of the two has", () => {
    const { baseline } = compareToBaseline(withMargins(0.1, 0.1), withMargins(0.1), { name: "old.json" });
    expect([baseline?.added, baseline?.removed]).toEqual([["l1"], []]);
  });
});
