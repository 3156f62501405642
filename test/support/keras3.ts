import { createHash } from "node:crypto";
import { gunzipSync } from "node:zlib";
import { expect } from "vitest";
import type { ParameterRole } from "../../src/arch/index.js";
import { toTensorFlow } from "../../src/convert/export/tfjs-names.js";
import type { TfjsFiles } from "../../src/convert/formats/tfjs/model.js";
import type { Tensor } from "../../src/core/tensor.js";
import { readFixture } from "../fixtures.js";
import { openFixture } from "./osnet.js";

interface Keras3Document {
  /** torchreid's names of the weights, in the order of their file. */
  readonly parameters: readonly string[];
  readonly weightsSha256: string;
}

/**
 * osnet_x0_25 as Keras 3 built and saved it and tensorflowjs 4.22 converted it, its weights laid out anew from the
 * checkpoint's: the bytes that tensorflowjs wrote.
 */
export function keras3Files(): TfjsFiles {
  const { graph, stateDict } = openFixture();
  const json = gunzipSync(readFixture("osnet_x0_25.keras3.json.gz"));
  const { parameters, weightsSha256 } = JSON.parse(json.toString()) as Keras3Document;
  const places = new Map(
    graph.nodes.flatMap(({ op, parameters: own }) =>
      Object.entries(own).map(([role, path]) => [path, { op, role: role as ParameterRole }] as const),
    ),
  );
  const parts = parameters.map((path) => {
    const [place, tensor] = [places.get(path), stateDict.get(path)];
    if (!place || !tensor) throw new Error(`no layer has ${path}`);
    const { data } = toTensorFlow(place.op, place.role, tensor as Tensor<"float32">);
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  });
  const weights = Buffer.concat(parts);
  expect(createHash("sha256").update(weights).digest("hex")).toBe(weightsSha256);
  return { json, shards: new Map([["group1-shard1of1.bin", weights]]) };
}
