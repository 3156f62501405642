import { expect, it } from "vitest";
import { renderJson } from "../../../src/verify/reports/index.js";
import { layerResult, REPORT } from "./report.js";

it("renders the report as it is, indented, to be read back", () => {
  const report = { ...REPORT, layers: [layerResult("conv1.relu", null)] };
  const text = renderJson(report);
  expect(JSON.parse(text)).toEqual(report);
  expect(text.slice(0, 34)).toBe('{\n  "schema": "osnet-parity/1",\n  ');
  expect(text.endsWith("}\n")).toBe(true);
  expect(renderJson(structuredClone(report))).toBe(text);
});
