import { deflateSync } from "fflate";
import { describe, expect, it } from "vitest";
import { decodePth } from "../../../../src/convert/formats/pth/decode.js";
import {
  bytesOf,
  call,
  checkpoint,
  decoded,
  dict,
  floats,
  global,
  int,
  legacy,
  pickle,
  refusal,
  str,
  tensor,
  tuple,
  zip,
} from "./build.js";

const six = floats(0, 1, 2, 3, 4, 5);

describe("tensors", () => {
  it("are made contiguous from strides, offsets and shared storages", () => {
    const value = dict({
      transposed: tensor({ numel: 6, shape: [3, 2], stride: [1, 3] }),
      last: tensor({ numel: 6, offset: 4, shape: [2], stride: [1] }),
      everySecond: tensor({ numel: 6, offset: 1, shape: [3], stride: [2] }),
      expanded: tensor({ numel: 6, offset: 5, shape: [2, 2], stride: [0, 0] }),
      scalar: tensor({ numel: 6, offset: 2, shape: [], stride: [] }),
      empty: tensor({ numel: 6, shape: [0, 3], stride: [3, 1] }),
      oddStrideOfOne: tensor({ numel: 6, shape: [3, 1, 2], stride: [2, 999, 1] }),
    });
    expect(decoded(checkpoint(value, { 0: six }))).toEqual({
      transposed: { dtype: "float32", shape: [3, 2], values: [0, 3, 1, 4, 2, 5] },
      last: { dtype: "float32", shape: [2], values: [4, 5] },
      everySecond: { dtype: "float32", shape: [3], values: [1, 3, 5] },
      expanded: { dtype: "float32", shape: [2, 2], values: [5, 5, 5, 5] },
      scalar: { dtype: "float32", shape: [], values: [2] },
      empty: { dtype: "float32", shape: [0, 3], values: [] },
      oddStrideOfOne: { dtype: "float32", shape: [3, 1, 2], values: [0, 1, 2, 3, 4, 5] },
    });
  });

  it.each([
    ["Double", "float64", 8, new Float64Array([1.5, -2])],
    ["Half", "float16", 2, new Uint16Array([0x3c00, 0x7e01])],
    ["BFloat16", "bfloat16", 2, new Uint16Array([0x3f80, 0x7fc1])],
    ["Long", "int64", 8, new BigInt64Array([-1n, 2n ** 62n])],
    ["Int", "int32", 4, new Int32Array([-1, 7])],
    ["Short", "int16", 2, new Int16Array([-1, 7])],
    ["Char", "int8", 1, new Int8Array([-1, 7])],
    ["Byte", "uint8", 1, new Uint8Array([255, 7])],
  ] as const)("keep the type of a %sStorage, in either byte order", (type, dtype, size, data) => {
    const little = new Uint8Array(data.buffer.slice(0));
    const big = Uint8Array.from(
      little,
      (_, index) => little[index - (index % size) + size - 1 - (index % size)] ?? 0,
    );
    const expected = { w: { dtype, shape: [2], values: [...data] } };
    const value = dict({ w: tensor({ type }) });
    expect(decoded(checkpoint(value, { 0: little }))).toEqual(expected);
    expect(decoded(checkpoint(value, { 0: little }, { byteorder: "little" }))).toEqual(expected);
    expect(decoded(checkpoint(value, { 0: big }, { byteorder: "big" }))).toEqual(expected);
  });

  it("move a NaN's payload and any other byte of a bool unharmed", () => {
    const nan = new Uint8Array([1, 0, 0xa0, 0x7f, 2, 0, 0xa0, 0xff]);
    const { stateDict } = decodePth(
      checkpoint(dict({ w: tensor({ shape: [2, 1], stride: [1, 1] }) }), { 0: nan }),
      {
        subject: "weights.pth",
      },
    );
    expect(new Uint8Array(stateDict.get("w")?.data.buffer as ArrayBuffer)).toEqual(nan);
    const bools = checkpoint(dict({ w: tensor({ type: "Bool" }) }), { 0: "\x00\xff" });
    expect(decoded(bools)).toEqual({ w: { dtype: "bool", shape: [2], values: [0, 1] } });
  });

  it("come out of parameters, tensors with attributes and _rebuild_tensor_v3", () => {
    const hooks = call("collections.OrderedDict");
    const untyped = `${tuple(str("storage"), global("torch.storage.UntypedStorage"), str("0"), str("cpu"), int(8))}Q`;
    const v3 = [untyped, int(0), tuple(int(2)), tuple(int(1)), "\x89", "N", global("torch.float32")];
    const value = dict({ v3: call("torch._utils._rebuild_tensor_v3", ...v3) });
    const expected = { dtype: "float32", shape: [2], values: [0, 1] };
    expect(decoded(checkpoint(value, { 0: floats(0, 1) }))).toEqual({ v3: expected });
    const wrapped = dict({
      parameter: call("torch._utils._rebuild_parameter", tensor(), "\x88", hooks),
      attributes: call(
        "torch._tensor._rebuild_from_type_v2",
        global("torch._utils._rebuild_parameter"),
        global("torch.nn.parameter.Parameter"),
        tuple(tensor(), "\x88", hooks),
        dict({ tag: "\x88" }),
      ),
    });
    expect(decoded(checkpoint(wrapped, { 0: floats(0, 1) }))).toEqual({
      parameter: expected,
      attributes: expected,
    });
  });

  it("are read from legacy files, whose storages are not aligned, and from deflated entries", () => {
    const value = dict({ w: tensor({ numel: 6, shape: [2, 3], stride: [3, 1] }) });
    const expected = { w: { dtype: "float32", shape: [2, 3], values: [0, 1, 2, 3, 4, 5] } };
    const legacyId = value.replace("tQ", "NtQ");
    expect(decoded(legacy(legacyId, { 0: six }))).toEqual(expected);
    const deflated = [
      { name: "data.pkl", data: deflateSync(bytesOf(pickle(value))), method: 8, size: pickle(value).length },
      { name: "data/0", data: deflateSync(six), method: 8, size: 24 },
    ].map((entry) => ({ ...entry, local: { size: entry.size } }));
    expect(decoded(zip(deflated))).toEqual(expected);
    expect(decodePth(zip(deflated), { subject: "w.pth" }).notes).toEqual([
      expect.stringContaining("mmap=True"),
    ]);
    // Deflated bytes of the tensor's own size: noise that compression makes longer, then zeros that make up for it.
    const bytes = Uint8Array.from({ length: 24 }, (_, at) => (at < 19 ? (at * at * 37 + at * 11) % 251 : 0));
    expect(deflateSync(bytes)).toHaveLength(24);
    const id = dict({ w: tensor({ numel: bytes.length / 4, shape: [bytes.length / 4], stride: [1] }) });
    const same = [
      { name: "data.pkl", data: bytesOf(pickle(id)), method: 0, size: pickle(id).length },
      { name: "data/0", data: deflateSync(bytes), method: 8, size: bytes.length },
    ].map((entry) => ({ ...entry, local: { size: entry.size } }));
    expect(decodePth(zip(same), { subject: "w.pth" }).notes).toEqual([expect.stringContaining("mmap=True")]);
  });

  it("refuse elements outside their storage, storages without data and types without a counterpart", () => {
    const two = { 0: floats(0, 1) };
    expect(
      refusal(checkpoint(dict({ w: tensor({ offset: 1 }), v: tensor({ shape: [2], stride: [7] }) }), two)),
    ).toBe(
      'weights.pth: found elements 1 to 3 of a storage of 2 under "w" and 1 more like it, expected dense tensors of a ' +
        "type used for training; save the weights again with torch.save(model.state_dict(), path).",
    );
    expect(refusal(checkpoint(dict({ w: tensor({ key: "7" }) }), two))).toBe(
      'weights.pth: found no entry "data/7", expected one for each storage; download or copy the file again.',
    );
    expect(refusal(checkpoint(dict({ w: tensor({ numel: 3 }) }), two))).toBe(
      'weights.pth: found 8 bytes in "archive/data/0", expected the 12 that data.pkl declares; download or copy the file again.',
    );
    expect(refusal(checkpoint(dict({ v: tensor(), w: tensor({ type: "Int" }) }), two))).toBe(
      'weights.pth: found storage "0" declared as 2 × Float and as 2 × Int, expected one declaration; download or copy the file again.',
    );
    expect(
      refusal(checkpoint(dict({ w: tensor({ type: "ComplexFloat" }) }), { 0: new Uint8Array(16) })),
    ).toContain('found elements of type ComplexFloat under "w"');
    expect(refusal(checkpoint(dict({ w: call("torch._utils._rebuild_qtensor") }), two))).toMatch(
      /found a quantized tensor under "w".*; use the float model/,
    );
  });

  it("may not take more memory than four times the file", () => {
    const value = dict({ w: tensor({ shape: [1 << 15, 1 << 15], stride: [0, 0] }) });
    expect(refusal(checkpoint(value, { 0: floats(0, 1) }))).toMatch(
      /found copies of tensors, for a total of 4294967300 bytes, expected at most 1048576 bytes/,
    );
  });
});
