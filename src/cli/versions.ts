import { createRequire } from "node:module";
import { arch, availableParallelism, cpus, platform } from "node:os";
import { basename, dirname, join } from "node:path";
import { BACKENDS } from "../verify/backends/registry.js";
import type { RunFacts } from "../verify/report.js";

const require = createRequire(import.meta.url);

/** This package's own. */
export const VERSION: string = versionIn("osnet-convert/package.json");

/** The versions of this package and of the runtimes that are installed beside it, which a result depends on. */
export function installedVersions(): Readonly<Record<string, string>> {
  return Object.fromEntries([
    ["osnet-convert", VERSION],
    ...[...new Set(Object.values(BACKENDS).map((engine) => engine.package))].flatMap((name) => {
      const version = packageVersion(name);
      return version === undefined ? [] : [[name, version]];
    }),
  ]);
}

/** Where and with what this process runs. */
export function runFacts(seconds: number): RunFacts {
  return {
    versions: { ...installedVersions(), node: process.versions.node },
    platform: `${platform()} ${arch()}`,
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    threads: availableParallelism(),
    seconds: Math.round(seconds * 1000) / 1000,
  };
}

function packageVersion(name: string): string | undefined {
  try {
    // A package may not export its package.json: it is looked for above what it does export.
    const main = require.resolve(name);
    for (let folder = dirname(main); folder !== dirname(folder); folder = dirname(folder))
      if (basename(folder) === basename(name)) return versionIn(join(folder, "package.json"));
  } catch {
    // Not installed: nothing depends on it.
  }
  return undefined;
}

function versionIn(path: string): string {
  return (require(path) as { readonly version: string }).version;
}
