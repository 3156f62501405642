import { describe, expect, it } from "vitest";
import { FORMATS, MODEL_FORMATS } from "../../../src/convert/formats/registry.js";
import { isInstalled } from "../../../src/verify/backends/node-packages.js";
import {
  BACKENDS,
  engineOf,
  isRuntime,
  RUNTIMES,
  runtimesFor,
} from "../../../src/verify/backends/registry.js";
import { text } from "../../support/markdown.js";
import { schemaOf } from "../../support/schemas.js";
import { REPORT } from "../reports/report.js";
import { backendContract } from "./contract.js";

const here = Object.entries(BACKENDS).filter(([, { where }]) => where.includes("node"));

for (const [name, { package: from }] of here) {
  if (!isRuntime(name)) throw new Error(`${name} runs in Node and cannot be chosen there`);
  // An optional package that is no dependency of the tests either.
  describe.skipIf(!isInstalled(from))(isInstalled(from) ? "" : `(${from} is not installed)`, () =>
    backendContract(name),
  );
}

describe("the registry", () => {
  it("has a default for each format, which is installed", () => {
    expect(runtimesFor("onnx")[0]).toBe("onnxruntime");
    expect(runtimesFor("tfjs")[0]).toBe("tfjs-wasm");
    for (const name of RUNTIMES) expect(runtimesFor(engineOf(name).runs)).toContain(name);
  });

  it("has rows that docs/backends.md lists", () => {
    const listed = [...text("docs/backends.md").matchAll(/^\| `([a-z0-9-]+)` \| (.*?) \| (.*?) \|/gm)];
    expect(
      listed.map(([, name, format, places = ""]) => [
        name,
        MODEL_FORMATS.find((row) => FORMATS[row].title === format),
        places.split(", ").map((place) => (place === "Node" ? "node" : "browser")),
      ]),
    ).toEqual(Object.entries(BACKENDS).map(([name, { runs, where }]) => [name, runs, where]));
  });

  it("has names that reports may have", () => {
    const isValid = schemaOf("osnet-parity-1.schema.json");
    for (const backend of [...Object.keys(BACKENDS), ...RUNTIMES, "reference", "recorded"])
      expect(isValid({ ...REPORT, backend }), backend).toBe(true);
    expect(isValid({ ...REPORT, backend: "onnx runtime" })).toBe(false);
  });
});
