import { describe, expect, it } from "vitest";
import { decodePth } from "../../../../src/convert/formats/pth/decode.js";
import { InputError } from "../../../../src/core/errors.js";
import { readFixture } from "../../../fixtures.js";
import {
  bytesOf,
  call,
  checkpoint,
  dict,
  floats,
  global,
  legacy,
  pickle,
  refusal,
  str,
  tensor,
} from "./build.js";

const state = dict({
  epoch: "K\x03",
  state_dict: dict({ "conv.weight": tensor(), "conv.bias": tensor({ key: "1" }) }),
});
const storages = { 0: floats(1, 2), 1: floats(3, 4) };

/** numpy's form: an array of two floats in the pickle itself. */
const array = `${call("numpy.core.multiarray._reconstruct", global("numpy.ndarray"), "K\x00\x85", "C\x01b")}(K\x01K\x02\x85${call(
  "numpy.dtype",
  str("f4"),
  "\x89",
  "\x88",
)}(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89C\x08${"\0".repeat(8)}tb`;

const FILES = {
  zip: checkpoint(state, storages),
  legacy: legacy(state.replaceAll("tQ", "NtQ"), storages),
  numpy: bytesOf(pickle(dict({ w: array }))),
} as const;

/** Marsaglia's xorshift, so that a failure comes back. */
function randomSequence(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

describe.each(Object.entries(FILES))("a %s file", (_, bytes) => {
  it("is whole to begin with", () => {
    expect(decodePth(bytes, { subject: "weights.pth" }).stateDict.size).toBeGreaterThan(0);
  });

  it("cut anywhere is refused", () => {
    for (let length = 0; length < bytes.length; length++) refusal(bytes.slice(0, length));
  });

  it("with bytes changed, lost or repeated is read or refused, never more", () => {
    const below = randomSequence(20261124);
    for (let round = 0; round < 4000; round++) {
      let mutant: Uint8Array = bytes.slice();
      for (let count = 1 + below(4); count > 0; count--) {
        const at = below(mutant.length);
        const change = below(4);
        if (change === 0) mutant[at] = below(256);
        else if (change === 1) mutant[at] = (mutant[at] ?? 0) ^ (1 << below(8));
        else if (change === 2) mutant = bytesOf(mutant.subarray(0, at), mutant.subarray(at + 1 + below(8)));
        else mutant = bytesOf(mutant.subarray(0, at + 1), mutant.subarray(at - below(at + 1)));
      }
      try {
        decodePth(mutant, { subject: "weights.pth" });
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
      }
    }
  });
});

describe("a real checkpoint", () => {
  it("cut anywhere is refused as incomplete", () => {
    const bytes = readFixture("osnet_x0_25.pth");
    for (let cut = 1; cut < 64; cut++) {
      const length = Math.floor((bytes.length * cut) / 64);
      expect(refusal(bytes.subarray(0, length))).toBe(
        "weights.pth: found a zip archive without its end record, expected a complete file; download or copy the file again.",
      );
    }
  });
});
