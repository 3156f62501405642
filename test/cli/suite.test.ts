import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import type { SuiteReport } from "../../src/verify/suite/report.js";
import { fixturePath } from "../fixtures.js";
import { type Folder, temporaryFolder } from "../support/folder.js";
import { convert, openFixture, withTensor, withValues } from "../support/osnet.js";
import { schemaOf } from "../support/schemas.js";
import { refusal, run } from "./command.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CHECKPOINT = fixturePath("osnet_x0_25.pth") ?? "";

const SUITE = `
name: small
defaults: { size: 64x32, batch: 2 }
models:
  trained: { checkpoint: ${JSON.stringify(CHECKPOINT)} }
  seeded: { arch: osnet_ain_x0_25, seed: 3 }
candidates:
  onnx: { convert: onnx, options: { size: 64x32 } }
  shipped: { file: "{model}.onnx", models: [trained] }
`;

/** A model with one value of a gate changed. */
function mutant(): Uint8Array {
  const { graph, stateDict, ...rest } = openFixture();
  const wrong = withTensor(stateDict, "conv3.0.gate.fc2.bias", (tensor) => withValues(tensor, { 5: 2.5 }));
  return convert({ ...rest, graph, stateDict: wrong });
}

const suiteOf = async (folder: Folder, path: string): Promise<SuiteReport> =>
  JSON.parse(Buffer.from(await folder.read(path)).toString()) as SuiteReport;

describe("osnet-verify suite", () => {
  it("finds the mutant, writes all reports, takes what is unchanged from its cache, joins shards", async () => {
    const folder = await temporaryFolder({ "s.yaml": SUITE, "trained.onnx": mutant() });
    const suite = (...args: readonly string[]) =>
      run("osnet-verify", ["suite", "s.yaml", ...args], { cwd: folder.path });

    const one = await suite("--report-dir", "a", "--shard", "1/2", "--cache", "cache");
    expect([one.status, one.stderr]).toEqual([0, ""]);
    const two = await suite("--report-dir", "b", "--shard", "2/2", "--cache", "cache");
    expect(two.status).toBe(1);
    expect(two.stdout.toString()).toMatch(
      /^\[1\/1\] fail {2}trained · shipped {2}\d+ faults, first at conv3\.0\.gate\[1\]/,
    );

    const merged = await run("osnet-verify", ["merge", "a", "b", "--report-dir", "m"], { cwd: folder.path });
    expect([merged.status, merged.stderr]).toEqual([1, ""]);
    const whole = await suite("--report-dir", "w", "--cache", "cache", "--jobs", "2");
    expect(whole.status).toBe(1);
    expect(whole.stdout.toString()).toContain("2 of 3 entries hold, 1 does not, 3 taken from the cache");

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
    expect(fresh.stdout.toString()).toContain("PASS  1 of 1 entry holds, 2 not run, 1 taken from the cache");
  });

  it("an unusable file is an error of its entry: the others run, and the status is 2", async () => {
    const folder = await temporaryFolder({ "s.yaml": SUITE });
    const { status, stdout } = await run(
      "osnet-verify",
      ["suite", "s.yaml", "--report-dir", "r", "--no-cache", "--only", "trained"],
      {
        cwd: folder.path,
      },
    );
    expect(status).toBe(2);
    expect(stdout.toString()).toMatch(/error trained · shipped {2}\S*trained\.onnx: found no such file/);
    const { entries } = await suiteOf(folder, "r/suite.json");
    expect(entries.map((entry) => entry.status)).toEqual(["pass", "error"]);
  });

  it("--init writes a suite that is valid against the schema", async () => {
    const folder = await temporaryFolder();
    expect((await run("osnet-verify", ["suite", "--init"], { cwd: folder.path })).status).toBe(0);
    const validate = schemaOf("osnet-suite-1.schema.json");
    validate(parse(Buffer.from(await folder.read("parity.yaml")).toString()));
    expect(validate.errors).toBeNull();
    expect(validate({ ...parse(SUITE), surplus: 1 })).toBe(false);
  });
});

describe.concurrent("osnet-verify suite refuses", () => {
  const MORE =
    "expected a suite of models and candidates; see docs/ci.md, or start from osnet-verify suite --init.\n";
  it.each([
    [
      "models: {a: {checkpoint: x}}\ncandidates:\n  onnx: { convert: onxn }\n",
      's.yaml: found line 3, candidates.onnx.convert: found "onxn", expected onnx or tfjs-graph or tfjs-layers, ',
    ],
    [
      "models:\n  a: { checkpoint: x, sed: 1 }\ncandidates: {o: {convert: onnx}}\n",
      "s.yaml: found line 2, models.a.sed: no such key, expected checkpoint, key, arch, seed, ",
    ],
    [
      "models: {a: {checkpoint: x}}\ncandidates: {o: {convert: onnx}}\nmatrix:\n  exclude:\n    - { model: b }\n",
      's.yaml: found line 5, matrix.exclude.0.model: found "b", expected one of a, ',
    ],
    ["models: [\n", "s.yaml: found line 2: "],
    ["- 1\n", "s.yaml: found line 1, the suite: found [1], expected keys and values, "],
  ])("%j", async (text, start) => {
    const message = await refusal("osnet-verify", ["suite", "s.yaml", "--report-dir", "r"], {
      "s.yaml": text,
    });
    expect(message.startsWith(start), message).toBe(true);
    expect(message.endsWith(MORE), message).toBe(true);
  });
});

describe("the GitHub Action", () => {
  const action = parse(readFileSync(`${ROOT}/action.yml`, "utf8"));

  /** Runs the action's shell steps as a runner does: expressions become variables, files take outputs and summary. */
  async function runAction(folder: Folder, inputs: Readonly<Record<string, string>>) {
    await writeFile(folder.at("summary.md"), "");
    await writeFile(folder.at("output.txt"), "");
    const outputs: Record<string, string> = {};
    const value = (text: string): string =>
      text.replace(/\$\{\{ (inputs|steps\.verify\.outputs)\.([\w-]+) \}\}/g, (_, scope, name) =>
        scope === "inputs" ? (inputs[name] ?? action.inputs[name].default) : (outputs[name] ?? ""),
      );
    let stdout = "";
    let status: number | null = 0;
    for (const step of action.runs.steps) {
      if (!step.run) continue;
      expect(step.run).not.toContain("${{");
      const env = Object.fromEntries(
        Object.entries(step.env as Record<string, string>).map(([key, text]) => [key, value(text)]),
      );
      const done = spawnSync("bash", ["--noprofile", "--norc", "-eo", "pipefail", "-c", step.run], {
        cwd: folder.path,
        encoding: "utf8",
        env: {
          PATH: process.env.PATH ?? "",
          GITHUB_STEP_SUMMARY: folder.at("summary.md"),
          GITHUB_OUTPUT: folder.at("output.txt"),
          ...env,
        },
      });
      stdout += done.stdout + done.stderr;
      status = done.status;
      for (const [, key = "", text = ""] of readFileSync(folder.at("output.txt"), "utf8").matchAll(
        /^(\w+)=(.*)$/gm,
      ))
        outputs[key] = text;
    }
    return { status, stdout, summary: readFileSync(folder.at("summary.md"), "utf8") };
  }
  const command = `${process.execPath} ${ROOT}/dist/bin/osnet-verify.js`;

  it("fails on a mutant, annotates its fault and writes the summary", async () => {
    const folder = await temporaryFolder({ "bad model.onnx": mutant() });
    const { status, stdout, summary } = await runAction(folder, {
      command,
      model: "bad model.onnx",
      reference: CHECKPOINT,
    });
    expect(status, stdout).toBe(1);
    expect(stdout).toMatch(/^::error file=bad model\.onnx,title=osnet\/\w+::conv3\.0\.gate\[1–4\]\.fc2/m);
    expect(summary.startsWith("## ❌ Parity does not hold: `bad model.onnx`")).toBe(true);
    expect((await folder.names()).includes("osnet-parity")).toBe(true);
  });

  it("runs a suite, and says 2 where there is nothing to use", async () => {
    const folder = await temporaryFolder({ "s.yaml": SUITE.replace(/ {2}shipped.*\n/, "") });
    const good = await runAction(folder, { command, suite: "s.yaml" });
    expect([good.status, good.summary.split("\n")[0]]).toEqual([0, "## ✅ Parity holds: small"]);
    const bad = await runAction(folder, { command, model: "$(touch owned)", reference: "; touch owned" });
    expect(bad.status).toBe(2);
    expect(await folder.names()).not.toContain("owned");
  });
});
