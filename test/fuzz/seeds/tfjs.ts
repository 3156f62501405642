import { expand, parseSpec } from "../../../src/arch/index.js";
import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import { seededStateDict } from "../../../src/convert/seeded-weights.js";
import { bytesOf, le } from "../../convert/formats/pth/build.js";
import type { Seed } from "../mutate/index.js";
import { TINY_SPEC } from "./pth.js";

/** TensorFlow.js models to start from: the length of `model.json` in four bytes, model.json, its one weight file. */

const LENGTH_BYTES = 4;

const graph = expand(parseSpec(TINY_SPEC, "tiny.json"));
const weights = seededStateDict(graph, 1);

export const TFJS_SEEDS: readonly Seed[] = [
  { name: "graph", model: lowerToTfjs(graph, weights, { gates: true }) },
  { name: "quantised", model: lowerToTfjs(graph, weights, { quantize: "uint8" }) },
  { name: "layers", model: lowerToTfjsLayers(graph, weights) },
].map(({ name, model }) => {
  const { json, shards } = encodeTfjs(model);
  return {
    name,
    kind: "bytes",
    parts: [
      { kind: "json", bytes: json },
      { kind: "bytes", bytes: bytesOf(...shards.values()) },
    ],
    assemble: ([text = new Uint8Array(0), data = new Uint8Array(0)]) =>
      bytesOf(le(text.length, LENGTH_BYTES), text, data),
  };
});

/** The two files again. Whatever the manifest calls its weight files, all are the one there is. */
export function splitTfjs(bytes: Uint8Array): { readonly json: Uint8Array; readonly data: Uint8Array } {
  const length =
    LENGTH_BYTES <= bytes.length ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) : 0;
  const end = Math.min(LENGTH_BYTES + length, bytes.length);
  return { json: bytes.subarray(LENGTH_BYTES, end), data: bytes.subarray(end) };
}
