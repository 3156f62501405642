import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { readReport, readSuiteReport } from "../../src/cli/reports.js";
import type { ParityReport } from "../../src/verify/outcome/report.js";
import { temporaryFolder } from "../support/folder.js";
import { tinyBytes, tinySpecFile } from "../support/tiny-file.js";
import { layerResult, REPORT } from "../verify/reports/report.js";
import { run } from "./command.js";

const ENTRY = { id: "m · c", model: "m", candidate: "c", backend: "onnxruntime", fingerprint: null };

function suiteText(entries: readonly object[], rest: object = {}): string {
  return JSON.stringify({
    schema: "osnet-parity-suite/1",
    name: "s",
    passed: true,
    faults: [],
    skipped: [],
    entries,
    ...rest,
  });
}

const PASSING: ParityReport = {
  ...REPORT,
  passed: true,
  faults: [],
  layers: [layerResult("conv1.conv", 0.1)],
  gates: [],
};
const FAILING: ParityReport = { ...PASSING, layers: [{ ...layerResult("conv1.conv", 9), status: "fail" }] };

describe("reports of earlier runs", () => {
  const markup = { markup: "<script>document.title=1</script>" };
  it.each<[name: string, text: string]>([
    ["nothing in it", JSON.stringify({ schema: "osnet-parity/1", layers: [] })],
    [
      "markup for an operator",
      JSON.stringify({ ...PASSING, layers: [{ ...PASSING.layers[0], op: markup }] }),
    ],
    [
      "markup for a number",
      JSON.stringify({ ...PASSING, layers: [{ ...PASSING.layers[0], margin: markup }] }),
    ],
    ["a field that no report has", JSON.stringify({ ...PASSING, surplus: 1 })],
    ["not a report", "[]"],
    ["not JSON", "{"],
    ["deep", `${"[".repeat(200_000)}${"]".repeat(200_000)}`],
  ])("%s: refused before it is used", async (_name, text) => {
    const folder = await temporaryFolder({
      "r.json": text,
      "s.json": suiteText([]).replace('"entries":[]', `"entries":[${text}]`),
      "report.json": suiteText([{ ...ENTRY, status: "pass", error: null, report: null }]).replace(
        '"report":null',
        `"report":${text}`,
      ),
    });
    await expect(readReport(folder.at("r.json"))).rejects.toMatchObject({ code: "format" });
    await expect(readSuiteReport(folder.at("s.json"))).rejects.toMatchObject({ code: "format" });
    await expect(readSuiteReport(folder.at("report.json"))).rejects.toMatchObject({ code: "format" });
  });

  it("whether they passed is found again from what they list", async () => {
    const folder = await temporaryFolder({
      "bad.json": JSON.stringify(FAILING),
      "empty.json": JSON.stringify({ ...PASSING, layers: [] }),
      "suite.json": suiteText([
        { ...ENTRY, status: "pass", error: null, report: FAILING },
        { ...ENTRY, id: "n · c", status: "pass", error: null, report: null },
        { ...ENTRY, id: "o · c", status: "fail", error: null, report: PASSING },
      ]),
    });
    expect((await readReport(folder.at("bad.json"))).passed).toBe(false);
    expect((await readReport(folder.at("empty.json"))).passed).toBe(false);
    const suite = await readSuiteReport(folder.at("suite.json"));
    expect([suite.passed, suite.entries.map(({ status }) => status)]).toEqual([
      false,
      ["fail", "error", "pass"],
    ]);
  });

  it.each<[name: string, what: { at?: string; file?: string; args?: readonly string[] }]>([
    ["the suite", { at: "r/suite.json" }],
    ["a candidate", { file: "r/suite.html" }],
    ["a TensorFlow.js model", { file: "r" }],
    ["an earlier suite", { args: ["--baseline", "r/suite.json"] }],
  ])("a suite's reports replace no input: %s", async (_, { at = "s.json", file = "m.onnx", args = [] }) => {
    const suite = JSON.stringify({
      models: { m: { arch: "arch.json", seed: 1 } },
      candidates: { c: { file }, "model.json": { convert: "onnx", options: { size: "64x32" } } },
    });
    const folder = await temporaryFolder({ "arch.json": tinySpecFile("block") });
    await mkdir(folder.at("r"));
    for (const name of ["r/suite.html", "r/model.json"]) await writeFile(folder.at(name), "a model");
    await writeFile(
      folder.at("r/suite.json"),
      suiteText([{ ...ENTRY, status: "pass", error: null, report: PASSING }]),
    );
    await writeFile(folder.at(at), suite);
    const before = await Promise.all(
      (await readdir(folder.at("r"))).map(async (name) => [name, await folder.read(`r/${name}`)] as const),
    );
    const { stderr } = await run("osnet-verify", ["suite", at, "--report-dir", "r", ...args], {
      cwd: folder.path,
    });
    const isOutput = file !== "r";
    expect(/is also an input of this command/.test(stderr)).toBe(isOutput);
    for (const [name, bytes] of before)
      if (isOutput || name === "model.json") expect(await folder.read(`r/${name}`)).toEqual(bytes);
  });

  it("merged reports replace none of what they are made of", async () => {
    const folder = await temporaryFolder();
    await mkdir(folder.at("a"));
    const text = suiteText([{ ...ENTRY, status: "pass", error: null, report: PASSING }]);
    await writeFile(folder.at("a/suite.json"), text);
    const { status, stderr } = await run("osnet-verify", ["merge", "a", "--report-dir", "a"], {
      cwd: folder.path,
    });
    expect([status, stderr]).toEqual([
      2,
      "a/suite.json: is also an input of this command; choose another output name.\n",
    ]);
    expect((await folder.read("a/suite.json")).toString()).toBe(text);
  });

  it("are refused by the property that they lack", async () => {
    const folder = await temporaryFolder({
      "r.json": JSON.stringify({ schema: "osnet-parity/1", layers: [] }),
    });
    await expect(readReport(folder.at("r.json"))).rejects.toThrow(
      'r.json: found no "candidate", expected a report that follows osnet-parity-1.schema.json; use the unchanged .json report of an earlier run.',
    );
  });

  it("merge: a number of shards is not a list's length, and no entry comes twice", async () => {
    const entry = { ...ENTRY, status: "pass", error: null, report: PASSING };
    const folder = await temporaryFolder({
      "many.json": suiteText([entry], { shard: { index: 1, total: 1e9 } }),
      "twice.json": suiteText([entry, entry]),
    });
    for (const name of ["many.json", "twice.json"]) {
      const { status, stderr } = await run("osnet-verify", ["merge", name, "--report-dir", "m"], {
        cwd: folder.path,
      });
      expect([status, stderr.split("\n").length], stderr).toEqual([2, 2]);
    }
    expect(await folder.names()).toEqual(["many.json", "twice.json"]);
  });

  it("a suite: another network's or an empty baseline is refused, a cache entry that is not a report is a miss", async () => {
    const folder = await temporaryFolder({
      "s.yaml": `
models: { m: { checkpoint: w.pth } }
candidates: { c: { convert: onnx, options: { size: 64x32 } } }
defaults: { size: 64x32 }
`,
      "empty.json": suiteText([]),
      "w.pth": tinyBytes("block"),
    });
    const suite = (...args: readonly string[]) =>
      run("osnet-verify", ["suite", "s.yaml", "--report-dir", "r", ...args], { cwd: folder.path });
    expect(await suite("--baseline", "empty.json")).toMatchObject({ status: 2 });
    expect(await folder.names()).toEqual(["empty.json", "s.yaml", "w.pth"]);
    expect(await suite()).toMatchObject({ status: 0, stderr: "" });
    const [cached = ""] = await readdir(folder.at("r/.cache"));
    const good = await readFile(folder.at(`r/.cache/${cached}`), "utf8");
    await writeFile(folder.at(`r/.cache/${cached}`), '{"schema":"osnet-parity/1","layers":[],"passed":true}');
    expect((await suite()).stdout.toString()).not.toContain("from the cache");
    expect(JSON.parse(await readFile(folder.at(`r/.cache/${cached}`), "utf8")).layers).toEqual(
      JSON.parse(good).layers,
    );
    expect((await suite()).stdout.toString()).toContain("1 taken from the cache");
  });
});
