import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "puppeteer-core";
import { openBrowser } from "./browser.js";
import { type Server, serve } from "./server.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The page of `web/`, built as it is published, on a server of its own, and a browser to open it in. */
export interface WebPage {
  readonly browser: Browser;
  readonly server: Server;
  /** Opens the page as a user does; what it should not do is in `misdeeds`. */
  open(options?: OpenOptions): Promise<OpenedPage>;
  close(): Promise<void>;
}

interface OpenOptions {
  readonly width?: number;
  readonly language?: "en" | "ko";
  /** Where the page is, if another server has it; and a browser that has never been there, if another shall open it. */
  readonly server?: Server;
  readonly browser?: Pick<Browser, "newPage">;
}

export interface OpenedPage {
  readonly page: Page;
  /** Errors, messages on the console, and requests to anywhere else. */
  readonly misdeeds: readonly string[];
  /** Chooses files, as the button does. */
  choose(...paths: readonly string[]): Promise<void>;
  /** Drops files and folders on the page, as a user does with the mouse. */
  drop(...paths: readonly string[]): Promise<void>;
  /** Types into a field of the options, in place of what is there. */
  type(field: string, text: string): Promise<void>;
  /** Presses the button of a form and waits for what it comes to; the heading's text. */
  press(button: string): Promise<string>;
  /** Downloads what a link of this kind offers. */
  download(selector: string): Promise<{ readonly name: string; readonly bytes: Uint8Array }>;
}

/** Nothing that a test waits for takes as long. */
const PATIENCE = { timeout: 300_000 } as const;

export async function startWebPage(): Promise<WebPage> {
  const folder = mkdtempSync(join(tmpdir(), "osnet-web-"));
  const { build } = await import("vite");
  await build({
    configFile: `${ROOT}web/vite.config.ts`,
    logLevel: "silent",
    build: { outDir: `${folder}/page`, emptyOutDir: true },
  });
  const server = await serve();
  for (const name of readdirSync(`${folder}/page`, { recursive: true, encoding: "utf8" }))
    if (/\.\w+$/.test(name)) server.files.set(name, readFileSync(`${folder}/page/${name}`));
  const browser = await openBrowser();
  return {
    browser,
    server,
    async open({
      width = 1280,
      language = "en",
      server: { origin } = server,
      browser: opener = browser,
    } = {}) {
      const page = await opener.newPage();
      const misdeeds: string[] = [];
      page.on("console", (message) => misdeeds.push(message.text()));
      page.on("pageerror", (error) => misdeeds.push(String(error)));
      page.on("request", (request) => {
        if (!request.url().startsWith(`${origin}/`) && !/^(blob|data):/.test(request.url()))
          misdeeds.push(request.url());
      });
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
      await page.goto(`${origin}/index.html`);
      await page.waitForSelector("#choose");
      await page.select("#language", language);
      const downloads = mkdtempSync(join(folder, "downloads-"));
      const client = await page.createCDPSession();
      await client.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: downloads });
      /** Until the files are there that an action adds, and are read. */
      async function added(action: () => Promise<unknown>): Promise<void> {
        const count = (await page.$$(".file")).length;
        await action();
        await page.waitForFunction(
          `document.querySelectorAll(".file").length > ${count} && !document.querySelector(".file[aria-busy]")`,
          PATIENCE,
        );
      }
      return {
        page,
        misdeeds,
        drop: (...files) =>
          added(async () => {
            const data = { items: [], files: [...files], dragOperationsMask: 1 };
            for (const type of ["dragEnter", "dragOver", "drop"] as const)
              await client.send("Input.dispatchDragEvent", { type, x: 200, y: 200, data });
          }),
        async choose(...paths) {
          const input = await page.$("#files");
          const chooser = input as unknown as { uploadFile(...paths: readonly string[]): Promise<void> };
          await added(() => chooser.uploadFile(...paths));
        },
        async type(field, text) {
          if (!(await page.$("#options[open]"))) await page.click("#options summary");
          await page.click(field, { count: 3 });
          await page.keyboard.type(text);
        },
        async press(button) {
          // Some are done before anybody sees that they run: what came out before is taken away.
          await page.evaluate('document.querySelector(".outcome")?.remove()');
          await page.click(button);
          await page.waitForSelector(".outcome", PATIENCE);
          return page.$eval(".outcome h2", (heading) => heading.textContent ?? "");
        },
        async download(selector) {
          const name = (await page.$eval(selector, (link) => link.getAttribute("download"))) ?? "";
          // Not a click at a place: two pages may share the screen.
          await page.$eval(selector, (link) => (link as unknown as { click(): void }).click());
          const path = join(downloads, name);
          for (let waited = 0; !existsSync(path) && waited < 600; waited++)
            await new Promise((resolve) => setTimeout(resolve, 50));
          return { name, bytes: await readFile(path) };
        },
      };
    },
    async close() {
      await browser.close();
      server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
