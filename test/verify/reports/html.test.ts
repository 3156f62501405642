import type { Browser } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareToBaseline } from "../../../src/verify/outcome/baseline.js";
import { renderHtml } from "../../../src/verify/reports/html.js";
import { renderSuite } from "../../../src/verify/reports/index.js";
import { renderRanking } from "../../../src/verify/reports/ranking-text.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { browserMissing, openBrowser } from "../../support/browser.js";
import { createFolder, type Folder } from "../../support/folder.js";
import { HOSTILE, hostileReport } from "../../support/hostile.js";
import { hostileRanking } from "../../support/hostile-ranking.js";
import { openPage, seriousFindings } from "../../support/pages.js";
import { reportOf, suiteOf } from "../../support/report-pages.js";

const absent = browserMissing();

describe.skipIf(absent)(`HTML reports in Chromium ${absent || ""}`, () => {
  let browser: Browser;
  let folder: Folder;
  const pages: Record<string, string> = {};

  beforeAll(async () => {
    browser = await openBrowser();
    const checkpoint = tinyCheckpoint("osnet");
    const [good, bad] = [await reportOf({ good: true, checkpoint }), await reportOf({ checkpoint })];
    const real = await reportOf();
    expect([good.passed, bad.passed, real.passed]).toEqual([true, false, false]);
    pages.real = await renderHtml(real);
    pages.passing = await renderHtml(good);
    pages.failing = await renderHtml(compareToBaseline(bad, good, { name: "yesterday.json" }));
    pages.suite = await renderSuite(suiteOf(40, good, bad), "html");
    pages.ranking = await renderRanking(hostileRanking(HOSTILE.join(" ")), "html");
    pages.hostile = await renderHtml(hostileReport(HOSTILE.join(" ")));
    folder = await createFolder(
      Object.fromEntries(Object.entries(pages).map(([name, html]) => [`${name}.html`, html])),
    );
  });
  afterAll(async () => {
    await browser?.close();
    await folder?.remove();
  });

  it.each([
    ["passing", 1280, "light"],
    ["failing", 1280, "dark"],
    ["failing", 390, "light"],
    ["real", 1280, "light"],
    ["real", 390, "dark"],
    ["suite", 1280, "light"],
    ["suite", 390, "dark"],
    ["hostile", 390, "light"],
    ["ranking", 390, "light"],
    ["ranking", 1280, "dark"],
  ] as const)(
    "%s at %i px, %s: no error or request, nothing cut off, nothing serious from axe",
    async (name, width, theme) => {
      const { page, misdeeds } = await openPage(browser, folder.at(`${name}.html`), { width, theme });
      expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
      expect(Buffer.byteLength(pages[name] ?? "")).toBeLessThan(2e6);
      expect(misdeeds).toEqual([]);
      // More layers are more of the same to axe, which takes a second for a hundred.
      if (name !== "real") expect(await seriousFindings(page)).toEqual([]);
      await page.close();
    },
  );

  it("sorts, filters, and shows figures under the pointer and by the arrow keys", async () => {
    const { page, misdeeds } = await openPage(browser, folder.at("failing.html"), { width: 1280 });
    const first = () => page.$eval("#layers-table tbody tr:not([hidden]) th", (cell) => cell.textContent);
    const tip = () =>
      page.$eval("#tip", (box) => ((box as unknown as { hidden: boolean }).hidden ? "" : box.textContent));
    expect(await first()).toBe("conv1.bn");
    for (const heading of await page.$$("#layers-table thead th"))
      if ((await heading.evaluate((cell) => cell.textContent)) === "margin")
        await (await heading.$("button"))?.click();
    expect(await page.$eval("#layers-table th[aria-sort]", (cell) => cell.getAttribute("aria-sort"))).toBe(
      "descending",
    );
    expect(await first()).toMatch(/^conv3\.0\.gate\[\d\]\.fc2$/);
    await page.type(".controls input", "conv2.1 conv3");
    expect(await page.$eval(".controls [role=status]", (text) => text.textContent)).toMatch(
      /^1 of \d{3} rows$/,
    );
    // Puppeteer's own focuses HTML alone, and these are drawings.
    const focus = (selector: string) => page.evaluate(`document.querySelector("${selector}").focus()`);
    await focus(".net figure:nth-child(3) svg");
    await page.keyboard.press("ArrowRight");
    expect(await tip()).toMatch(/^conv2\.0\.\S+\n.*margin/);
    await page.keyboard.press("Escape");
    expect(await tip()).toBe("");
    await focus("#depth-chart");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    expect(await tip()).toMatch(/^conv1\.relu\n/);
    await focus("svg.map");
    await page.keyboard.press("ArrowRight");
    expect(await tip()).toMatch(/^conv2\.0, stream 1, channel 0\nreference 0\./);
    // The page moves under the pointer; then the pointer moves.
    await page.hover("#depth-chart");
    await focus("svg.map");
    await page.keyboard.press("ArrowRight");
    await page.evaluate("scrollBy(0, -200)");
    await page.evaluate("new Promise((done) => setTimeout(done, 300))");
    expect(await tip()).toMatch(/^conv2\.0, stream 1, channel 1\n/);
    await page.hover("svg.map");
    expect(await tip()).toMatch(/^conv2\.0, stream \d, channel \d+\nreference 0\./);
    await page.click("#theme");
    expect(await page.evaluate("getComputedStyle(document.body).backgroundColor")).toBe("rgb(19, 23, 25)");
    expect(misdeeds).toEqual([]);
    await page.close();
  });

  it("prints whole tables, light on dark screens too", async () => {
    const { page } = await openPage(browser, folder.at("failing.html"), { width: 1280, theme: "dark" });
    await page.emulateMediaType("print");
    expect(
      await page.evaluate(`(() => {
        const table = document.querySelector("#layers-table");
        return [
          table.parentElement.scrollHeight <= table.parentElement.clientHeight,
          getComputedStyle(document.querySelector("nav")).display,
          getComputedStyle(document.querySelector("section")).color,
        ];
      })()`),
    ).toEqual([true, "none", "rgb(27, 34, 38)"]);
    await page.close();
  });

  it("forty models are sorted and filtered", async () => {
    const { page } = await openPage(browser, folder.at("suite.html"), { width: 1280 });
    await page.evaluate(`(() => {
      const input = document.querySelector(".controls input");
      document.querySelector("#entries-table thead button").click();
      input.value = "model-3";
      input.dispatchEvent(new Event("input"));
    })()`);
    const shown = `document.querySelectorAll("#entries-table tbody tr:not([hidden])").length`;
    expect(await page.evaluate(shown)).toBe(11);
    await page.close();
  });
});
