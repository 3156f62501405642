import puppeteer, { type Browser } from "puppeteer-core";
import { findChromium } from "../../src/verify/backends/chromium.js";

/** Why tests in a browser cannot run on this machine, or false. In CI they must: there the lack is a failure. */
export function browserMissing(): string | false {
  if (findChromium() !== undefined) return false;
  const reason = "no Chromium on this machine (Debian: apt-get install chromium), or set CHROME_PATH";
  if (process.env.CI) throw new Error(reason);
  return reason;
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
  return puppeteer.launch({ executablePath: findChromium() ?? "", args: FLAGS });
}

/** `CHROME_FLAGS` of graphics on the processor, in IEEE float32, also where there is a card: the same everywhere. */
export const ON_PROCESSOR = "--use-angle=swiftshader --use-webgpu-adapter=swiftshader";
