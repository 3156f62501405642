import { deflateSync } from "fflate";
import { describe, expect, it } from "vitest";
import {
  bytesOf,
  decoded,
  dict,
  type Entry,
  floats,
  le,
  pickle,
  refusal,
  tensor,
  zip,
} from "../pth/build.js";

const data = floats(1, 2);
const value = pickle(dict({ w: tensor() }));
const expected = { w: { dtype: "float32", shape: [2], values: [1, 2] } };

const archive = (storage: Partial<Entry> = {}, ...more: readonly Entry[]): Uint8Array =>
  zip([{ name: "a/data.pkl", data: value }, { name: "a/data/0", data, ...storage }, ...more]);

/** The offset of a signature's last occurrence. */
const find = (bytes: Uint8Array, signature: string): number =>
  Buffer.from(bytes).lastIndexOf(signature, undefined, "latin1");

function patched(bytes: Uint8Array, offset: number, text: string): Uint8Array {
  const copy = bytes.slice();
  copy.set(bytesOf(text), offset);
  return copy;
}

describe("a zip directory", () => {
  it("is found after a comment, and may name folders and other files", () => {
    expect(decoded(archive())).toEqual(expected);
    const more = [
      { name: "a/", data: "" },
      { name: "a/.data/serialization_id", data: "1" },
      { name: "a/code/x.py", data: "" },
    ];
    expect(decoded(archive({}, ...more))).toEqual(expected);
    const commented = zip(
      [
        { name: "data.pkl", data: value },
        { name: "data/0", data },
      ],
      "PK\x05\x06 is how it ends",
    );
    expect(decoded(commented)).toEqual(expected);
  });

  it("may be zip64", () => {
    const bytes = archive();
    const end = find(bytes, "PK\x05\x06");
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const [size, offset] = [view.getUint32(end + 12, true), view.getUint32(end + 16, true)];
    const end64 = `PK\x06\x06${le(44, 8)}${le(45, 2)}${le(45, 2)}${le(0, 8)}${le(2, 8)}${le(2, 8)}${le(size, 8)}${le(offset, 8)}`;
    const locator = `PK\x06\x07${le(0, 4)}${le(end, 8)}${le(1, 4)}`;
    const plainEnd = `PK\x05\x06${le(0, 4)}${"\xff".repeat(12)}${le(0, 2)}`;
    expect(decoded(bytesOf(bytes.subarray(0, end), end64, locator, plainEnd))).toEqual(expected);
    expect(
      refusal(bytesOf(bytes.subarray(0, end), end64, locator.replace(le(end, 8), le(9, 8)), plainEnd)),
    ).toContain("found a zip64 locator that points elsewhere");
  });

  it.each<readonly [string, Uint8Array, string]>([
    ["an entry twice", archive({}, { name: "a/data/0", data }), 'two zip entries named "a/data/0"'],
    [
      "overlapping entries",
      archive({}, { name: "a/data/1", data, offset: 1 }),
      "a different signature in its local header",
    ],
    [
      "one entry's bytes twice",
      archive({}, { name: "a/data/1", data, offset: 0, local: {} }),
      "a different name in its local header",
    ],
    [
      "another name locally",
      archive({ local: { name: "a/data/9" } }),
      "a different name in its local header",
    ],
    ["another size locally", archive({ local: { size: 4 } }), "a different size in its local header"],
    [
      "another method locally",
      archive({ local: { method: 8 } }),
      "a different compression method in its local header",
    ],
    ["an unknown method", archive({ method: 93 }), 'zip entry "a/data/0" with compression method 93'],
    ["a stored entry of two sizes", archive({ size: 9 }), '9 bytes in "a/data/0"'],
    ["no end", archive().subarray(0, -1), "a zip archive without its end record"],
    ["bytes after its end", bytesOf(archive(), "\0"), "data after the end of the zip archive"],
    [
      "more entries than fit",
      patched(archive(), find(archive(), "PK\x05\x06") + 8, le(900, 2).repeat(2)),
      "a zip directory of 900 entries",
    ],
    [
      "fewer entries than are there",
      patched(archive(), find(archive(), "PK\x05\x06") + 8, le(1, 2).repeat(2)),
      "a zip directory of 56 bytes",
    ],
    [
      "other disks",
      patched(archive(), find(archive(), "PK\x05\x06") + 4, le(1, 2)),
      "one part of a multi-part zip archive",
    ],
    [
      "encryption",
      patched(archive(), find(archive(), "PK\x01\x02") + 8, le(1, 2)),
      'an encrypted zip entry "a/data/0"',
    ],
  ])("with %s is refused", (_, bytes, found) => {
    expect(refusal(bytes)).toContain(found);
  });

  it("whose entries overlap is refused", () => {
    // The second entry lies inside the first one's data, with headers that agree.
    const inner = zip([{ name: "a/data/0", data }]);
    const outer = zip([{ name: "a/data.pkl", data: bytesOf(value, inner) }]);
    const innerOffset = 30 + "a/data.pkl".length + value.length;
    const both = zip([
      { name: "a/data.pkl", data: bytesOf(value, inner) },
      { name: "a/data/0", data, offset: innerOffset },
    ]);
    expect(refusal(both)).toContain(
      'found zip entry "a/data.pkl" overlapping "a/data/0", expected entries that do not overlap',
    );
    expect(refusal(outer)).toContain('found no entry "data/0"');
  });

  it("with a deflated entry larger or smaller than it says is refused", () => {
    const bomb = deflateSync(new Uint8Array(1 << 22));
    const noise = Uint8Array.from({ length: 1 << 16 }, (_, index) => (index * index * 2654435761) >>> 13);
    const deflated = (size: number, bytes: Uint8Array) =>
      archive({ data: bytes, method: 8, size, local: { size } });
    // Blocks that are stored, in a small entry and in one that is inflated in parts; and none at all.
    for (const bytes of [noise.subarray(0, 100), noise])
      expect(refusal(deflated(8, deflateSync(bytes, { level: 0 })))).toContain("containing more");
    expect(refusal(deflated(8, new Uint8Array()))).toContain("containing 0 bytes, expected the 8 bytes");
    expect(refusal(deflated(8, bomb))).toContain(
      'found zip entry "a/data/0" containing more, expected the 8 bytes it declares',
    );
    expect(refusal(deflated(8, deflateSync(new Uint8Array(7))))).toContain(
      "containing 7 bytes, expected the 8 bytes",
    );
    expect(refusal(deflated(8, bytesOf("\xff\xff\xff")))).toContain(
      'found broken compressed data in "a/data/0"',
    );
    const huge = zip([
      { name: "a/data.pkl", data: bomb, method: 8, size: 1 << 22, local: { size: 1 << 22 } },
    ]);
    expect(refusal(huge)).toMatch(
      /found zip entry "a\/data.pkl" unpacked, for a total of 4194304 bytes, expected at most 1048576/,
    );
  });
});
