import { createRequire } from "node:module";
import { defineConfig, type Plugin, type RolldownOptions } from "rolldown";

/** All names that a package exports. */
function namesOf(name: string): readonly string[] {
  const found: object = createRequire(import.meta.url)(name);
  return Object.keys(found).filter((key) => key !== "default" && /^[A-Za-z]\w*$/.test(key));
}

/** Packages of CommonJS modules that the commands load, and the names that are imported from each. */
const REQUIRED: Readonly<Record<string, readonly string[]>> = {
  commander: ["Command", "CommanderError"],
  "onnx-proto": [],
  picocolors: [],
  ...Object.fromEntries(
    ["core", "converter", "layers", "backend-cpu", "backend-wasm"].map((part) => {
      const name = `@tensorflow/tfjs-${part}`;
      return [name, namesOf(name)];
    }),
  ),
};

/**
 * They are loaded with `require`: for an import, Node reads a CommonJS module twice, first for the names of its exports, which takes 80 ms for the modules
 * of a conversion, and 300 ms for TensorFlow.js.
 */
const required: Plugin = {
  name: "required",
  resolveId: (id) => (id in REQUIRED ? `\0${id}` : null),
  load(id) {
    const name = id.slice(1);
    const names = id.startsWith("\0") ? REQUIRED[name] : undefined;
    if (!names) return null;
    return [
      `import { createRequire } from "node:module";`,
      `const found = createRequire(import.meta.url)(${JSON.stringify(name)});`,
      names.length > 0 ? `export const { ${names.join(", ")} } = found;` : "export default found;",
    ].join("\n");
  },
};

/** The modules of every conversion to ONNX, in one file: each further file costs a third of a millisecond. `--help` needs `start` only. */
const GROUPS: readonly { readonly name: string; readonly test: RegExp; readonly priority: number }[] = [
  { name: "start", test: /src\/cli\/start\.ts$/, priority: 1 },
  {
    name: "base",
    test: /src\/(core|arch|node)\/|src\/cli\/(program|terminal|options|inputs|outputs|targets|commands\/(osnet-[a-z]+|convert[a-z-]*))\.ts|src\/convert\/(formats\/(registry|sniff|zip|cursor|refusals|npz|safetensors|pth)|export\/(weights|options|metadata|negligible|activation|onnx)|formats\/onnx\/(encode|graphs|model|wire|tensors))/,
    priority: 0,
  },
];

/**
 * The commands as few files, since each module that Node finds, reads and links takes time at the start. Modules that are loaded on demand
 * are separate files, packages are not bundled, and the library remains as tsc writes it.
 */
const commands: RolldownOptions = {
  input: {
    "osnet-convert": "bin/osnet-convert.ts",
    "osnet-verify": "bin/osnet-verify.ts",
    // Files that the commands start as processes and threads, by these names.
    thread: "src/verify/judge/thread.ts",
    worker: "src/cli/suite/worker.ts",
    pictures: "src/cli/ranking/pictures.ts",
  },
  platform: "node",
  transform: { target: "node20" },
  external: (id) => !/^[./\0]|^@oxc-project/.test(id) && !(id in REQUIRED),
  plugins: [required],
  // Some modules are loaded late by one command, and by another at once.
  checks: { ineffectiveDynamicImport: false },
  output: {
    dir: "dist/bin",
    chunkFileNames: "[name]-[hash].js",
    cleanDir: true,
    comments: false,
    codeSplitting: { groups: [...GROUPS] },
  },
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
