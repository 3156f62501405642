import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin, type UserConfig } from "vite";
import { COLOURS } from "../src/verify/reports/html/style.js";
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

const config: UserConfig = defineConfig({
  root,
  base: "./",
  plugins: [shared],
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
  },
  preview: { host: "127.0.0.1", headers: { "content-security-policy": `${POLICY}; frame-ancestors 'none'` } },
});

export default config;
