import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../src/convert/export/tfjs-layers-model.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import type { TfjsModel } from "../../src/convert/formats/tfjs/model.js";
import type { NamedBytes } from "../../src/core/bytes.js";
import { openVerification } from "../../src/verify/open.js";
import { verify } from "../../src/verify/verify.js";
import { withoutNames } from "../mutation/candidates.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { openReference } from "../support/osnet.js";

/** Images so small that a transition's window covers its whole map, as a global pool's does. */

const checkpoint = tinyCheckpoint("block");
const { graph, stateDict } = checkpoint;

function tfjs(model: TfjsModel): NamedBytes {
  const { json, shards } = encodeTfjs(model);
  return { name: "model.json", bytes: json, beside: shards };
}

const WRITTEN: readonly [says: string, write: (size: { height: number; width: number }) => NamedBytes][] = [
  ["ONNX", (size) => ({ name: "m.onnx", bytes: encodeOnnx(lowerToOnnx(graph, stateDict, { size })) })],
  [
    "ONNX without names",
    (size) => ({ name: "m.onnx", bytes: encodeOnnx(withoutNames(lowerToOnnx(graph, stateDict, { size }))) }),
  ],
  ["a graph model", (size) => tfjs(lowerToTfjs(graph, stateDict, { size }))],
  ["a layers model", (size) => tfjs(lowerToTfjsLayers(graph, stateDict, { size }))],
];

describe.each(WRITTEN)("%s for tiny images is the network", (_, write) => {
  it.each([
    [8, 8],
    // The last map is of 2×2 pixels.
    [16, 16],
  ])("%i×%i", async (height, width) => {
    const opened = await openVerification(write({ height, width }), openReference(checkpoint));
    const { faults, passed } = await verify(opened);
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
  });
});
