import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareBits } from "../../src/convert/compare.js";
import { lowerToTfjs, lowerToTfjsLayers } from "../../src/convert/export/tfjs/index.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/index.js";
import {
  encodeWeights,
  openCheckpoint,
  openOnnxCheckpoint,
  openTfjsCheckpoint,
} from "../../src/convert/index.js";
import type { StateDict } from "../../src/core/tensor.js";
import { createFolder, type Folder } from "../support/folder.js";
import { keras3Files } from "../support/keras3.js";
import { convert, openFixture, SMALL } from "../support/osnet.js";
import { refusal, run } from "./command.js";

/** Every format to every format: what was never folded comes out of all as it went into the first. */

const FORMATS = ["pth", "safetensors", "npz", "onnx", "tfjs"] as const;

const { graph, stateDict } = openFixture();
const UNFOLDED = { size: SMALL, fold: false, output: "both" } as const;

/** Without what counts batches, which no model holds. */
const weightsOf = (from: StateDict): StateDict =>
  new Map([...from].filter(([path]) => !path.endsWith("num_batches_tracked")));

let folder: Folder;

beforeAll(async () => {
  folder = await createFolder();
  const { json, shards } = encodeTfjs(lowerToTfjs(graph, stateDict, UNFOLDED));
  const layers = encodeTfjs(lowerToTfjsLayers(graph, stateDict, UNFOLDED));
  await write({
    "w.pth": encodeWeights(stateDict, "pth", { subject: "w.pth" }),
    "w.safetensors": encodeWeights(stateDict, "safetensors", { subject: "w.safetensors" }),
    "w.npz": encodeWeights(stateDict, "npz", { subject: "w.npz" }),
    "w.onnx": convert({ graph, stateDict } as Parameters<typeof convert>[0], UNFOLDED),
    "w.tfjs/model.json": json,
    "layers.tfjs/model.json": layers.json,
    ...inFolder("w.tfjs", shards),
    ...inFolder("layers.tfjs", layers.shards),
  });
});

afterAll(() => folder.remove());

const inFolder = (name: string, shards: ReadonlyMap<string, Uint8Array>): Record<string, Uint8Array> =>
  Object.fromEntries([...shards].map(([path, bytes]) => [`${name}/${path}`, bytes]));

async function write(files: Readonly<Record<string, Uint8Array>>): Promise<void> {
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(dirname(folder.at(name)), { recursive: true });
    await writeFile(folder.at(name), bytes);
  }
}

/** What a file of any format holds, read by this process. */
async function held(name: string, format: (typeof FORMATS)[number]): Promise<StateDict> {
  const subject = name;
  if (format === "onnx") return openOnnxCheckpoint(await folder.read(name), { subject }).stateDict;
  if (format !== "tfjs") return openCheckpoint(await folder.read(name), { subject, format }).stateDict;
  const shard = "group1-shard1of1.bin";
  const shards = new Map([[shard, await folder.read(`${name}/${shard}`)]]);
  return openTfjsCheckpoint({ json: await folder.read(`${name}/model.json`), shards }, { subject }).stateDict;
}

const model = ["--no-fold", "--size", "64x32", "--output", "both"];

describe.each(FORMATS)("from %s", (from) => {
  it.each(FORMATS)("to %s, bit for bit", async (to) => {
    const output = `${from}.${to}`;
    const options = to === "onnx" || to === "tfjs" ? model : [];
    // Weights read from a model are held against a run of it; the other directions have tests of their verification.
    const verified = from === "tfjs" && to === "pth" ? [] : ["--no-verify"];
    const { status, stderr } = await run(
      "osnet-convert",
      [`${from}2${to}`, `w.${from}`, "-o", output, ...options, ...verified],
      { cwd: folder.path },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(compareBits(weightsOf(stateDict), weightsOf(await held(output, to)))).toEqual([]);
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
      /^model\.json: osnet_x0_25, 16 classes, .*\n {2}a layers model, written by osnet-convert\nverified: run in tfjs-wasm, 459 of its layers and 24 gates agree with the lifted weights\nverified: 567 tensors read back bit for bit\nwrote layers\.safetensors/,
    );
    const differences = compareBits(
      weightsOf(stateDict),
      weightsOf(await held("layers.safetensors", "safetensors")),
    );
    expect(differences).toEqual([]);
  });

  it("makes a model of Keras 3, which tfjs does not load, one that it runs", async () => {
    const { json, shards } = keras3Files();
    await write({ "keras3/model.json": json, ...inFolder("keras3", shards) });
    const args = ["tfjs2tfjs", "keras3", "-o", "keras2", "--tfjs-format", "layers", "--size", "64x32"];
    const { status, stdout, stderr } = await run("osnet-convert", args, { cwd: folder.path });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.toString()).toMatch(
      /which tfjs does not load: it was read, and not run\nverified: 378 layers and 24 gates, /,
    );
  });

  it.each([
    [["tfjs2pth", "-"], {}, "standard input: found one file, expected the folder of a TensorFlow.js model"],
    [["tfjs2npz", "w.pth"], { "w.pth": "PK" }, "w.pth: found no JSON object, expected the model.json"],
    [
      ["tfjs2pth", "m.json"],
      {
        "m.json": JSON.stringify({ format: "graph-model", modelTopology: { node: [] }, weightsManifest: [] }),
      },
      "m.json: found a graph without an input, expected one that takes images",
    ],
  ] as const)("refuses %j", async (args, files, message) => {
    const said = await refusal("osnet-convert", [...args], files);
    expect(said.slice(0, message.length)).toBe(message);
  });

  it("refuses a weight file that is a link, and one that is not there", async () => {
    const { symlink } = await import("node:fs/promises");
    const { json, shards } = encodeTfjs(lowerToTfjs(graph, stateDict, UNFOLDED));
    const [[name = "", bytes = new Uint8Array()] = []] = shards;
    await write({ "linked/model.json": json, "elsewhere.bin": bytes });
    const convertIt = () => run("osnet-convert", ["tfjs2pth", "linked", "-o", "l.pth"], { cwd: folder.path });
    expect((await convertIt()).stderr).toMatch(
      `found no file "${name}", expected all of 1 weight files; copy the model's whole folder.`,
    );
    await symlink(folder.at("elsewhere.bin"), folder.at(`linked/${name}`));
    const { status, stderr } = await convertIt();
    expect([status, stderr]).toEqual([
      2,
      `${name}: found a link, expected a plain file beside the model; copy the file itself into the model's folder.\n`,
    ]);
  });
});
