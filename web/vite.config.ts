import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin, type UserConfig } from "vite";
import { COLOURS } from "../src/verify/reports/html-page.js";
import { POLICY } from "./policy.js";

const root = fileURLToPath(new URL(".", import.meta.url));
const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

/** The report's colours, so that page and report look alike; and the policy. */
const shared: Plugin = {
  name: "shared",
  enforce: "pre",
  transform: (code, id) => (id.endsWith("/web/style.css") ? COLOURS + code : undefined),
  transformIndexHtml: (html) => html.replace("%POLICY%", POLICY),
};

const SERVICE_WORKER = "service-worker.js";

/** Writes the list of files and their digests into the service worker, which is a separate entry with a fixed name. */
const offline: Plugin = {
  name: "offline",
  apply: "build",
  writeBundle({ dir = "" }) {
    const script = join(dir, SERVICE_WORKER);
    const files = readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name !== SERVICE_WORKER)
      .map(({ parentPath, name }) => join(parentPath, name))
      .sort()
      .map(
        (path) =>
          [
            path
              .slice(dir.length + 1)
              .split(sep)
              .join("/"),
            digestOf(readFileSync(path)),
          ] as const,
      );
    const code = readFileSync(script, "utf8")
      .replaceAll("__FILES_DIGEST__", JSON.stringify(digestOf(JSON.stringify(files))))
      .replaceAll("__FILES__", JSON.stringify(files));
    writeFileSync(script, code);
  },
};

function digestOf(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("base64");
}

const config: UserConfig = defineConfig({
  root,
  base: "./",
  plugins: [shared, offline],
  define: { __VERSION__: JSON.stringify(version) },
  // Readers of models are in the worker from the start, since it verifies too: what imports them late finds them there.
  worker: { format: "es", rolldownOptions: { checks: { ineffectiveDynamicImport: false } } },
  build: {
    outDir: "../dist-web",
    emptyOutDir: true,
    target: "es2022",
    // Nothing inside the page but what the policy allows: files, no `data:`.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { index: join(root, "index.html"), "service-worker": join(root, "service-worker.ts") },
      output: {
        entryFileNames: ({ name }) =>
          name === "service-worker" ? SERVICE_WORKER : "assets/[name]-[hash].js",
      },
    },
  },
  preview: { host: "127.0.0.1", headers: { "content-security-policy": `${POLICY}; frame-ancestors 'none'` } },
});

export default config;
