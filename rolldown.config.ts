import { defineConfig, type RolldownOptions } from "rolldown";

/**
 * The commands as few files: each of the library's modules that Node finds, reads and links by itself costs time at the start. The
 * library stays as tsc writes it. What a command loads late stays apart, and packages stay where npm has put them.
 */
const commands: RolldownOptions = {
  input: {
    "osnet-convert": "bin/osnet-convert.ts",
    "osnet-verify": "bin/osnet-verify.ts",
    // Files that the commands start as processes and threads, by these names.
    thread: "src/verify/judge/thread.ts",
    worker: "src/cli/suite/worker.ts",
    "picture-worker": "src/cli/ranking/picture-worker.ts",
  },
  platform: "node",
  transform: { target: "node20" },
  external: (id) => !/^[./]|^@oxc-project/.test(id),
  output: { dir: "dist/bin", chunkFileNames: "[name]-[hash].js", cleanDir: true, comments: false },
};

/**
 * libjpeg-turbo for browsers: the package's plain JavaScript as a module. Where it runs in Node, that asks for two of Node's modules, on which
 * esbuild and webpack would stop.
 */
const codec: RolldownOptions = {
  input: { "libjpeg-turbo": "@cornerstonejs/codec-libjpeg-turbo-8bit/decode" },
  platform: "browser",
  resolve: { alias: { fs: false, path: false } },
  output: {
    dir: "dist/src/verify/backends",
    minify: true,
    banner:
      "/* libjpeg-turbo, based in part on the work of the Independent JPEG Group; see docs/third-party.md */",
  },
};

const config: RolldownOptions[] = defineConfig([commands, codec]);

export default config;
