import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "puppeteer-core";

export interface Opened {
  readonly page: Page;
  /** What a report should not do: errors, messages, dialogs, requests. */
  readonly misdeeds: readonly string[];
}

export interface Viewport {
  readonly width: number;
  readonly height?: number;
  readonly theme?: "light" | "dark";
}

/** Opens a file of a report in a window of its own. */
export async function openPage(
  browser: Browser,
  path: string,
  { width, height = 900, theme = "light" }: Viewport,
): Promise<Opened> {
  const page = await browser.newPage();
  const misdeeds: string[] = [];
  page.on("console", (message) => misdeeds.push(message.text()));
  page.on("pageerror", (error) => misdeeds.push(String(error)));
  page.on("dialog", (dialog) => misdeeds.push(dialog.message()));
  page.on("request", (request) => {
    const isOwn = /^file:/.test(request.url()) && request.isNavigationRequest();
    if (!isOwn && request.url() !== "data:,") misdeeds.push(request.url());
  });
  await page.setViewport({ width, height });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
  await page.goto(pathToFileURL(path).href);
  return { page, misdeeds };
}

/** What axe finds serious or critical. The page's policy lets nothing in: axe comes as text through the debugger. */
export async function seriousFindings(page: Page): Promise<readonly string[]> {
  await page.evaluate(readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"));
  return (await page.evaluate(
    `axe.run({ resultTypes: ["violations"] }).then(({ violations }) => violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, nodes }) => id + ": " + nodes[0].html.slice(0, 200)))`,
  )) as readonly string[];
}
