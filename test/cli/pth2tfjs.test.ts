import { mkdir, readdir, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { fixturePath, missing } from "../fixtures.js";
import { type Folder, temporaryFolder } from "../support/folder.js";
import { tinyFile } from "../support/tiny-file.js";
import { type Finished, run } from "./command.js";

const CHECKPOINT = fixturePath("osnet_x0_25.pth") ?? "";
const SMALL = tinyFile("block");
const RECORDING = fixturePath("osnet_x0_25.64x32.npz") ?? "";
const FILES = ["group1-shard1of1.bin", "model.json"];

function convert(folder: Folder, ...args: readonly string[]): Promise<Finished> {
  return run("osnet-convert", ["pth2tfjs", SMALL, "--size", "64x32", ...args], { cwd: folder.path });
}

describe("osnet-convert pth2tfjs", () => {
  it("writes a verified folder, and nothing else, which osnet-verify takes", async (context) => {
    const absent = missing("osnet_x0_25.64x32.npz");
    if (absent) return context.skip(absent);
    const folder = await temporaryFolder();
    const { status, stdout, stderr } = await run(
      "osnet-convert",
      ["pth2tfjs", CHECKPOINT, "--size", "64x32", "-o", "model"],
      { cwd: folder.path },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.toString()).toMatch(/\nverified: 378 layers and 24 gates, .*\nwrote model, [\d.]+ MB\n$/);
    expect(await folder.names()).toEqual(["model"]);
    expect((await readdir(folder.at("model"))).sort()).toEqual(FILES);
    for (const args of [["model"], ["model/model.json", "--backend", "tfjs-cpu"]]) {
      const verified = await run("osnet-verify", [...args, "--reference", RECORDING], { cwd: folder.path });
      expect(verified.stderr).toBe("");
      expect(verified.status).toBe(0);
      expect(verified.stdout.toString()).toMatch(/PASS {2}features: 365 layers and 24 gates agree/);
      expect(verified.stdout.toString()).toMatch(new RegExp(`in ${args[2] ?? "tfjs-wasm"}, against`));
    }
  });

  it("replaces a model with --force, and never a folder of other files", async () => {
    const folder = await temporaryFolder();
    await convert(folder, "-o", "model", "--no-verify");
    const again = await convert(folder, "-o", "model", "--no-verify");
    expect([again.status, again.stderr]).toEqual([2, "model: already exists; add --force to replace it.\n"]);
    expect((await convert(folder, "-o", "model", "--no-verify", "--force", "--no-fold")).status).toBe(0);
    await mkdir(folder.at("photos"));
    await writeFile(folder.at("photos/one.jpg"), "");
    const refused = await convert(folder, "-o", "photos", "--no-verify", "--force");
    expect([refused.status, refused.stderr]).toEqual([
      2,
      "photos: found a folder with other files (one.jpg), expected a new folder; choose another name.\n",
    ]);
    expect(await folder.names()).toEqual(["model", "photos"]);
    expect(await readdir(folder.at("photos"))).toEqual(["one.jpg"]);
  });

  it("says what --quantize costs, of a model that takes raw pixels", async () => {
    const folder = await temporaryFolder();
    const args = ["-o", "model", "--quantize", "uint8", "--preprocess"];
    const { status, stdout } = await convert(folder, ...args);
    expect(stdout.toString()).toMatch(/\nverified: 56 layers and 3 gates, .* on the weights as stored/);
    expect(stdout.toString()).toMatch(
      /\nstored: 21 tensors as uint8, which changes the embedding by [\d.e+-]+ relative to its largest value \(cosine 0\.9\d+\)\n/,
    );
    expect(status).toBe(0);
  });

  it("writes a layers model with --tfjs-format layers, verified too", async () => {
    const folder = await temporaryFolder();
    const { status, stdout } = await convert(folder, "-o", "model", "--tfjs-format", "layers");
    expect(stdout.toString()).toMatch(/\nverified: 55 layers and 3 gates, /);
    expect(status).toBe(0);
    const document = JSON.parse(Buffer.from(await folder.read("model/model.json")).toString());
    expect(document.format).toBe("layers-model");
  });

  it.each([
    [["--quantize", "int4"], '--quantize: found "int4", expected float16, uint16 or uint8'],
    [["--preprocess", "w.pth"], '--preprocess: found "w.pth", expected rgb or bgr; put the file before'],
    [["--tfjs-format", "saved"], '--tfjs-format: found "saved", expected graph or layers'],
    [["--tfjs-format", "layers", "--no-fuse"], "--no-fuse: found a layers model"],
    [["--tfjs-format", "layers", "--output-name", "y"], "--output-name: found a layers model"],
    [["--tfjs-format", "layers", "--size", "dynamic"], "--size: found dynamic, expected a fixe"],
  ])("refuses %j", async (args, message) => {
    const folder = await temporaryFolder();
    const { status, stderr } = await convert(folder, "-o", "model", ...args);
    expect(stderr.slice(0, message.length)).toBe(message);
    expect(status).toBe(2);
    expect(await folder.names()).toEqual([]);
  });

  it("leaves no files if parity does not hold", async () => {
    const folder = await temporaryFolder();
    const { status, stdout } = await convert(folder, "-o", "model", "--tolerance", "1e-9");
    expect(status).toBe(1);
    expect(stdout.toString()).toMatch(/model was not written\.\n$/);
    expect(await folder.names()).toEqual([]);
  });

  it("does not write a folder to standard output", async () => {
    const folder = await temporaryFolder();
    const { status, stderr } = await convert(folder, "-o", "-");
    expect(status).toBe(2);
    expect(stderr).toMatch(/^--out: found standard output, expected a folder/);
  });

  it("refuses a model whose weight files lie elsewhere, or are gone", async () => {
    const folder = await temporaryFolder();
    const document = { format: "graph-model", modelTopology: { node: [] } };
    for (const [path, message] of [
      ["../w.bin", /expected the path of a file in the model's folder/],
      ["w.bin", /found no file "w\.bin", expected all of 1 weight files/],
    ] as const) {
      const manifest = [{ paths: [path], weights: [] }];
      await writeFile(folder.at("model.json"), JSON.stringify({ ...document, weightsManifest: manifest }));
      const args = ["model.json", "--reference", CHECKPOINT];
      const { status, stderr } = await run("osnet-verify", args, { cwd: folder.path });
      expect(status).toBe(2);
      expect(stderr).toMatch(message);
    }
  });
});
