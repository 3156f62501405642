import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import puppeteer, { type Browser } from "puppeteer-core";

/** What Debian and Google call their Chromium. */
const NAMES = ["chromium", "chromium-browser", "google-chrome"];
const MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";

/** Why tests in a browser cannot run on this machine, or false. In CI they must: there the lack is a failure. */
export function browserMissing(): string | false {
  if (findBrowser() !== undefined) return false;
  const reason = "no Chromium on this machine (Debian: apt-get install chromium), or set CHROME_PATH";
  if (process.env.CI) throw new Error(reason);
  return reason;
}

function findBrowser(): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const named = NAMES.flatMap((name) => folders.map((folder) => join(folder, name)));
  return [process.env.CHROME_PATH ?? "", ...named, MACOS].find((path) => path !== "" && existsSync(path));
}

/**
 * No sandbox: containers run as root, where it does not start, and the pages are our own. WebGL on the processor where
 * there is no graphics card (SwiftShader), which computes in IEEE float32.
 */
const FLAGS = [
  "--no-sandbox",
  "--disable-dev-shm-usage",
  "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader",
  "--ignore-gpu-blocklist",
];

/** Starts a headless Chromium; `browserMissing` has said that there is one. */
export function openBrowser(): Promise<Browser> {
  return puppeteer.launch({ executablePath: findBrowser() ?? "", args: FLAGS });
}
