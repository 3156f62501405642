import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Rolldown } from "vite";

/** A module that imports the package by its name, bundled for browsers as its users would; files by their paths. */
export async function bundle(
  source: string,
  name?: string,
): Promise<ReadonlyMap<string, string | Uint8Array>> {
  const files = await buildForBrowsers(source, name);
  return new Map(files.map((file) => [file.fileName, file.type === "chunk" ? file.code : file.source]));
}

/** The same, with what the bundler says of each file. */
export async function buildForBrowsers(
  source: string,
  name = "page",
): Promise<Rolldown.RolldownOutput["output"][number][]> {
  const { build } = await import("vite");
  const root = fileURLToPath(new URL("../..", import.meta.url));
  // Inside the package, so that it is found by its own name.
  const folder = `${root}demo/bundle-${name}-${process.pid}`;
  mkdirSync(folder);
  try {
    writeFileSync(`${folder}/${name}.js`, source);
    const built = await build({
      root,
      base: "/",
      configFile: false,
      logLevel: "silent",
      build: {
        write: false,
        rolldownOptions: {
          input: `${folder}/${name}.js`,
          preserveEntrySignatures: "strict",
          output: { entryFileNames: `${name}.js`, minify: true },
        },
      },
    });
    return [built].flat().flatMap((one) => ("output" in one ? [...one.output] : []));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
