import { describe, expect, it } from "vitest";
import { readSuiteFile } from "../../../src/cli/suite/file.js";
import { InputError } from "../../../src/core/errors.js";
import { nextEntry, planSuite } from "../../../src/verify/suite/plan.js";
import { temporaryFolder } from "../../support/folder.js";
import { SUITE } from "../../support/suite-files.js";
import { refusal } from "../command.js";

/** What is wrong with a suite file, a line each. */
async function problems(name: string, text: string): Promise<readonly string[]> {
  const folder = await temporaryFolder({ [name]: text });
  try {
    planSuite(await readSuiteFile(folder.at(name)), name);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return error.details.length > 0 ? error.details : [error.message];
  }
  return [];
}

const MORE =
  "expected a suite of models and candidates; see docs/ci.md, or start from osnet-verify suite --init.";
const REST = "candidates: {o: {convert: onnx}}\n";

describe("a suite file", () => {
  it.each([
    [
      "a mistyped word",
      "models: {a: {checkpoint: x}}\ncandidates:\n  onnx: { convert: onxn }\n",
      [
        `x.yaml: found line 3, candidates.onnx.convert: found "onxn", expected onnx or tfjs-graph or tfjs-layers, ${MORE}`,
      ],
    ],
    [
      "keys that nobody knows, with what was meant",
      `models:\n  a: { checkpiont: x, sed: 1, whatever: 2 }\n${REST}matrx: {}\n`,
      [
        "line 4, matrx: no such key, did you mean matrix?",
        "line 2, models.a.checkpiont: no such key, did you mean checkpoint?",
        "line 2, models.a.sed: no such key, did you mean seed?",
        "line 2, models.a.whatever: no such key, expected one of checkpoint, key, arch, seed",
        "line 2, models.a: expected either a checkpoint, or a seed and an arch",
      ],
    ],
    [
      "names that nothing has",
      `models: {market: {checkpoint: x}}\n${REST}matrix:\n  exclude:\n    - { model: markt }\n    - { candidate: graph }\n`,
      [
        'line 5, matrix.exclude.0.model: found "markt", did you mean market?',
        'line 6, matrix.exclude.1.candidate: found "graph", expected one of o',
      ],
    ],
    [
      "values of another kind",
      `models:\n  a:\n    arch: osnet_x0_25\n    seed: "1"\n${REST}defaults:\n  tolerance: 2\n  batch: 0\n`,
      [
        "line 7, defaults.tolerance: found 2, expected auto or a number between 0 and 1",
        "line 8, defaults.batch: found 0, expected a whole number from 1 to 1024",
        'line 4, models.a.seed: found "1", expected a whole number from 0 to 4294967295',
      ],
    ],
    [
      "a name twice",
      `models:\n  a: { checkpoint: x }\n  a: { checkpoint: y }\n${REST}`,
      [`x.yaml: found line 3, a: a duplicate key, ${MORE}`],
    ],
    ["no list's end", "models: [\n", [/^x\.yaml: found line 2: /]],
    ["a list", "- 1\n", [`x.yaml: found line 1, the suite: found [1], expected keys and values, ${MORE}`]],
    ["nothing", "", [`x.yaml: found the suite: found null, expected keys and values, ${MORE}`]],
    [
      "reports of one name",
      `models: {a: {checkpoint: x}, A: {checkpoint: y}}\n${REST}`,
      [
        /^x\.yaml: found a · o · onnxruntime and A · o · onnxruntime, whose reports would have the same file name/,
      ],
    ],
  ])("with %s is told so by line and key", async (_, text, expected) => {
    const found = await problems("x.yaml", text);
    expect(found).toHaveLength(expected.length);
    expected.forEach((one, index) => {
      if (typeof one === "string") expect(found[index]).toBe(one);
      else expect(found[index]).toMatch(one);
    });
  });

  it("in JSON likewise, and YAML is not JSON", async () => {
    const json =
      '{\n "models": {\n  "a": {"seed": 1, "arch": 3}\n },\n "candidates": {"o": {"convert": "onnx"}}\n}';
    expect(await problems("x.json", json)).toEqual([
      `x.json: found line 3, models.a.arch: found 3, expected a non-empty string, ${MORE}`,
    ]);
    const twice = json.replace('"candidates"', '"models": {},\n "candidates"');
    expect(await problems("x.json", twice)).toEqual([
      `x.json: found line 5, models: a duplicate key, ${MORE}`,
    ]);
    expect(await problems("x.json", `${json.slice(0, -2)},\n}`)).toEqual([
      `x.json: found line 6: text that is not JSON, ${MORE}`,
    ]);
    expect(await problems("x.json", SUITE)).toHaveLength(1);
  });

  it("that is whole has no problems", async () => {
    expect(await problems("x.yaml", SUITE)).toEqual([]);
  });

  it("makes the command refuse, and nothing is written", async () => {
    const message = await refusal("osnet-verify", ["suite", "s.yaml", "--report-dir", "r"], {
      "s.yaml": "models: 1\n",
    });
    expect(message).toContain("line 1, models: found 1, expected keys and values");
  });

  it("runs a file in those of the matrix's backends that run it", async () => {
    const text = `models: { a: { checkpoint: x.pth } }
candidates:
  theirs: { file: their.onnx }
  web: { file: web/model.json }
  torch: { file: recorded.npz }
  own: { file: recorded.npz, backends: [tfjs-cpu] }
matrix: { backends: [onnxruntime, tfjs-wasm, tfjs-cpu] }
`;
    const folder = await temporaryFolder({ "x.yaml": text });
    const entries = planSuite(await readSuiteFile(folder.at("x.yaml")), "x.yaml");
    expect(entries.map(({ id }) => id)).toEqual([
      "a · theirs · onnxruntime",
      "a · web · tfjs-wasm",
      "a · web · tfjs-cpu",
      "a · torch",
      "a · own · tfjs-cpu",
    ]);
  });

  it("has its entries run by processes that stay with a model as long as it has some", async () => {
    const text = `
models: { a: { arch: osnet_x0_25, seed: 1 }, b: { arch: osnet_x0_25, seed: 2 }, c: { arch: osnet_x0_25, seed: 3 } }
candidates: { onnx: { convert: onnx }, graph: { convert: tfjs-graph } }
`;
    const folder = await temporaryFolder({ "x.yaml": text });
    const waiting = [...planSuite(await readSuiteFile(folder.at("x.yaml")), "x.yaml")];
    const last: (string | undefined)[] = [undefined, undefined];
    const begun = new Set<string>();
    const ran = [0, 1, 1, 0, 1, 0, 0].map((process) => {
      const [entry] = waiting.splice(nextEntry(waiting, last[process], begun), 1);
      last[process] = entry?.model;
      if (entry) begun.add(entry.model);
      return entry?.id;
    });
    expect(ran).toEqual([
      "a · onnx · onnxruntime",
      "b · onnx · onnxruntime",
      "b · graph · tfjs-wasm",
      "a · graph · tfjs-wasm",
      "c · onnx · onnxruntime",
      // What the other has begun, where nothing else is left.
      "c · graph · tfjs-wasm",
      undefined,
    ]);
  });
});
