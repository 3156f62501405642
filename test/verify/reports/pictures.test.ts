import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodePng } from "../../../src/verify/inputs/png.js";
import { renderHtml } from "../../../src/verify/reports/html.js";
import { renderSuite } from "../../../src/verify/reports/index.js";
import { browserMissing, openBrowser } from "../../support/browser.js";
import { createFolder, type Folder } from "../../support/folder.js";
import { text } from "../../support/markdown.js";
import { openPage, type Viewport } from "../../support/pages.js";
import { encodePng } from "../../support/png.js";
import { reportOf, suiteOf } from "../../support/report-pages.js";

const absent = browserMissing();

/** The documents' pictures: a page, and what of it, from the top of one element to the bottom of another. */
const PICTURES: Readonly<Record<string, readonly [page: string, from: string, to: string, Viewport]>> = {
  "report.png": ["report", "header", "#network", { width: 1000 }],
  "gates.png": ["report", "#gates", "#gates .maps", { width: 1000 }],
  "suite.png": ["suite", "header", "#entries", { width: 1160, theme: "dark" }],
};

/** `npm run pictures` writes them; a test looks whether the pages still give pictures of the kind. */
const WRITES = process.env.WRITE_PICTURES !== undefined;

/** The same picture in 32 steps of each colour, which no eye misses here, and half the bytes. */
function posterised(png: Uint8Array): Uint8Array {
  const { width, height, data } = decodePng(png, "picture");
  return encodePng(
    width,
    height,
    data.map((value) => Math.round(Math.round((value * 31) / 255) * (255 / 31))),
  );
}

describe.skipIf(absent)(`pictures of reports ${absent || ""}`, () => {
  let browser: Browser;
  let folder: Folder;

  beforeAll(async () => {
    browser = await openBrowser();
    const [good, bad] = [await reportOf({ good: true }), await reportOf()];
    folder = await createFolder({
      "report.html": await renderHtml(bad),
      "suite.html": await renderSuite(suiteOf(8, good, bad), "html"),
    });
  });
  afterAll(async () => {
    await browser?.close();
    await folder?.remove();
  });

  it.each(Object.entries(PICTURES))("%s", async (name, [document, from, to, viewport]) => {
    const { page } = await openPage(browser, folder.at(`${document}.html`), viewport);
    const [top, bottom] = (await page.evaluate(
      `[document.querySelector("${from}").getBoundingClientRect().top, document.querySelector("${to}").getBoundingClientRect().bottom]`,
    )) as [number, number];
    const picture = posterised(
      await page.screenshot({
        clip: { x: 0, y: Math.max(0, top - 8), width: viewport.width, height: bottom - top + 20 },
        captureBeyondViewport: true,
      }),
    );
    await page.close();
    // A blank page of this size compresses to 5 KB; the three together are not to weigh on a clone.
    expect(picture.length).toBeGreaterThan(15_000);
    expect(picture.length).toBeLessThan(100_000);
    expect(text("docs/ci.md") + text("README.md")).toContain(`images/${name})`);
    if (!WRITES) return;
    const images = fileURLToPath(new URL("../../../docs/images", import.meta.url));
    mkdirSync(images, { recursive: true });
    writeFileSync(join(images, name), picture);
  });
});
