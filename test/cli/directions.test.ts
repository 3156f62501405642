import { mkdir, readdir, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lowerToTfjsLayers } from "../../src/convert/export/tfjs-layers-model.js";
import { compareBits } from "../../src/convert/export/write.js";
import { FILE_FORMATS, type FileFormat, FORMATS, isModelFormat } from "../../src/convert/formats/registry.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import type { StateDict } from "../../src/core/tensor.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { createFolder, type Folder } from "../support/folder.js";
import { type FormatFiles, fileOf, parametersIn, stateDictOf } from "../support/formats.js";
import { keras3Files } from "../support/keras3.js";
import { SMALL } from "../support/osnet.js";
import { refusal, run } from "./command.js";

/** Every format to every format: what was never folded comes out of all as it went into the first. */

const { graph, stateDict } = tinyCheckpoint("block");

let folder: Folder;

beforeAll(async () => {
  folder = await createFolder();
  for (const format of FILE_FORMATS)
    await write(`w.${format}`, format, await fileOf(format, graph, stateDict));
  const layers = lowerToTfjsLayers(graph, stateDict, { size: SMALL, fold: false, output: "both" });
  const { json, shards } = encodeTfjs(layers);
  await write("layers.tfjs", "tfjs", { main: json, beside: shards });
});

afterAll(() => folder.remove());

async function write(name: string, format: FileFormat, { main, beside }: FormatFiles): Promise<void> {
  const { main: inside } = FORMATS[format];
  if (inside !== undefined) await mkdir(folder.at(name), { recursive: true });
  await writeFile(folder.at(inside === undefined ? name : `${name}/${inside}`), main);
  for (const [path, bytes] of beside) await writeFile(folder.at(`${name}/${path}`), bytes);
}

/** The weights in a file of any format, read by this process. */
async function weightsIn(name: string, format: FileFormat): Promise<StateDict> {
  const { main: inside } = FORMATS[format];
  const main = await folder.read(inside === undefined ? name : `${name}/${inside}`);
  const beside = new Map<string, Uint8Array>();
  if (inside !== undefined)
    for (const path of await readdir(folder.at(name))) beside.set(path, await folder.read(`${name}/${path}`));
  return parametersIn(stateDictOf(format, { main, beside }, name));
}

describe.each(FILE_FORMATS)("from %s", (from) => {
  it.each(FILE_FORMATS)("to %s, bit for bit", async (to) => {
    const output = `${from}.${to}`;
    const options = isModelFormat(to) ? ["--no-fold", "--size", "64x32", "--output", "both"] : [];
    // Weights read from a model are held against a run of it; the other directions have tests of their verification.
    const verified = from === "tfjs" && to === "pth" ? [] : ["--no-verify"];
    const { status, stderr } = await run(
      "osnet-convert",
      [`${from}2${to}`, `w.${from}`, "-o", output, ...options, ...verified],
      { cwd: folder.path },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(compareBits(parametersIn(stateDict), await weightsIn(output, to))).toEqual([]);
  });
});

describe("osnet-convert from TensorFlow.js", () => {
  it("reads a layers model by its model.json, verified before anything is written", async () => {
    const { status, stdout, stderr } = await run(
      "osnet-convert",
      ["tfjs2safetensors", "layers.tfjs/model.json"],
      {
        cwd: folder.path,
      },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.toString()).toMatch(
      /^model\.json: osnet_x1_0 with channels .*, 6 classes, .*\n {2}a layers model, written by osnet-convert\nverified: run in tfjs-wasm, 69 of its layers and 3 gates match the weights read from it\nverified: 91 tensors read back bit for bit\nwrote layers\.safetensors/,
    );
    const written = await weightsIn("layers.safetensors", "safetensors");
    expect(compareBits(parametersIn(stateDict), written)).toEqual([]);
  });

  it("makes a model of Keras 3, which tfjs does not load, one that it runs", async () => {
    const { json, shards } = keras3Files();
    await write("keras3", "tfjs", { main: json, beside: shards });
    const args = ["tfjs2tfjs", "keras3", "-o", "keras2", "--tfjs-format", "layers", "--size", "64x32"];
    const { status, stdout, stderr } = await run("osnet-convert", args, { cwd: folder.path });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.toString()).toMatch(
      /which tfjs cannot load: it was read, but not run\nverified: 378 layers and 24 gates, /,
    );
  });

  it.each([
    [["tfjs2pth", "-"], {}, "standard input: found one file, expected the folder of a TensorFlow.js model"],
    [
      ["tfjs2npz", "w.pth"],
      { "w.pth": "PK" },
      "w.pth: found text that is not a JSON object, expected the model.json",
    ],
    [
      ["tfjs2pth", "m.json"],
      {
        "m.json": JSON.stringify({ format: "graph-model", modelTopology: { node: [] }, weightsManifest: [] }),
      },
      "m.json: found a graph without inputs, expected one that takes images",
    ],
  ] as const)("refuses %j", async (args, files, message) => {
    const said = await refusal("osnet-convert", [...args], files);
    expect(said.slice(0, message.length)).toBe(message);
  });

  it("refuses a weight file that is a link, and one that is not there", async () => {
    const { symlink } = await import("node:fs/promises");
    const { main, beside } = await fileOf("tfjs", graph, stateDict);
    const [[name = "", bytes = new Uint8Array()] = []] = beside;
    await write("linked", "tfjs", { main, beside: new Map() });
    await writeFile(folder.at("elsewhere.bin"), bytes);
    const convertIt = () => run("osnet-convert", ["tfjs2pth", "linked", "-o", "l.pth"], { cwd: folder.path });
    expect((await convertIt()).stderr).toMatch(
      `found no file "${name}", expected all of 1 weight files; copy the model's whole folder.`,
    );
    await symlink(folder.at("elsewhere.bin"), folder.at(`linked/${name}`));
    const { status, stderr } = await convertIt();
    expect([status, stderr]).toEqual([
      2,
      `${name}: found a link, expected a regular file beside the model; copy the file itself into the model's folder.\n`,
    ]);
  });
});
