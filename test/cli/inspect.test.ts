import { rm } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import type { Inspection } from "../../src/convert/inspect/inspection.js";
import { identityModel } from "../convert/formats/onnx/models.js";
import { fixturePath, readFixture } from "../fixtures.js";
import { temporaryFolder } from "../support/folder.js";
import { openFixture, withTensor, withValues } from "../support/osnet.js";
import { encodePth } from "../support/pth-writer.js";
import { refusal, run } from "./command.js";

const CHECKPOINT = fixturePath("osnet_x0_25.pth") ?? "";
const { stateDict } = openFixture();

describe("osnet-convert inspect", () => {
  it("prints a table", async () => {
    const { status, stdout, stderr } = await run("osnet-convert", ["inspect", CHECKPOINT], { cwd: "/" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.toString()).toMatch(/^ {2}network {8}osnet_x0_25$/m);
  });

  it("prints JSON, and reads standard input", async () => {
    const stdin = readFixture("osnet_x0_25.pth");
    const { status, stdout } = await run("osnet-convert", ["inspect", "-", "--json"], { cwd: "/", stdin });
    expect(status).toBe(0);
    const { schema, file, network } = JSON.parse(stdout.toString()) as Inspection;
    expect([schema, file.name, network.variant]).toEqual([
      "osnet-inspection/1",
      "standard input",
      "osnet_x0_25",
    ]);
  });

  it("takes --arch and --key as conversions do", async () => {
    const spec = openFixture().spec;
    const folder = await temporaryFolder({ "spec.json": JSON.stringify({ ...spec, pooling: "max" }) });
    const args = ["inspect", CHECKPOINT, "--arch", "spec.json", "--json"];
    const { stdout } = await run("osnet-convert", args, { cwd: folder.path });
    expect((JSON.parse(stdout.toString()) as Inspection).network).toMatchObject({
      variant: null,
      nearest: { variant: "osnet_x0_25", differences: ["global max pooling"] },
    });
    expect(await refusal("osnet-convert", ["inspect", CHECKPOINT, "--key", "nowhere"])).toMatch(
      /^--key nowhere: found no tensors at that path in osnet_x0_25\.pth, /,
    );
  });

  it("reports NaN, and ends well", async () => {
    const broken = withTensor(stateDict, "fc.0.bias", (tensor) => withValues(tensor, { 3: Number.NaN }));
    const folder = await temporaryFolder({ "w.pth": encodePth(broken) });
    const { status, stdout } = await run("osnet-convert", ["inspect", "w.pth"], { cwd: folder.path });
    expect(status).toBe(0);
    expect(stdout.toString()).toMatch(/^ {2}error {2}non-finite +1 +1 {2}fc\.0\.bias\[3\] = NaN$/m);
  });

  it("refuses an incomplete network as conversions do", async () => {
    const incomplete = new Map(stateDict);
    incomplete.delete("conv5.bn.bias");
    incomplete.set("conv5.bn.beta", { dtype: "float32", shape: [1], data: new Float32Array(1) });
    expect(await refusal("osnet-convert", ["inspect", "w.pth"], { "w.pth": encodePth(incomplete) })).toBe(
      `w.pth: found 1 missing, 1 unexpected keys, expected the complete state dict of osnet_x0_25; partial state dicts are not loaded, so repair the checkpoint, or name its architecture with --arch.
  missing: conv5.bn.bias [128]
  unexpected: conv5.bn.beta [1]
`,
    );
  });

  it("describes an ONNX file, its weights beside it or missing", async () => {
    const args = ["pth2onnx", CHECKPOINT, "-o", "m.onnx", "--external-data", "--no-verify", "--no-fold"];
    const folder = await temporaryFolder();
    await run("osnet-convert", args, { cwd: folder.path });
    const inspect = async (): Promise<string> => {
      const { status, stdout } = await run("osnet-convert", ["inspect", "m.onnx"], { cwd: folder.path });
      expect(status).toBe(0);
      return stdout.toString();
    };
    expect(await inspect()).toMatch(
      / {2}weights {8}in m\.onnx\.data\n[\s\S]* {2}fingerprint {4}1b775044290ebf1e\n/,
    );
    await rm(folder.at("m.onnx.data"));
    expect(await inspect()).toMatch(
      / {2}weights {8}needs m\.onnx\.data beside it\n[\s\S]* {2}network {8}osnet_x0_25\n/,
    );
  });

  it("describes a TensorFlow.js model from standard input, which has no weights", async () => {
    const folder = await temporaryFolder();
    const args = ["pth2tfjs", CHECKPOINT, "-o", "m", "--tfjs-format", "layers", "--no-verify"];
    await run("osnet-convert", args, { cwd: folder.path });
    const stdin = await folder.read("m/model.json");
    const { status, stdout } = await run("osnet-convert", ["inspect", "-"], { cwd: folder.path, stdin });
    expect(status).toBe(0);
    expect(stdout.toString()).toMatch(
      /^standard input: .*\n[\s\S]* {2}weights +needs group1-shard1of1\.bin beside it\n[\s\S]* {2}network +osnet_x0_25\n/,
    );
  });

  it("describes and refuses an ONNX file of another network", async () => {
    const model = identityModel();
    const folder = await temporaryFolder({ "m.onnx": encodeOnnx(model) });
    const { status, stdout, stderr } = await run("osnet-convert", ["inspect", "m.onnx"], {
      cwd: folder.path,
    });
    expect(status).toBe(2);
    expect(stdout.toString()).toMatch(/\n {2}operators +1 Identity\n/);
    expect(stderr).toMatch(/^m\.onnx: found another network of 0 Conv, .*, expected an OSNet, .*; .*\.\n$/);
  });

  it.each(["m", "m/model.json"])("describes a TensorFlow.js model given as %s", async (input) => {
    const folder = await temporaryFolder();
    const args = ["pth2tfjs", CHECKPOINT, "-o", "m", "--no-verify", "--no-fold"];
    await run("osnet-convert", args, { cwd: folder.path });
    const { status, stdout } = await run("osnet-convert", ["inspect", input], { cwd: folder.path });
    expect(status).toBe(0);
    expect(stdout.toString()).toMatch(
      / {2}converted by +osnet-convert\n[\s\S]* {2}fingerprint +1b775044290ebf1e\n/,
    );
  });
});
