import { describe, expect, it } from "vitest";
import { openVerification } from "../../../src/verify/open.js";
import { renderReport } from "../../../src/verify/reports/index.js";
import { verify } from "../../../src/verify/verify.js";
import { missing, readFixture } from "../../fixtures.js";
import { convert, openFixture } from "../../support/osnet.js";

const [MODEL, WEIGHTS] = ["cases/files/untrained_dynamo.onnx", "cases/files/untrained.pth"];

describe("a network that was never trained", () => {
  it.skipIf(missing(MODEL, WEIGHTS))("passes with a warning", async () => {
    const side = (name: string) => ({ name, bytes: readFixture(name) });
    const report = await verify(await openVerification(side(MODEL), side(WEIGHTS), { batch: 1 }));
    expect(report.passed).toBe(true);
    expect(report.warnings).toHaveLength(1);
    expect(await renderReport(report, "md")).toContain("never trained");
  });

  it("is what no trained one is taken for", async () => {
    const sides = [
      { name: "m.onnx", bytes: convert(openFixture()) },
      { name: "w.pth", bytes: readFixture("osnet_x0_25.pth") },
    ] as const;
    expect((await verify(await openVerification(...sides, { batch: 1 }))).warnings).toBeUndefined();
  });
});
