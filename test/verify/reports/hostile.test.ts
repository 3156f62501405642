import { XMLParser, XMLValidator } from "fast-xml-parser";
import { describe, expect, it } from "vitest";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { REPORT_FORMATS, renderReport, renderSuite } from "../../../src/verify/reports/index.js";
import { renderText } from "../../../src/verify/reports/text.js";
import { type SuiteEntry, suiteReport } from "../../../src/verify/suite/report.js";
import { HOSTILE, hostileReport } from "../../support/hostile.js";

const CONTROL = /[\p{Cc}\p{Cf}\p{Cs}\uFFFF]/u;

/** An entry of a suite that says the text wherever a name or an error goes. */
function entryOf(text: string, report: ParityReport | null): SuiteEntry {
  return {
    id: `${text}${report === null}`,
    model: text,
    candidate: text,
    backend: text,
    status: report ? "fail" : "error",
    fingerprint: null,
    report,
    error: report ? null : text,
  };
}

describe.each(HOSTILE.map((text) => [JSON.stringify(text).slice(0, 80), text] as const))(
  "a model that calls its tensors %s",
  (_, text) => {
    const report = hostileReport(text);
    const suite = suiteReport(text, [entryOf(text, report), entryOf(text, null)]);

    it("reaches no terminal with a control character", async () => {
      for (const format of REPORT_FORMATS) {
        const rendered = (await renderReport(report, format)).replace(/[\n\t]/g, "");
        if (format !== "json") expect(CONTROL.test(rendered), format).toBe(false);
      }
      for (const format of REPORT_FORMATS) {
        const rendered = (await renderSuite(suite, format)).replace(/[\n\t]/g, "");
        if (format !== "json") expect(CONTROL.test(rendered), format).toBe(false);
      }
      expect(CONTROL.test(renderText(report, { layers: true }).replaceAll("\n", ""))).toBe(false);
      // JSON keeps names as they are, escaped.
      const json = await renderReport(report, "json");
      for (const character of ["\u001b", "\u0007", "\r"]) expect(json).not.toContain(character);
    });

    it("adds no element to HTML and no script to the page", async () => {
      for (const [html, scripts] of [
        [await renderReport(report, "html"), 2],
        [await renderSuite(suite, "html"), 1],
      ] as const) {
        expect(html.match(/<script[\s>]/g)).toHaveLength(scripts);
        expect(html.match(/<\/script>/g)).toHaveLength(scripts);
        expect(html).not.toMatch(/<(img|evil|!--)/);
        expect(html.length).toBeLessThan(200_000);
      }
    });

    it("leaves JUnit XML well-formed, with one suite", async () => {
      for (const xml of [await renderReport(report, "xml"), await renderSuite(suite, "xml")]) {
        expect(XMLValidator.validate(xml)).toBe(true);
        expect(Object.keys(new XMLParser().parse(xml).testsuites)).toEqual(["testsuite"]);
      }
    });

    it("is text in Markdown: no image, link, mention, heading or table cell of its own", async () => {
      const markdown = (await renderReport(report, "md")) + (await renderSuite(suite, "md"));
      expect(markdown).not.toContain("<script>alert(1)</script>\n");
      const outsideCode = markdown.replace(/`[^`\n]*`/g, "code");
      expect(outsideCode).not.toMatch(/<(script|img|evil|!--)|!\[|@everyone|\]\(http|^## heading/m);
      const widths = markdown.split("\n\n").flatMap((part) => {
        const rows = part.split("\n").filter((line) => line.startsWith("| "));
        return rows.length > 0 ? [new Set(rows.map((row) => row.match(/(?<!\\)\|/g)?.length)).size] : [];
      });
      expect(widths.every((count) => count === 1)).toBe(true);
    });

    it("points SARIF at a relative URI", async () => {
      const { runs } = JSON.parse(await renderReport(report, "sarif"));
      for (const { locations } of runs[0].results) {
        const { uri } = locations[0].physicalLocation.artifactLocation;
        expect(uri).toMatch(/^[\w.~!*'()%/-]+$/);
        expect(new URL(uri, "file:///repo/").href.startsWith("file:///repo/")).toBe(true);
      }
    });
  },
);
