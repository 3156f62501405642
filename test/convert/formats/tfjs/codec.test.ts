import { describe, expect, it } from "vitest";
import { decodeTfjs, encodeTfjs, tfjsShardPaths } from "../../../../src/convert/formats/tfjs/codec.js";
import { splitShards } from "../../../../src/convert/formats/tfjs/manifest.js";
import { edited, GRAPH_MODEL, LAYERS_MODEL } from "./models.js";

const subject = "model.json";

describe("tfjs files", () => {
  it.each([
    ["graph model", GRAPH_MODEL],
    ["layers model", LAYERS_MODEL],
  ])("a %s read back is what was written", (_name, model) => {
    const files = encodeTfjs(model);
    expect(decodeTfjs(files, { subject })).toEqual(model);
    expect(encodeTfjs(decodeTfjs(files, { subject }))).toEqual(files);
    expect(tfjsShardPaths(files.json, { subject })).toEqual(["group1-shard1of1.bin"]);
  });

  it("cuts weights into files of 4 MiB, in the middle of a tensor", () => {
    const data = Float32Array.from({ length: 2 ** 20 + 5 }, (_, index) => index);
    const model = {
      ...LAYERS_MODEL,
      weights: new Map([["w", { tensor: { dtype: "float32" as const, shape: [data.length], data } }]]),
    };
    const files = encodeTfjs(model);
    expect([...files.shards].map(([path, { length }]) => [path, length])).toEqual([
      ["group1-shard1of2.bin", 4 * 2 ** 20],
      ["group1-shard2of2.bin", 20],
    ]);
    const read = decodeTfjs(files, { subject }).weights.get("w")?.tensor.data as Float32Array;
    expect(Buffer.from(read.buffer).equals(Buffer.from(data.buffer))).toBe(true);
  });

  it("reads several groups, each in files of its own", () => {
    const files = encodeTfjs(GRAPH_MODEL);
    const all = files.shards.get("group1-shard1of1.bin") ?? new Uint8Array();
    const grouped = edited(files, ({ weightsManifest }) => {
      const weights = weightsManifest[0]?.weights ?? [];
      weightsManifest.splice(
        0,
        1,
        { paths: ["a/1.bin", "a/2.bin"], weights: weights.slice(0, 1) },
        { paths: ["b.bin"], weights: weights.slice(1) },
      );
    });
    const shards = new Map([
      ["b.bin", all.subarray(16)],
      ["a/2.bin", all.subarray(5, 16)],
      ["a/1.bin", all.subarray(0, 5)],
    ]);
    const inFiles = (at: number): readonly string[] => (at === 0 ? ["a/1.bin", "a/2.bin"] : ["b.bin"]);
    const weights = [...GRAPH_MODEL.weights].map(
      ([name, weight], at) => [name, { ...weight, files: inFiles(at) }] as const,
    );
    const model = { ...GRAPH_MODEL, weights: new Map(weights) };
    expect(decodeTfjs({ json: grouped.json, shards }, { subject })).toEqual(model);
  });

  it("reads models that a browser has saved: their paths begin with ./", () => {
    const files = edited(encodeTfjs(GRAPH_MODEL), ({ weightsManifest: [group] }) => {
      if (group) group.paths = ["./group1-shard1of1.bin"];
    });
    expect(decodeTfjs(files, { subject })).toEqual(GRAPH_MODEL);
    expect(tfjsShardPaths(files.json, { subject })).toEqual(["group1-shard1of1.bin"]);
  });

  it("writes one empty file for no weights", () => {
    expect([...splitShards([], 4)]).toEqual([["group1-shard1of1.bin", new Uint8Array()]]);
  });

  it("knows models of early writers: no format, the signature in the metadata", () => {
    const files = edited(encodeTfjs(GRAPH_MODEL), (document) => {
      delete document.format;
      document.userDefinedMetadata = { signature: document.signature };
      delete document.signature;
    });
    const model = decodeTfjs(files, { subject });
    expect(model).toMatchObject({ format: "graph-model", signature: GRAPH_MODEL.signature });
  });
});
