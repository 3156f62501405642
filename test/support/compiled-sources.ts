import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { rolldown } from "rolldown";
import type { Plugin } from "vitest/config";

const ROOT: string = resolve(import.meta.dirname, "../..");
const SOURCES: string = join(ROOT, "src");

/** Where they are: with this suffix, the programs of threads and processes are not found beside the modules, as in src/. */
const COMPILED: string = join(ROOT, "dist-test/src");
const SUFFIX = ".mjs";

/** For `server.deps.external`. */
export const COMPILED_SOURCES: RegExp = /\/dist-test\/src\//;

let compilation: Promise<void> | undefined;

/**
 * Tests import src/ as modules that Node loads itself: vitest takes twice as long to transform and load them, some hundredths of the tests'
 * processor time. They run no faster. Not when it watches: Node loads a module once.
 */
export function compiledSources(): Plugin {
  let watches = false;
  return {
    name: "compiled-sources",
    enforce: "pre",
    configureVitest({ vitest }) {
      watches = vitest.config.watch;
    },
    async resolveId(name, importer) {
      if (watches || !importer || !name.startsWith(".")) return null;
      const module = relative(SOURCES, resolve(dirname(importer), name)).replace(/\.js$/, "");
      if (module.startsWith("..") || !existsSync(join(SOURCES, `${module}.ts`))) return null;
      compilation ??= compile();
      await compilation;
      return join(COMPILED, `${module}${SUFFIX}`);
    },
  };
}

async function compile(): Promise<void> {
  const names = readdirSync(SOURCES, { recursive: true, encoding: "utf8" });
  const build = await rolldown({
    cwd: ROOT,
    input: names.filter((name) => name.endsWith(".ts")).map((name) => join(SOURCES, name)),
    platform: "node",
    treeshake: false,
    transform: { target: "node20" },
    // Packages but for the compiler's own, and a file that the package's build writes.
    external: (id) => !/^[./]|^@oxc-project/.test(id) || id.endsWith("/libjpeg-turbo.js"),
  });
  const { output } = await build.generate({
    preserveModules: true,
    preserveModulesRoot: ROOT,
    entryFileNames: `[name]${SUFFIX}`,
  });
  await build.close();
  for (const file of output) {
    const path = join(dirname(COMPILED), file.fileName);
    // Another run may be reading them.
    if (file.type !== "chunk" || (existsSync(path) && readFileSync(path, "utf8") === file.code)) continue;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, file.code);
  }
}
