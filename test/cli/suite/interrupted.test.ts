import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, utimes } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createFolder, type Folder } from "../../support/folder.js";
import { tinySpecFile } from "../../support/tiny-file.js";

const SCRIPT = fileURLToPath(new URL("../../../dist/bin/osnet-verify.js", import.meta.url));

const SUITE = `
defaults: { size: 64x32 }
models: { seeded: { arch: arch.json, seed: 1 } }
candidates: { onnx: { convert: onnx, options: { size: 64x32 } } }
`;

/** After the first run all is in the cache: what takes time is to write. */
const ARGS = [SCRIPT, "suite", "s.yaml", "--report-dir", "r"];

/** What is in the report folder, hidden files too. */
async function contents(folder: Folder): Promise<readonly string[]> {
  return (await readdir(folder.at("r"), { recursive: true })).sort();
}

describe("reports of a run that does not end well", () => {
  let folder: Folder;
  let whole: readonly string[];

  beforeAll(async () => {
    folder = await createFolder({ "s.yaml": SUITE, "arch.json": tinySpecFile("block") });
    expect(spawnSync(process.execPath, ARGS, { cwd: folder.path }).status).toBe(0);
    whole = await contents(folder);
  });
  afterAll(() => folder.remove());

  /** Every report can be read to its end. */
  async function expectWhole(): Promise<void> {
    for (const name of await contents(folder)) {
      if (/(^|\/)\./.test(name) || !/\.\w+$/.test(name)) continue;
      const text = await readFile(folder.at(join("r", name)), "utf8");
      if (/\.(json|sarif)$/.test(name)) expect(() => JSON.parse(text), name).not.toThrow();
      expect(text.trimEnd(), name).toMatch(/(\}|<\/testsuites>|<\/html>|[^…])$/);
    }
  }

  it.each([
    ["SIGINT", [0.85]],
    ["SIGKILL", [0.75, 0.95]],
  ] as const)("leaves the earlier or the new ones after %s at any time", async (signal, shares) => {
    const started = Date.now();
    spawnSync(process.execPath, ARGS, { cwd: folder.path });
    const milliseconds = Date.now() - started;
    // The end of a run is when it writes.
    for (const share of shares) {
      const child = spawn(process.execPath, ARGS, { cwd: folder.path });
      const timer = setTimeout(() => child.kill(signal), share * milliseconds);
      await once(child, "exit");
      clearTimeout(timer);
      await expectWhole();
    }
    // What a killed process could not remove is gone an hour later, with the next run.
    const long = new Date(Date.now() - 2 * 3_600_000);
    const names = await contents(folder);
    for (const name of names.filter((one) => /\.tmp(\.earlier)?$/.test(one)))
      await utimes(folder.at(join("r", name)), long, long);
    expect(spawnSync(process.execPath, ARGS, { cwd: folder.path }).status).toBe(0);
    expect(await contents(folder)).toEqual(whole);
  });

  it("leaves the earlier ones where there is no room for new ones", async () => {
    const earlier = await readFile(folder.at("r/suite.json"), "utf8");
    // No file may be larger than 16 blocks of 1 KiB, which the first report is.
    const limited = `trap '' XFSZ; ulimit -f 16; exec "$@"`;
    const { status, stderr } = spawnSync("bash", ["-c", limited, "bash", process.execPath, ...ARGS], {
      cwd: folder.path,
      encoding: "utf8",
    });
    expect(stderr).toMatch(/^r\/entries\/seeded--onnx--onnxruntime\.json: the file size limit is exceeded; /);
    expect(status).toBe(2);
    expect(await contents(folder)).toEqual(whole);
    expect(await readFile(folder.at("r/suite.json"), "utf8")).toBe(earlier);
    await expectWhole();
  });
});
