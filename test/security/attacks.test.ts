import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { decodeNpz } from "../../src/convert/formats/npz.js";
import { decodePth } from "../../src/convert/formats/pth/decode.js";
import { decodeSafetensors } from "../../src/convert/formats/safetensors.js";
import { bytesOf, checkpoint, dict, floats, global, le, tensor, zip } from "../convert/formats/pth/build.js";
import { npyOf } from "../support/npy.js";
import { inPieces } from "../support/pieces.js";
import { ATTACKS } from "./attacks.js";

/** By attack, the whole message. */
const MESSAGES = JSON.parse(readFileSync(new URL("messages.json", import.meta.url), "utf8")) as Readonly<
  Record<string, string>
>;

describe("attacks", () => {
  it("have a message each", () => {
    expect(ATTACKS.map(({ name }) => name)).toEqual(Object.keys(MESSAGES));
  });

  it.each(ATTACKS)("$name", ({ name, bytes, read }) => {
    const refused = expect.objectContaining({ name: "InputError", message: MESSAGES[name] });
    expect(() => read(bytes)).toThrow(refused);
    expect(() => read(inPieces(bytes))).toThrow(refused);
  });
});

/** Names that mean something to JavaScript's objects. */
const POLLUTING = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty"];

describe("keys that are names in JavaScript are keys like any other", () => {
  const expectClean = (stateDict: ReadonlyMap<string, unknown>): void => {
    expect([...stateDict.keys()].sort()).toEqual([...POLLUTING].sort());
    expect(Object.keys(Object.prototype)).toEqual([]);
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  };

  it("in a checkpoint", () => {
    const entries = Object.fromEntries(POLLUTING.map((name) => [name, tensor()]));
    // A computed key makes an own property, where a literal one would set the prototype.
    const value = dict({ ...entries, ["__proto__"]: tensor() });
    expectClean(decodePth(checkpoint(value, { 0: floats(1, 2) }), { subject: "w.pth" }).stateDict);
  });

  it("in an .npz", () => {
    const array = npyOf("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", new Uint8Array(4));
    expectClean(decodeNpz(zip(POLLUTING.map((name) => ({ name: `${name}.npy`, data: array }))), "w.npz"));
  });

  it("in a safetensors file", () => {
    const infos = POLLUTING.map(
      (name, index) => `"${name}":{"dtype":"F32","shape":[1],"data_offsets":[${4 * index},${4 * index + 4}]}`,
    );
    const header = bytesOf(`{${infos.join(",")}}`);
    const file = bytesOf(le(header.length, 8), header, new Uint8Array(4 * POLLUTING.length));
    expectClean(decodeSafetensors(file, "w.safetensors").stateDict);
  });
});

describe("what a pickle names without calling", () => {
  it("stays a name: __setstate__ and __reduce__ are never looked up", () => {
    const state = dict({ __setstate__: global("os.system"), __reduce__: global("builtins.eval") });
    const file = checkpoint(dict({ w: tensor(), evil: `${global("evil.Module")})\x81${state}b` }), {
      0: floats(1, 2),
    });
    expect([...decodePth(file, { subject: "w.pth" }).stateDict.keys()]).toEqual(["w"]);
  });
});
