import puppeteer, { type Browser } from "puppeteer-core";
import { findChromium } from "../../src/verify/backends/chromium.js";

/** Why tests in a browser cannot run on this machine, or false. In CI they must: there the lack is a failure. */
export function browserMissing(): string | false {
  if (findChromium() !== undefined) return false;
  const reason = "no Chromium on this machine (Debian: apt-get install chromium), or set CHROME_PATH";
  if (process.env.CI) throw new Error(reason);
  return reason;
}

/** No sandbox: containers run as root, where it does not start, and the pages are our own. */
const FLAGS = ["--no-sandbox", "--disable-dev-shm-usage"];

/** WebGL on the processor where there is no graphics card (SwiftShader), which computes in IEEE float32. */
const GRAPHICS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"];

/** Otherwise pages are drawn by SwiftShader too, which takes ten times as long as without. */
const NO_GRAPHICS = ["--disable-gpu", "--disable-software-rasterizer"];

/**
 * Starts a headless Chromium; `browserMissing` has said that there is one.
 *
 * @param graphics whether pages compute in WebGL
 */
export function openBrowser({ graphics = false }: { readonly graphics?: boolean } = {}): Promise<Browser> {
  const args = [...FLAGS, ...(graphics ? GRAPHICS : NO_GRAPHICS)];
  return puppeteer.launch({ executablePath: findChromium() ?? "", args });
}

/** `CHROME_FLAGS` of graphics on the processor, in IEEE float32, also where there is a card: the same everywhere. */
export const ON_PROCESSOR = "--use-angle=swiftshader --use-webgpu-adapter=swiftshader";
