import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** A headless Chromium, driven by its own driver over the W3C's WebDriver protocol (https://www.w3.org/TR/webdriver2/). */
export interface Browser {
  open(url: string): Promise<void>;
  /** Runs the body of an async function in the page and gives what it returns, which JSON must be able to say. */
  evaluate<T>(body: string, ...args: readonly unknown[]): Promise<T>;
  close(): Promise<void>;
}

/** Names of the driver and the browser: Debian's `chromium-driver` and `chromium`, and Google's. */
const DRIVERS = ["chromedriver"];
const BROWSERS = ["chromium", "chromium-browser", "google-chrome"];

/** Why tests in a browser cannot run on this machine, or false. In CI they must: there the lack is a failure. */
export function browserMissing(): string | false {
  const absent = [DRIVERS, BROWSERS].filter((names) => !findProgram(names)).map(([name]) => name);
  if (absent.length === 0) return false;
  const reason = `not on this machine: ${absent.join(", ")} (Debian: apt-get install chromium chromium-driver)`;
  if (process.env.CI) throw new Error(reason);
  return reason;
}

function findProgram(names: readonly string[]): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Flags of the browser: no window; no sandbox, which containers do not allow and pages of our own do not need; WebGL on
 * the processor where there is no graphics card (SwiftShader), which computes in IEEE float32.
 */
const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-dev-shm-usage",
  "--disable-extensions",
  "--no-first-run",
  "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader",
  "--ignore-gpu-blocklist",
];

/** Scripts may take this long. */
const SCRIPT_MILLISECONDS = 60_000;

/** Starts a browser; `browserMissing` has said that there is one. */
export async function openBrowser(): Promise<Browser> {
  const driver = spawn(findProgram(DRIVERS) ?? "", ["--port=0"], { stdio: ["ignore", "pipe", "ignore"] });
  try {
    const origin = `http://127.0.0.1:${await portOf(driver)}`;
    const { sessionId } = await send<{ readonly sessionId: string }>(`${origin}/session`, {
      capabilities: {
        alwaysMatch: {
          "goog:chromeOptions": { binary: findProgram(BROWSERS), args: FLAGS },
          timeouts: { script: SCRIPT_MILLISECONDS },
        },
      },
    });
    const session = `${origin}/session/${sessionId}`;
    return {
      open: (url) => send(`${session}/url`, { url }),
      evaluate: (body, ...args) =>
        send(`${session}/execute/sync`, {
          script: `return (async function () {${body}}).apply(null, arguments)`,
          args,
        }),
      async close() {
        await fetch(session, { method: "DELETE" }).catch(() => undefined);
        driver.kill();
      },
    };
  } catch (error) {
    driver.kill();
    throw error;
  }
}

/** The driver chooses a free port and says which. */
function portOf(driver: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    driver.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const port = /started successfully on port (\d+)/.exec(text)?.[1];
      if (port !== undefined) resolve(port);
    });
    driver.on("error", reject);
    driver.on("exit", () => reject(new Error(`chromedriver ended: ${text}`)));
  });
}

async function send<T>(url: string, body: unknown): Promise<T> {
  const response = await fetch(url, { method: "POST", body: JSON.stringify(body) });
  const { value } = (await response.json()) as { readonly value: T & { readonly message?: string } };
  if (!response.ok) throw new Error(`${url}: ${value.message}`);
  return value;
}
