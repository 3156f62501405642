import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeOnnx } from "../../../src/convert/formats/onnx/index.js";
import { lowerToOnnx } from "../../../src/convert/lower/onnx/index.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/report.js";
import { renderHtml } from "../../../src/verify/reports/html/report.js";
import { renderSuiteHtml } from "../../../src/verify/reports/html/suite.js";
import { suiteReport } from "../../../src/verify/suite/report.js";
import { verify } from "../../../src/verify/verify.js";
import { readFixture } from "../../fixtures.js";
import { browserMissing, openBrowser } from "../../support/browser.js";
import { createFolder, type Folder } from "../../support/folder.js";
import { HOSTILE, hostileReport } from "../../support/hostile.js";
import { openFixture, SMALL, withTensor, withValues } from "../../support/osnet.js";

/** A report of a real model with one gate's bias changed, small images. */
async function realReport(): Promise<ParityReport> {
  const { graph, stateDict } = openFixture();
  const wrong = withTensor(stateDict, "conv3.0.gate.fc2.bias", (tensor) => withValues(tensor, { 5: 2.5 }));
  const bytes = encodeOnnx(lowerToOnnx(graph, wrong, { size: SMALL }));
  return verify(
    await openVerification(
      { name: "osnet_x0_25.onnx", bytes },
      { name: "osnet_x0_25.pth", bytes: readFixture("osnet_x0_25.pth") },
    ),
  );
}

const absent = browserMissing();
/** Set to keep pictures of the pages. */
const PICTURES = process.env.REPORT_PICTURES;

describe.skipIf(absent)(`HTML reports in Chromium ${absent || ""}`, () => {
  let browser: Browser;
  let folder: Folder;
  const pages: Record<string, string> = {};

  beforeAll(async () => {
    browser = await openBrowser();
    const report = await realReport();
    expect(report.passed).toBe(false);
    pages.report = renderHtml(report);
    const entry = (index: number) => ({
      id: `model-${index} · onnx · onnxruntime`,
      model: `model-${index}`,
      candidate: "onnx",
      backend: "onnxruntime",
      status: index === 7 ? ("fail" as const) : ("pass" as const),
      fingerprint: null,
      report:
        index === 7
          ? report
          : {
              ...report,
              passed: true,
              faults: [],
              layers: report.layers.map((layer) => ({
                ...layer,
                status: "pass" as const,
                margin: Math.min(1, layer.margin ?? 1),
              })),
            },
      error: null,
    });
    pages.suite = renderSuiteHtml(
      suiteReport(
        "forty models",
        Array.from({ length: 40 }, (_, index) => entry(index)),
      ),
      {
        entryLink: (file) => `entries/${file}.html`,
      },
    );
    pages.hostile = renderHtml(hostileReport(HOSTILE.join(" ")));
    folder = await createFolder(
      Object.fromEntries(Object.entries(pages).map(([name, html]) => [`${name}.html`, html])),
    );
    if (PICTURES) mkdirSync(PICTURES, { recursive: true });
  });
  afterAll(async () => {
    await browser?.close();
    await folder?.remove();
  });

  /** Opens a page, and gathers what it should not do: errors, messages, dialogs, requests. */
  async function open(
    name: string,
    width: number,
  ): Promise<{ readonly page: Page; readonly misdeeds: readonly string[] }> {
    const page = await browser.newPage();
    const misdeeds: string[] = [];
    page.on("console", (message) => misdeeds.push(message.text()));
    page.on("pageerror", (error) => misdeeds.push(String(error)));
    page.on("dialog", (dialog) => misdeeds.push(dialog.message()));
    page.on("request", (request) => {
      if (!/^(file|data):/.test(request.url()) || !request.isNavigationRequest())
        if (request.url() !== "data:,") misdeeds.push(request.url());
    });
    await page.setViewport({ width, height: 900 });
    await page.goto(pathToFileURL(folder.at(`${name}.html`)).href);
    return { page, misdeeds };
  }

  it.each([
    ["report", 1280],
    ["report", 390],
    ["suite", 1280],
    ["suite", 390],
    ["hostile", 390],
  ])("%s at %i px: no error, no request, nothing cut off, nothing serious from axe", async (name, width) => {
    const { page, misdeeds } = await open(name, width);
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
    expect(Buffer.byteLength(pages[name] ?? "")).toBeLessThan(2e6);
    if (PICTURES) await page.screenshot({ path: `${PICTURES}/${name}-${width}.png`, fullPage: true });
    expect(misdeeds).toEqual([]);
    // The page's policy lets nothing in from outside; axe comes as text through the debugger.
    const { readFileSync } = await import("node:fs");
    await page.evaluate(readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"));
    const serious = await page.evaluate(
      `axe.run({ resultTypes: ["violations"] }).then(({ violations }) => violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, nodes }) => id + ": " + nodes[0].html.slice(0, 200)))`,
    );
    expect(serious).toEqual([]);
    await page.close();
  });

  it("sorts, filters, and shows figures under the pointer and by the arrow keys", async () => {
    const { page, misdeeds } = await open("report", 1280);
    const first = () => page.$eval("#layers-table tbody tr:not([hidden]) th", (cell) => cell.textContent);
    expect(await first()).toBe("conv1.bn");
    const margin = await page.$$("#layers-table thead th");
    for (const heading of margin)
      if ((await heading.evaluate((cell) => cell.textContent)) === "margin")
        await (await heading.$("button"))?.click();
    expect(await page.$eval("#layers-table th[aria-sort]", (cell) => cell.getAttribute("aria-sort"))).toBe(
      "descending",
    );
    expect(await first()).toMatch(/^conv3\.0\.gate\[\d\]\.fc2$/);
    await page.type(".controls input", "conv4.1 conv3");
    expect(await page.$eval(".controls [role=status]", (text) => text.textContent)).toMatch(
      /^1 of \d{3} rows$/,
    );
    await page.evaluate(`document.querySelector(".net figure:nth-child(3) svg").focus()`);
    await page.keyboard.press("ArrowRight");
    expect(await page.$eval("#tip", (tip) => tip.textContent)).toMatch(/^conv2\.0\.\S+\n.*margin/);
    await page.hover("svg.map");
    expect(await page.$eval("#tip", (tip) => tip.textContent)).toMatch(
      /^conv2\.0, stream \d, channel \d+\nreference 0\./,
    );
    expect(misdeeds).toEqual([]);
    await page.close();
  });

  it("forty models stay responsive", async () => {
    const { page } = await open("suite", 1280);
    const milliseconds = await page.evaluate(`(() => {
      const started = performance.now();
      document.querySelector("#entries-table thead button").click();
      document.body.getBoundingClientRect();
      return performance.now() - started;
    })()`);
    expect(milliseconds).toBeLessThan(500);
    await page.close();
  });
});
