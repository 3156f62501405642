import { beforeAll, describe, expect, it } from "vitest";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import type { OnnxModel } from "../../src/convert/formats/onnx/model.js";
import { fixturePath, readFixture } from "../fixtures.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { type Folder, temporaryFolder } from "../support/folder.js";
import { tinyFile } from "../support/tiny-file.js";
import { type Finished, run } from "./command.js";

const CHECKPOINT = fixturePath("osnet_x0_25.pth") ?? "";
const SMALL = tinyFile("block");
const GATES = tinyCheckpoint("block").graph.gates.map(({ layer }) => layer);

function convert(folder: Folder, ...args: readonly string[]): Promise<Finished> {
  return run("osnet-convert", ["pth2onnx", ...args], { cwd: folder.path });
}

async function readModel(folder: Folder, name: string): Promise<OnnxModel> {
  return decodeOnnx(await folder.read(name), { subject: name });
}

describe("osnet-convert pth2onnx", () => {
  let bytes: Uint8Array;
  beforeAll(async () => {
    const stdin = readFixture("osnet_x0_25.pth");
    const args = ["pth2onnx", "-", "--size", "64x32", "--no-verify", "--quiet"];
    bytes = (await run("osnet-convert", args, { cwd: "/", stdin })).stdout;
  });

  it("writes a verified file, and nothing else", async () => {
    const folder = await temporaryFolder();
    const { status, stdout, stderr } = await convert(folder, CHECKPOINT, "-o", "out.onnx", "--size", "64x32");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const [network, verified, wrote, ...rest] = stdout.toString().split("\n");
    expect(network).toBe(
      "osnet_x0_25.pth: osnet_x0_25, 16 classes, 0.2 M parameters, 82 M multiply-adds at 256×128",
    );
    expect(verified).toMatch(
      /^verified: 378 layers and 24 gates, each recomputed in float64, match to within rounding; the embedding is within [\d.]+e-[67] of the float64 reference \(relative to its largest value\)$/,
    );
    expect([wrote, ...rest]).toEqual(["wrote out.onnx, 0.9 MB", ""]);
    expect(await folder.names()).toEqual(["out.onnx"]);
    const { inputs, outputs } = (await readModel(folder, "out.onnx")).graph;
    expect(inputs).toEqual([{ name: "images", dtype: "float32", shape: ["batch", 3, 64, 32] }]);
    expect(outputs).toEqual([{ name: "features", dtype: "float32", shape: ["batch", 512] }]);
  });

  it("writes the same bytes every time, and to standard output too", async () => {
    const folder = await temporaryFolder();
    await convert(folder, CHECKPOINT, "-o", "out.onnx", "--size", "64x32", "--no-verify");
    expect(bytes.length).toBeGreaterThan(800_000);
    expect(Buffer.from(bytes).equals(await folder.read("out.onnx"))).toBe(true);
  });

  it("verifies what it writes to standard output, and says so on standard error", async () => {
    const folder = await temporaryFolder();
    const { status, stdout, stderr } = await run(
      "osnet-convert",
      ["pth2onnx", "-", "-o", "-", "--size", "64x32"],
      { cwd: folder.path, stdin: readFixture("osnet_x0_25.pth") },
    );
    expect(status).toBe(0);
    expect(stdout.equals(bytes)).toBe(true);
    expect(stderr).toMatch(
      /^standard input: osnet_x0_25, 16 classes, .*\nverified: .*\nwrote standard output, 0\.9 MB\n$/,
    );
    expect(await folder.names()).toEqual([]);
  });

  it.each([
    ["w.pth", "w.onnx"],
    ["w.pth.tar-60", "w.onnx"],
    ["w.v2.ckpt", "w.v2.onnx"],
    ["weights", "weights.onnx"],
  ])("writes %s beside it as %s", async (input, output) => {
    const folder = await temporaryFolder({ [input]: readFixture("osnet_x0_25.pth") });
    const { status, stdout } = await run(
      "osnet-convert",
      ["pth2onnx", folder.at(input), "--size", "64x32", "--no-verify"],
      { cwd: "/" },
    );
    expect(status).toBe(0);
    expect(stdout.toString()).toContain(`wrote ${folder.at(output)}, 0.9 MB, not verified\n`);
    expect(await folder.names()).toEqual([input, output].sort());
    expect(Buffer.from(bytes).equals(await folder.read(output))).toBe(true);
  });

  it("--json describes the result", async () => {
    const folder = await temporaryFolder();
    const args = ["-o", "out.onnx", "--size", "64x32", "--json"];
    const { status, stdout } = await convert(folder, SMALL, ...args);
    expect(status).toBe(0);
    expect(JSON.parse(stdout.toString())).toMatchObject({
      output: "out.onnx",
      bytes: (await folder.read("out.onnx")).length,
      written: true,
      spec: { dialect: "osnet", head: { classes: 6, loss: "softmax" } },
      verification: { schema: "osnet-parity/1", passed: true, faults: [], candidate: { name: "out.onnx" } },
    });
  });

  it("--quiet says nothing", async () => {
    const folder = await temporaryFolder();
    const args = ["-o", "out.onnx", "--size", "64x32", "--quiet"];
    const { status, stdout, stderr } = await convert(folder, SMALL, ...args);
    expect({ status, stdout: stdout.toString(), stderr }).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(await folder.names()).toEqual(["out.onnx"]);
  });

  it("--force replaces an existing file", async () => {
    const folder = await temporaryFolder({ "out.onnx": "an older model" });
    const args = ["-o", "out.onnx", "--size", "64x32", "--no-verify", "--force"];
    expect((await convert(folder, CHECKPOINT, ...args)).status).toBe(0);
    expect(Buffer.from(bytes).equals(await folder.read("out.onnx"))).toBe(true);
    expect(await folder.names()).toEqual(["out.onnx"]);
  });

  it("--arch takes a spec.json", async () => {
    const { spec } = tinyCheckpoint("block");
    const folder = await temporaryFolder({
      "spec.json": JSON.stringify({ ...spec, head: { classes: 6, loss: "sigmoid" } }),
    });
    const args = ["-o", "out.onnx", "--size", "64x32", "--arch", "spec.json"];
    expect((await convert(folder, SMALL, ...args)).status).toBe(0);
    expect((await readModel(folder, "out.onnx")).graph.outputs.map(({ name }) => name)).toEqual([
      "probabilities",
    ]);
  });

  it.each<readonly [args: readonly string[], ...expected: [Partial<Written>]]>([
    [["--gates"], { outputs: ["features", ...GATES] }],
    [["--output", "both"], { outputs: ["features", "logits"] }],
    [["--output", "logits"], { outputs: ["logits"] }],
    [["--output", "both", "--gates"], { outputs: ["features", "logits", ...GATES] }],
    [["--opset", "11"], { opset: 11, irVersion: 6 }],
    [["--opset", "13"], { opset: 13, irVersion: 7 }],
    [["--opset", "26"], { opset: 26, irVersion: 13 }],
    [["--no-fold"], { batchNorms: 13 }],
    [["--batch", "3"], { input: [3, 3, 64, 32] }],
    [["--size", "dynamic", "--batch", "1"], { input: [1, 3, "height", "width"] }],
    [["--input-name", "x", "--output-name", "y"], { outputs: ["y"] }],
  ])("%j is written and verified", async (args, expected) => {
    const folder = await temporaryFolder();
    const { status, stderr } = await convert(folder, SMALL, "-o", "o.onnx", "--size", "64x32", ...args);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(written(await readModel(folder, "o.onnx"))).toEqual({ ...DEFAULTS, ...expected });
  });

  it.each([
    ["leaves nothing", {}],
    ["leaves the old file", { "out.onnx": "an older model" }],
  ])("%s when what it wrote does not verify", async (_, files) => {
    const folder = await temporaryFolder(files);
    const args = ["-o", "out.onnx", "--size", "64x32", "--tolerance", "1e-9", "--force"];
    const { status, stdout } = await convert(folder, SMALL, ...args);
    expect(status).toBe(1);
    expect(stdout.toString()).toMatch(
      /\n\nFAIL {2}\d+ faults?, first at .*\n\nout\.onnx was not written\.\n$/,
    );
    expect(await folder.names()).toEqual(Object.keys(files));
    for (const name of Object.keys(files))
      expect(Buffer.from(await folder.read(name)).toString()).toBe("an older model");
  });

  it("--json says that a failed conversion was not written", async () => {
    const folder = await temporaryFolder();
    const args = ["-o", "-", "--size", "64x32", "--tolerance", "1e-9", "--json"];
    const { status, stdout, stderr } = await convert(folder, SMALL, ...args);
    expect({ status, bytes: stdout.length }).toEqual({ status: 1, bytes: 0 });
    expect(JSON.parse(stderr)).toMatchObject({ written: false, verification: { passed: false } });
  });
});

describe.each(["osnet-convert", "osnet-verify"] as const)("%s", (command) => {
  it.each([
    ["--help", /^Usage: osnet-(convert|verify) \[options\]/],
    ["--version", /^0\.1\.0\n$/],
  ])("%s succeeds", async (option, text) => {
    const { status, stdout, stderr } = await run(command, [option], { cwd: "/" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.toString()).toMatch(text);
  });
});

/** What the options can change in a file. */
interface Written {
  readonly opset: number;
  readonly irVersion: number;
  readonly input: readonly unknown[] | undefined;
  readonly outputs: readonly string[];
  readonly batchNorms: number;
}

const DEFAULTS: Written = {
  opset: 17,
  irVersion: 8,
  input: ["batch", 3, 64, 32],
  outputs: ["features"],
  batchNorms: 0,
};

function written({ opset, irVersion, graph }: OnnxModel): Written {
  return {
    opset,
    irVersion,
    input: graph.inputs[0]?.shape,
    outputs: graph.outputs.map(({ name }) => name),
    batchNorms: graph.nodes.filter(({ opType }) => opType === "BatchNormalization").length,
  };
}
