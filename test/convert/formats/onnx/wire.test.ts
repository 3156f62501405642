import { describe, expect, it } from "vitest";
import { topLevelPayloads, varint, WireWriter } from "../../../../src/convert/formats/onnx/wire.js";

describe("varint", () => {
  it.each<[number, number[]]>([
    [0, [0]],
    [127, [0x7f]],
    // The example of the protobuf specification.
    [150, [0x96, 0x01]],
    [2 ** 32, [0x80, 0x80, 0x80, 0x80, 0x10]],
    [Number.MAX_SAFE_INTEGER, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]],
    [-1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]],
    [-(2 ** 31), [0x80, 0x80, 0x80, 0x80, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x01]],
  ])("of %i", (value, bytes) => {
    expect([...varint(value)]).toEqual(bytes);
  });
});

describe("WireWriter", () => {
  it.each([0, 1, 7, 1000])("writes backwards, whatever its capacity: %i", (capacity) => {
    const writer = new WireWriter(capacity);
    writer.number(2, "float", 1);
    writer.delimited(1, () => {
      writer.delimited(3, () => {
        writer.bytes(Uint8Array.of(7, 8, 9));
      });
      writer.number(1, "int64", 300);
    });
    expect([...writer.finish()]).toEqual([
      0x0a, 8, 0x08, 0xac, 0x02, 0x1a, 3, 7, 8, 9, 0x15, 0, 0, 0x80, 0x3f,
    ]);
  });
});

describe("topLevelPayloads", () => {
  it("finds a field among others, in order", () => {
    // Field 1000 twice; between, field 1 as varint, fixed64 and fixed32, and field 7.
    const first = [0xc2, 0x3e, 1, 1];
    const others = [8, 150, 1, 9, 1, 2, 3, 4, 5, 6, 7, 8, 13, 1, 2, 3, 4, 0x3a, 1, 9];
    const second = [0xc2, 0x3e, 2, 2, 3];
    const message = Uint8Array.of(...first, ...others, ...second);
    expect(topLevelPayloads(message, 1000)).toEqual([Uint8Array.of(1), Uint8Array.of(2, 3)]);
  });

  it.each([
    ["a group, which proto3 does not have", [0x0b]],
    ["a payload beyond the end", [0x0a, 2, 0]],
    ["a number without an end", [0x08, 0x80]],
  ])("refuses %s", (_what, bytes) => {
    expect(() => topLevelPayloads(Uint8Array.from(bytes), 1)).toThrow(RangeError);
  });
});
