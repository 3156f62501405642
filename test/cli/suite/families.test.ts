import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { XMLParser, XMLValidator } from "fast-xml-parser";
import { expect, it } from "vitest";
import { stringify } from "yaml";
import type { SuiteReport } from "../../../src/verify/suite/report.js";
import { temporaryFolder } from "../../support/folder.js";
import { schemaOf } from "../../support/schemas.js";
import { mutant } from "../../support/suite-files.js";
import { tinyBytes } from "../../support/tiny-file.js";
import { run, spawnCommand } from "../command.js";

const FAMILIES = { plain: "block", ain: "ain block" } as const;

/** Each as ONNX and as a graph model, and two mutants among them. */
const MODELS = Object.fromEntries(
  Object.keys(FAMILIES).map((family) => [family, { checkpoint: `${family}.pth` }]),
);
const options = { size: "64x32" };
const SUITE = stringify({
  name: "families",
  defaults: { size: "64x32", batch: 2 },
  models: MODELS,
  candidates: {
    onnx: { convert: "onnx", options },
    graph: { convert: "tfjs-graph", options },
    "gate-bias": { file: "mutant.onnx", models: ["plain"] },
    epsilon: { file: "mutant.tfjs", models: ["ain"] },
  },
});

it("a suite of several families finds its two mutants, and every report leads with them", async () => {
  const checkpoints = Object.fromEntries(
    Object.entries(FAMILIES).map(([family, network]) => [`${family}.pth`, tinyBytes(network)]),
  );
  const folder = await temporaryFolder({ "s.yaml": SUITE, "mutant.onnx": mutant(), ...checkpoints });
  await makeWrongEpsilon(folder.at("mutant.tfjs"), folder.path);
  const { status, stderr } = await spawnCommand(
    "osnet-verify",
    ["suite", "s.yaml", "--report-dir", "r", "--jobs", "2"],
    {
      cwd: folder.path,
    },
  );
  expect([status, stderr]).toEqual([1, ""]);
  const text = async (name: string): Promise<string> => readFile(folder.at(join("r", name)), "utf8");
  const suite = JSON.parse(await text("suite.json")) as SuiteReport;
  const validate = schemaOf("osnet-parity-suite-1.schema.json");
  validate(suite);
  expect(validate.errors).toBeNull();
  expect(suite.entries.map(({ status: one }) => one).filter((one) => one !== "pass")).toEqual([
    "fail",
    "fail",
  ]);
  expect([...new Set(suite.faults.map(({ entry, cause }) => `${entry}: ${cause}`))]).toEqual([
    "plain · gate-bias: bias",
    "ain · epsilon: epsilon",
  ]);

  const { runs } = JSON.parse(await text("suite.sarif"));
  expect(
    runs[0].results.map(({ message }: { message: { text: string } }) => message.text.split(": ")[0]),
  ).toEqual(["conv2.0.gate[1–3].fc2", "conv2.0.IN"]);
  const headings = (await text("suite.md")).split("\n").filter((line) => line.startsWith("#"));
  expect(headings.slice(1)).toEqual([
    "### ❌ `plain` · `gate-bias`",
    "### ❌ `ain` · `epsilon`",
    "### All entries",
  ]);
  const xml = new XMLParser({ ignoreAttributes: false }).parse(await text("suite.xml"));
  const failures = xml.testsuites.testsuite.map((one: Record<string, string>) => Number(one["@_failures"]));
  expect(failures.slice(0, 2).every((count: number) => count > 0)).toBe(true);
  expect(failures.slice(2).every((count: number) => count === 0)).toBe(true);

  for (const name of await readdir(folder.at("r/entries"))) {
    const report = await text(`entries/${name}`);
    if (name.endsWith(".xml")) expect(XMLValidator.validate(report), name).toBe(true);
    if (name.endsWith(".md")) expect(Buffer.byteLength(report), name).toBeLessThan(60_000);
    if (name.endsWith(".html")) expect(Buffer.byteLength(report), name).toBeLessThan(2e6);
  }
});

/** A layers model whose first instance norm has ε = 1e-3, in both places that the file has it. */
async function makeWrongEpsilon(path: string, cwd: string): Promise<void> {
  const args = [
    "pth2tfjs",
    "ain.pth",
    "-o",
    path,
    "--tfjs-format",
    "layers",
    "--size",
    "64x32",
    "--no-verify",
  ];
  expect((await run("osnet-convert", args, { cwd })).status).toBe(0);
  const model = JSON.parse(await readFile(join(path, "model.json"), "utf8"));
  for (const { name, config } of model.modelTopology.model_config.config.layers) {
    if (name === "conv2.0.IN-normalized") config.epsilon = 1e-3;
    if (name === "conv2.0.IN-ratio") config.scale = -1000;
  }
  await writeFile(join(path, "model.json"), JSON.stringify(model));
}
