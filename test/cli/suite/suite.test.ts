import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import type { SuiteReport } from "../../../src/verify/suite/report.js";
import { type Folder, temporaryFolder } from "../../support/folder.js";
import { schemaOf } from "../../support/schemas.js";
import { mutant, SUITE, SUITE_FILES } from "../../support/suite-files.js";
import { REPORT } from "../../verify/reports/report.js";
import { run, spawnCommand } from "../command.js";

const suiteOf = async (folder: Folder, path: string): Promise<SuiteReport> =>
  JSON.parse(Buffer.from(await folder.read(path)).toString()) as SuiteReport;

describe("osnet-verify suite", () => {
  it("finds the mutant, writes all reports, takes what is unchanged from its cache, joins shards", async () => {
    const folder = await temporaryFolder({ ...SUITE_FILES, "s.yaml": SUITE, "trained.onnx": mutant() });
    const suite = (...args: readonly string[]) =>
      run("osnet-verify", ["suite", "s.yaml", ...args], { cwd: folder.path });

    const one = await suite("--report-dir", "a", "--shard", "1/2", "--cache", "cache");
    expect([one.status, one.stderr]).toEqual([0, ""]);
    const two = await suite("--report-dir", "b", "--shard", "2/2", "--cache", "cache");
    expect(two.status).toBe(1);
    expect(two.stdout.toString()).toMatch(
      /^\[1\/1\] fail {2}trained · shipped {2}\d+ faults?, first at conv2\.0\.gate\[1–3\]/,
    );

    const merged = await run("osnet-verify", ["merge", "a", "b", "--report-dir", "m"], { cwd: folder.path });
    expect([merged.status, merged.stderr]).toEqual([1, ""]);
    const { shard, ...rest } = await suiteOf(folder, "b/suite.json");
    await writeFile(join(folder.path, "c.json"), JSON.stringify({ ...rest, shard: { ...shard, plan: "0" } }));
    const mixed = await run("osnet-verify", ["merge", "a", "c.json", "--report-dir", "x"], {
      cwd: folder.path,
    });
    expect([mixed.status, mixed.stderr]).toEqual([2, expect.stringContaining("a shard of other entries")]);
    await writeFile(join(folder.path, "d.json"), JSON.stringify({ ...rest, shard, entries: [], faults: [] }));
    const short = await run("osnet-verify", ["merge", "a", "d.json", "--report-dir", "x"], {
      cwd: folder.path,
    });
    expect([short.status, short.stderr]).toEqual([2, expect.stringContaining("shards with 2, 0 entries")]);
    const beyond = await suite("--report-dir", "e", "--shard", "5/5");
    expect([beyond.status, beyond.stdout.toString()]).toEqual([
      0,
      "shard 5 of 5 has no entries; reports in e\n",
    ]);
    // Several at a time are processes of the built command.
    const inParallel = ["suite", "s.yaml", "--report-dir", "w", "--cache", "cache", "--jobs", "2"];
    const whole = await spawnCommand("osnet-verify", inParallel, { cwd: folder.path });
    expect(whole.status).toBe(1);
    expect(whole.stdout.toString()).toContain("2 of 3 entries pass, 1 fails, 3 taken from the cache");

    const [joined, direct] = [await suiteOf(folder, "m/suite.json"), await suiteOf(folder, "w/suite.json")];
    const stripped = (report: SuiteReport) => report.entries.map(({ run: _, ...entry }) => entry);
    expect(stripped(joined)).toEqual(stripped(direct));
    expect(direct.entries.map(({ status, run }) => [status, run?.cached])).toEqual([
      ["pass", true],
      ["fail", true],
      ["pass", true],
    ]);
    const validate = schemaOf("osnet-parity-suite-1.schema.json");
    validate(joined);
    expect(validate.errors).toBeNull();
    expect(joined.faults[0]).toMatchObject({ entry: "trained · shipped", kind: "weights", cause: "bias" });
    const markdown = Buffer.from(await folder.read("m/suite.md")).toString();
    expect(markdown.split("\n")[4]).toBe("### ❌ `trained` · `shipped`");
    for (const name of ["suite.xml", "suite.html", "suite.sarif", "entries/seeded--onnx--onnxruntime.html"])
      expect((await folder.read(`m/${name}`)).length).toBeGreaterThan(500);

    // Another option is another fingerprint; a baseline of the good model makes the mutant a regression too.
    const fresh = await suite(
      "--report-dir",
      "w",
      "--cache",
      "cache",
      "--only",
      "seeded*",
      "--baseline",
      "m/suite.json",
    );
    expect(fresh.stdout.toString()).toContain("PASS  1 of 1 entry passes, 2 not run, 1 taken from the cache");
  });

  it("an unusable file is an error of its entry: the others run, and the status is 2", async () => {
    const folder = await temporaryFolder({ ...SUITE_FILES, "s.yaml": SUITE });
    const { status, stdout } = await run(
      "osnet-verify",
      ["suite", "s.yaml", "--report-dir", "r", "--no-cache", "--only", "trained"],
      {
        cwd: folder.path,
      },
    );
    expect(status).toBe(2);
    expect(stdout.toString()).toMatch(/error trained · shipped {2}\S*trained\.onnx: no such file/);
    const { entries } = await suiteOf(folder, "r/suite.json");
    expect(entries.map((entry) => entry.status)).toEqual(["pass", "error"]);
  });

  it("merge writes nothing outside its folder, whatever a report calls its entries", async () => {
    const entry = { id: "../../owned", model: "m", candidate: "c", backend: "b", status: "pass" };
    const report = { schema: "osnet-parity-suite/1", name: "s", passed: true, faults: [], skipped: [] };
    const text = JSON.stringify({
      ...report,
      entries: [{ ...entry, fingerprint: null, error: null, report: REPORT }],
    });
    const folder = await temporaryFolder({
      "a.json": text,
      "b.json": text.replace('"error":null', '"error":1'),
    });
    const merged = await run("osnet-verify", ["merge", "a.json", "--report-dir", "m"], { cwd: folder.path });
    expect([merged.status, merged.stderr]).toEqual([0, ""]);
    expect(await folder.names()).toEqual(["a.json", "b.json", "m"]);
    const bad = await run("osnet-verify", ["merge", "b.json", "--report-dir", "m"], { cwd: folder.path });
    expect([bad.status, bad.stderr.split(",")[0]]).toEqual([
      2,
      'b.json: found an invalid value at #/entries/0/error (Instance type "number" is invalid. Expected "string"',
    ]);
  });

  it("--init writes a suite that is valid against the schema, and runs as it is; two runs differ in `run` alone", async () => {
    const folder = await temporaryFolder({ ...SUITE_FILES, "s.yaml": SUITE });
    expect((await run("osnet-verify", ["suite", "--init"], { cwd: folder.path })).status).toBe(0);
    const ran = await run("osnet-verify", ["suite", "parity.yaml", "--report-dir", "r", "--only", "onnx"], {
      cwd: folder.path,
    });
    expect([ran.status, ran.stderr]).toEqual([0, ""]);
    const texts: string[] = [];
    for (const name of ["a", "b"]) {
      const args = ["suite", "s.yaml", "--report-dir", name, "--no-cache", "--only", "onnx"];
      const { status, stderr } = await run("osnet-verify", args, { cwd: folder.path });
      expect([status, stderr]).toEqual([0, ""]);
      const { entries, ...rest } = await suiteOf(folder, `${name}/suite.json`);
      expect(entries[0]?.report?.run?.versions.node).toBe(process.versions.node);
      const still = entries.map(({ run: _, report, ...entry }) => ({ ...entry, ...report, run: undefined }));
      texts.push(JSON.stringify({ ...rest, still }));
    }
    expect(texts[0]).toBe(texts[1]);
    const validate = schemaOf("osnet-suite-1.schema.json");
    validate(parse(Buffer.from(await folder.read("parity.yaml")).toString()));
    expect(validate.errors).toBeNull();
    expect(validate({ ...parse(SUITE), surplus: 1 })).toBe(false);
  });
});
