import { configDefaults, defineConfig, type ViteUserConfig } from "vitest/config";
import { COMPILED_SOURCES, compiledSources } from "./test/support/compiled-sources.js";
import { LongestFirst } from "./test/support/longest-first.js";

/** Tests in Chromium: `npm run test:browser`. */
const BROWSER: string[] = [
  "test/browser/*.test.ts",
  "test/verify/reports/html.test.ts",
  "test/verify/reports/pictures.test.ts",
];

/** Tests that put something else in the place of a module or a global, which no other file may see. */
const ISOLATED: string[] = [
  "test/verify/backends/tfjs.test.ts",
  "test/verify/reference/wasm/vector-engine.test.ts",
];

/** Nothing takes that long, however busy the machine is: what hangs is ended. */
const MINUTES = 60_000;
const common = {
  // Functions are optimised after eight times as long a run as usual, as in the commands (src/cli/start.ts): most run only briefly.
  execArgv: [
    "--interrupt-budget=540672",
    // Tensors are outside of the heap: collecting it after every 10 MB of them finds little. A larger young generation is copied less often.
    "--heap-growing-percent=500",
    "--min-semi-space-size=16",
    "--max-semi-space-size=32",
  ],
  setupFiles: ["test/support/setup.ts"],
  server: { deps: { external: [COMPILED_SOURCES] } },
  testTimeout: 10 * MINUTES,
  hookTimeout: 10 * MINUTES,
};

const config: ViteUserConfig = defineConfig({
  test: {
    pool: "forks",
    // All processors: by default one is left to whoever waits.
    maxWorkers: "100%",
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        plugins: [compiledSources()],
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...BROWSER, ...ISOLATED],
          isolate: false,
          ...common,
        },
      },
      { test: { name: "isolated", include: ISOLATED, ...common } },
      { test: { name: "browser", include: BROWSER, isolate: false, ...common } },
    ],
  },
});

export default config;
