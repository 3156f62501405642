import { readdirSync, readFileSync } from "node:fs";
import { dirname, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

/**
 * The rooms of the source, which are its folders, from the ground up, and what the files of each import of those below
 * it: a folder with all that is in it, or one file.
 */
const FORMATS = ["core", "convert/formats"];
const CONVERT = ["core", "arch", "convert/formats", "convert/export"];
const MODELS = [...CONVERT, "convert/import", "convert/open"];
const OUTCOME = ["core", "arch", "verify/backends/backend", "verify/explain", "verify/outcome"];
const FILES = [...MODELS, ...OUTCOME, "verify/backends"];
const VERIFY = [...FILES, "verify/inputs", "verify/reference", "verify/weights"];
const COMMANDS = ["core", "arch", "node", "convert", "verify", "cli"];
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  core: [],
  arch: ["core"],
  node: ["core"],
  "convert/formats": ["core"],
  "convert/formats/onnx": FORMATS,
  "convert/formats/pth/pickle": FORMATS,
  "convert/formats/pth": FORMATS,
  "convert/formats/tfjs": FORMATS,
  "convert/export": ["arch", ...FORMATS],
  "convert/import/operators": CONVERT,
  "convert/import": [...CONVERT, "convert/import"],
  "convert/import/tfjs": [...CONVERT, "convert/import"],
  "convert/open": [...CONVERT, "convert/import"],
  "convert/inspect": MODELS,
  convert: [...MODELS, "convert/inspect"],
  "verify/reference": ["core", "arch"],
  "verify/backends": [...FORMATS, "arch", "verify/reference"],
  "verify/bounds": ["core", "arch", "verify/reference", "verify/backends/backend"],
  "verify/explain": ["core", "arch", "verify/reference", "verify/bounds"],
  "verify/outcome": [...CONVERT, "verify/backends/backend", "verify/explain", "verify/reference"],
  "verify/ranking": ["core", "verify/reference", "verify/outcome"],
  "verify/suite": ["verify/ranking", ...OUTCOME, "convert/formats", "convert/export", "verify/backends"],
  "verify/reports": [...OUTCOME, "convert/formats", "verify/suite", "verify/ranking", "verify/backends"],
  "verify/inputs": [...FILES, "verify/reference"],
  "verify/weights": FILES,
  "verify/candidate": [...VERIFY, "verify/bounds"],
  "verify/proof": [...VERIFY, "verify/candidate"],
  "verify/judge": [...VERIFY, "verify/bounds", "verify/candidate"],
  verify: ["core", "arch", "convert", "verify"],
  web: ["core", "arch", "convert", "verify"],
  cli: ["core", "arch", "node", "convert", "verify"],
  "cli/ranking": COMMANDS,
  "cli/suite": COMMANDS,
  "cli/commands": COMMANDS,
  ".": ["core", "arch", "convert", "verify"],
  bin: ["cli"],
};

/** The files whose own business is Node's API. */
const NODE = /^(node|cli)\/|^verify\/backends\/[a-z-]+$/;

const SRC = fileURLToPath(new URL("../src/", import.meta.url));
const IMPORT = /\b(?:from|import)\s*\(?\s*"([^"]+)"/g;

const sources = new Map(
  ["src", "bin"].flatMap((folder) =>
    readdirSync(posix.join(SRC, "..", folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name): [string, readonly string[]] => {
        const file = folder === "bin" ? `bin/${name}` : name;
        const text = readFileSync(posix.join(SRC, "..", folder, name), "utf8");
        const paths = [...text.matchAll(IMPORT)].map(([, path = ""]) =>
          path.startsWith(".")
            ? posix.normalize(posix.join(dirname(file), path)).replace(/^\.\.\/src\//, "")
            : path,
        );
        return [file.replace(/\.ts$/, ""), paths.map((path) => path.replace(/\.js$/, ""))];
      }),
  ),
);

it("folders import only folders below them, so that there is no circle of folders", () => {
  const order = Object.keys(ROOMS);
  const bad: string[] = [];
  for (const [file, imports] of sources) {
    const room = dirname(file);
    expect(order, `src/${room} is no room yet`).toContain(room);
    for (const path of imports) {
      const target = dirname(path);
      if (!sources.has(path) || target === room) continue;
      const isBelow = order.indexOf(target) < order.indexOf(room);
      const isListed = ROOMS[room]?.some((allowed) => path === allowed || path.startsWith(`${allowed}/`));
      if (!isBelow || !isListed) bad.push(`${file} > ${path}`);
    }
  }
  expect(bad).toEqual([]);
});

it("the page is made of the package's entry for browsers, and of nothing behind it", () => {
  const folder = posix.join(SRC, "../web");
  const imports = readdirSync(folder)
    .filter((name) => name.endsWith(".ts") && name !== "vite.config.ts")
    .flatMap((name) => [...readFileSync(posix.join(folder, name), "utf8").matchAll(IMPORT)])
    .map(([, path = ""]) => path);
  const outside = imports.filter((path) => !/^\.\/[a-z-]+(\.js|\.ts\?worker&url)$/.test(path));
  const packages = outside.filter((path) => path !== "osnet-convert/web" && path !== "fflate");
  // Runtimes, and where their files are.
  expect(packages.filter((path) => !path.startsWith("@tensorflow/tfjs-"))).toEqual([]);
});

it("no file is imported by what it imports", () => {
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    expect(path.includes(file), [...path, file].join(" > ")).toBe(false);
    if (done.has(file)) return;
    for (const next of sources.get(file) ?? []) if (sources.has(next)) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of sources.keys()) visit(file, []);
});

it("Node's API is used in src/node, src/cli and the runtimes only", () => {
  const users = [...sources].filter(([, imports]) => imports.some((path) => path.startsWith("node:")));
  expect(users.map(([file]) => file).filter((file) => !NODE.test(file))).toEqual([]);
});
