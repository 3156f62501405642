import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { decodeNpz } from "../../../src/convert/formats/npz.js";
import { decodePth } from "../../../src/convert/formats/pth/decode.js";
import { decodeSafetensors } from "../../../src/convert/formats/safetensors.js";
import { InputError } from "../../../src/core/errors.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { readFixture } from "../../fixtures.js";

/** Made by differentials.py: odd files, and what their formats' own loaders make of them. */
interface Case {
  readonly kind: "pth" | "pkl" | "npz" | "safetensors";
  readonly name: string;
  /** Base64. */
  readonly file: string;
  /** dtype, shape and bytes in hexadecimal of each array, or null where the loader raised. */
  readonly expected: Readonly<Record<string, readonly [string, readonly number[], string]>> | null;
}

const { cases } = JSON.parse(gunzipSync(readFixture("reader-differentials.json.gz")).toString()) as {
  readonly cases: readonly Case[];
};

const READERS: Readonly<Record<Case["kind"], (bytes: Uint8Array) => StateDict>> = {
  pth: (bytes) => decodePth(bytes, { subject: "odd.pth" }).stateDict,
  pkl: (bytes) => decodePth(bytes, { subject: "odd.pkl" }).stateDict,
  npz: (bytes) => decodeNpz(bytes, "odd.npz"),
  safetensors: (bytes) => decodeSafetensors(bytes, "odd.safetensors").stateDict,
};

function read({ kind, file }: Case): StateDict | undefined {
  try {
    return READERS[kind](new Uint8Array(Buffer.from(file, "base64")));
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

function described(stateDict: StateDict): NonNullable<Case["expected"]> {
  return Object.fromEntries(
    [...stateDict].map(([name, { dtype, shape, data }]) => [
      name,
      [dtype, [...shape], Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex")],
    ]),
  );
}

/**
 * What is read though the loader raises, since nothing else can be meant: whole numbers written as floats,
 * and damage to parts of an archive that are no weights. Everything else that a loader refuses is refused.
 */
const READ_ANYWAY = /^pth (?:tensor: offset F|zip: a bit of byte )/;

describe("odd files are read as their formats' own loaders read them, or refused", () => {
  it.each([...new Set(cases.map(({ kind, name }) => `${kind} ${name.split(":", 1)[0]}`))])("%s", (group) => {
    const wrong: string[] = [];
    for (const odd of cases.filter(({ kind, name }) => `${kind} ${name.split(":", 1)[0]}` === group)) {
      const stateDict = read(odd);
      if (stateDict === undefined) continue;
      if (odd.expected === null) {
        if (!READ_ANYWAY.test(`${odd.kind} ${odd.name}`)) wrong.push(`${odd.kind} ${odd.name}: read`);
      } else if (JSON.stringify(sorted(described(stateDict))) !== JSON.stringify(sorted(odd.expected)))
        wrong.push(`${odd.kind} ${odd.name}: read otherwise`);
    }
    expect(wrong).toEqual([]);
  });

  it("is tested with files of both kinds", () => {
    const readable = cases.filter(({ expected }) => expected !== null);
    const taken = readable.filter((odd) => read(odd) !== undefined);
    expect(readable.length).toBeGreaterThan(350);
    expect(taken.length).toBeGreaterThan(150);
  });
});

function sorted(values: NonNullable<Case["expected"]>): unknown {
  return Object.entries(values).toSorted(([a], [b]) => (a < b ? -1 : 1));
}
