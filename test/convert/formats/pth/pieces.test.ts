import { deflateSync } from "fflate";
import { describe, expect, it } from "vitest";
import { decodePth } from "../../../../src/convert/formats/pth/decode.js";
import { inPieces } from "../../../support/pieces.js";
import { bytesOf, checkpoint, dict, floats, legacy, pickle, tensor, zip } from "./build.js";

const TENSORS = 16;
const ELEMENTS = 4096;
const WEIGHTS = 4 * TENSORS * ELEMENTS;

const named = (name: string, first: number): string =>
  dict(
    Object.fromEntries(
      Array.from({ length: TENSORS }, (_, index) => [
        `${name}${index}`,
        tensor({ key: String(first + index), numel: ELEMENTS, shape: [ELEMENTS] }),
      ]),
    ),
  );
const storages = (count: number): Record<string, Uint8Array> =>
  Object.fromEntries(
    Array.from({ length: count }, (_, index) => [
      String(index),
      floats(...Array.from({ length: ELEMENTS }, (__, element) => index + element / ELEMENTS)),
    ]),
  );

const weights = dict({ state_dict: named("layer", 0) });
/** As a training script saves it: two averages of every weight beside it, before or after. */
const training = dict({
  optimizer: dict({ exp_avg: named("m", TENSORS), exp_avg_sq: named("v", 2 * TENSORS) }),
  state_dict: named("layer", 0),
});

describe("a checkpoint read in pieces", () => {
  it.each([
    ["zip", checkpoint(training, storages(3 * TENSORS))],
    ["legacy", legacy(training.replaceAll("tQ", "NtQ"), storages(3 * TENSORS))],
  ])("in a %s container leaves the optimizer's state where it is", (_, bytes) => {
    const source = inPieces(bytes);
    const { stateDict } = decodePth(source, { subject: "w.pth" });
    expect([...stateDict.keys()][3]).toBe("layer3");
    expect(stateDict.get("layer3")?.data.subarray(0, 2)).toEqual(Float32Array.of(3, 3 + 1 / ELEMENTS));
    // Besides the weights: pickle, directory, headers, and what is read ahead behind each.
    const other = bytes.length - 3 * WEIGHTS;
    expect(source.taken).toBeLessThan(WEIGHTS + 2 * other + 512 * 3 * TENSORS);
    expect(source.loaded).toBe(false);
    // What tensors keep in memory is their own elements.
    for (const { data } of stateDict.values()) expect(data.buffer.byteLength).toBe(4 * ELEMENTS);
  });

  it("is read at once where it is nothing but weights", () => {
    const source = inPieces(checkpoint(weights, storages(TENSORS)));
    decodePth(source, { subject: "w.pth" });
    expect(source.loaded).toBe(true);
    expect(source.taken).toBeLessThan(1.2 * source.length);
  });

  it("unpacks no entry that it does not need", () => {
    const entries = Object.entries(storages(3 * TENSORS)).map(([key, data]) => ({
      name: `archive/data/${key}`,
      data: Number(key) < TENSORS ? deflateSync(data) : "not deflated data",
      method: 8,
      size: data.length,
    }));
    const bytes = zip([{ name: "archive/data.pkl", data: bytesOf(pickle(training)) }, ...entries]);
    const { stateDict } = decodePth(inPieces(bytes), { subject: "w.pth" });
    expect(stateDict.get("layer15")?.data[0]).toBe(15);
  });
});
