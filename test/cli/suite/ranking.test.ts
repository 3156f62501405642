import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { expect, it } from "vitest";
import { recountedSuite, type SuiteReport } from "../../../src/verify/suite/report.js";
import { temporaryFolder } from "../../support/folder.js";
import { pictureSet } from "../../support/picture-set.js";
import { schemaOf } from "../../support/schemas.js";
import { tinyFile } from "../../support/tiny-file.js";
import { run } from "../command.js";

const CHECKPOINT = tinyFile("block");

const SUITE = `
name: ranked
defaults: { size: 64x32, ranking: { data: market } }
models:
  trained: { checkpoint: w.pth }
candidates:
  onnx: { convert: onnx, options: { size: 64x32 } }
  strict: { convert: tfjs-graph, options: { size: 64x32 }, ranking: { data: market, distance: cosine, maxFlips: 0 } }
  other: { file: other.onnx, ranking: { data: market, maxMapDrop: 0.5, maxRank1Drop: 0.5, maxFlips: 0.02 } }
  none: { file: other.onnx, ranking: { data: nowhere } }
matrix:
  exclude: [{ candidate: strict, backend: tfjs-cpu }]
`;

it("a suite's entries are ranked where they ask for it, and fail by it", async () => {
  const folder = await temporaryFolder({ "w.pth": readFileSync(CHECKPOINT), "s.yaml": SUITE });
  for (const [name, bytes] of await pictureSet()) {
    await mkdir(dirname(folder.at(`market/${name}`)), { recursive: true });
    await writeFile(folder.at(`market/${name}`), bytes);
  }
  const convert = (...args: readonly string[]) => run("osnet-convert", args, { cwd: folder.path });
  expect((await convert("w.pth", "-o", "other.onnx", "--size", "64x32", "--dtype", "float16")).status).toBe(
    0,
  );

  const { status, stdout } = await run(
    "osnet-verify",
    ["suite", "s.yaml", "--report-dir", "r", "--only", "trained"],
    { cwd: folder.path },
  );
  const report = JSON.parse(Buffer.from(await folder.read("r/suite.json")).toString()) as SuiteReport;
  const validate = schemaOf("osnet-parity-suite-1.schema.json");
  validate(report);
  expect(validate.errors).toBeNull();
  const of = (candidate: string) => report.entries.find((entry) => entry.candidate === candidate);
  expect(of("onnx")).toMatchObject({
    status: "pass",
    ranking: { dataset: { name: "market", queries: 18 }, distance: "euclidean" },
  });
  expect(of("strict")?.ranking?.distance).toBe("cosine");
  const [before, after] = of("onnx")?.ranking?.mAP ?? [];
  expect(before).toBe(after);
  expect(of("none")).toMatchObject({ status: "error", error: expect.stringContaining("nowhere") });
  expect(status).toBe(2);
  expect(stdout.toString()).toMatch(/trained · onnx .*ranking on market, mAP [\d.]+ % to [\d.]+ %/);

  // What a report says of itself is found again.
  const entry = of("onnx");
  if (!entry?.ranking) throw new Error("an entry with a ranking");
  // JSON has null for NaN.
  for (const value of [1, NaN, null as unknown as number]) {
    const worse = entry.ranking.checks.map((check) => ({ ...check, value, passed: true }));
    const forged = { ...report, entries: [{ ...entry, ranking: { ...entry.ranking, checks: worse } }] };
    const found = recountedSuite(forged);
    expect(found.passed).toBe(false);
    expect(found.entries[0]?.ranking?.checks.every(({ passed }) => passed)).toBe(false);
  }
});

it("a limit that is broken alone fails an entry whose layers hold, in every report", async () => {
  const folder = await temporaryFolder({
    "w.pth": readFileSync(CHECKPOINT),
    "s.yaml": SUITE.replace("maxFlips: 0 }", "maxBroken: 0 }").replace(/ {2}(other|none):.*\n/g, ""),
  });
  for (const [name, bytes] of await pictureSet()) {
    await mkdir(dirname(folder.at(`market/${name}`)), { recursive: true });
    await writeFile(folder.at(`market/${name}`), bytes);
  }
  const suite = ["suite", "s.yaml", "--report-dir", "r", "--only", "onnx"];
  expect((await run("osnet-verify", suite, { cwd: folder.path })).status).toBe(0);
  const text = Buffer.from(await folder.read("r/suite.json")).toString();
  const forged = JSON.parse(text) as SuiteReport;
  const [entry] = forged.entries;
  const flips = entry?.ranking?.checks.find(({ figure }) => figure === "flips");
  if (!flips) throw new Error("an entry with a ranking");
  Object.assign(flips, { value: 0.25 });
  await writeFile(folder.at("forged.json"), JSON.stringify(forged));
  const merged = await run("osnet-verify", ["merge", "forged.json", "--report-dir", "m"], {
    cwd: folder.path,
  });
  expect(merged.status).toBe(1);
  const clause = "the nearest image changes for 25.0 % of queries (limit: 1.0 %)";
  for (const name of ["suite.md", "suite.html", "suite.xml"])
    expect(Buffer.from(await folder.read(`m/${name}`)).toString(), name).toContain(clause);
});

it("a ranking that a suite file asks for in another form is named", async () => {
  const folder = await temporaryFolder({ "s.yaml": SUITE.replace("maxFlips: 0 }", "maxflips: 2 }") });
  const { status, stderr } = await run("osnet-verify", ["suite", "s.yaml", "--report-dir", "r"], {
    cwd: folder.path,
  });
  expect(status).toBe(2);
  expect(stderr).toMatch(/candidates\.strict\.ranking: .*expected data \(a folder or a CSV\)/);
});
