import { readdir, readFile } from "node:fs/promises";
import { basename, extname } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../support/folder.js";
import { tinyBytes, tinySpecFile } from "../support/tiny-file.js";
import { spawnCommand } from "./command.js";

interface Coverage {
  readonly result: readonly { readonly url: string }[];
}

/** The scripts that a command loads: its own files without their hashes, packages, and modules of Node. */
async function loadedBy(args: readonly string[]): Promise<Readonly<Record<string, readonly string[]>>> {
  const folder = await temporaryFolder({ "w.pth": tinyBytes("block"), "spec.json": tinySpecFile("block") });
  const env = { ...process.env, NODE_V8_COVERAGE: folder.at("coverage") };
  const { status, stderr } = await spawnCommand("osnet-convert", args, { cwd: folder.at("."), env });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  const urls: string[] = [];
  for (const name of await readdir(folder.at("coverage"))) {
    const coverage = JSON.parse(await readFile(folder.at(`coverage/${name}`), "utf8")) as Coverage;
    urls.push(...coverage.result.map(({ url }) => url));
  }
  const own = urls.filter((url) => url.includes("/dist/bin/"));
  const packages = urls.flatMap((url) => /.*\/node_modules\/((?:@[^/]*\/)?[^/]*)/.exec(url)?.[1] ?? []);
  return {
    own: own.map((url) => basename(url, extname(url)).replace(/-[\w-]{8}$/, "")),
    packages: [...new Set(packages)].sort(),
    node: urls.filter((url) => url.startsWith("node:")),
  };
}

describe("a conversion that is not verified", () => {
  it("loads few files, each of which costs time, and none of Node's modules that take long", async () => {
    const { own, packages, node } = await loadedBy(
      "pth2onnx w.pth --arch spec.json -o m.onnx --no-verify".split(" "),
    );
    expect(own).toEqual([
      "osnet-convert",
      "start",
      "osnet-convert",
      "base",
      // What is loaded late out of the same file is named by one of a line.
      "convert",
      "onnx",
      "encode",
    ]);
    expect(packages).toEqual(["commander", "fflate", "picocolors"]);
    expect(node).not.toContain("node:crypto");
    expect(node).not.toContain("node:worker_threads");
  });
});
