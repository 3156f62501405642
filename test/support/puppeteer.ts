import { existsSync } from "node:fs";
import puppeteer, { type Browser } from "puppeteer-core";

const PLACES = [
  process.env.CHROME_PATH ?? "",
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/** Where a Chromium is, or undefined. In CI its absence is a failure, not a skip. */
export function findBrowser(): string | undefined {
  const path = PLACES.find((place) => place !== "" && existsSync(place));
  if (path === undefined && process.env.CI === "true")
    throw new Error("no Chromium on this machine: install it, or set CHROME_PATH");
  return path;
}

export const NO_BROWSER = "no Chromium on this machine: install it, or set CHROME_PATH";

export function openBrowser(executablePath: string): Promise<Browser> {
  // Containers run as root, where Chromium's sandbox does not start; the pages are our own.
  return puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}
