import { describe, expect, it } from "vitest";
import {
  bytesOf,
  call,
  decoded,
  dict,
  floats,
  global,
  int,
  le,
  legacy,
  pickle,
  refusal,
  str,
  tarFile,
  tarParts,
  tensor,
  tuple,
} from "./build.js";

const two = { dtype: "float32", shape: [2], values: [1, 2] };

describe("a legacy file", () => {
  const value = dict({ w: tensor().replace("tQ", "NtQ") });

  it("contains storages after the pickles, and views of them", () => {
    expect(decoded(legacy(value, { 0: floats(1, 2) }))).toEqual({ w: two });
    const view = tensor({ numel: 4 }).replace("tQ", `${tuple(str("9"), int(2), int(2))}tQ`);
    expect(decoded(legacy(dict({ w: view }), { 0: floats(0, 0, 1, 2) }))).toEqual({ w: two });
  });

  it("may come from Python 2, whose strings are bytes", () => {
    const latin1 = (text: string) => `U${le(text.length, 1)}${text}`;
    const python2 = value.replaceAll(/X(.)\0\0\0/gs, (_, length: string) => `U${length}`);
    expect(python2).toContain(latin1("storage"));
    expect(decoded(legacy(python2, { 0: floats(1, 2) }))).toEqual({ w: two });
  });

  it("names a module's class with its source", () => {
    const source = `${tuple(str("module"), global("net.Net"), str("net.py"), str("class Net: pass"))}Q`;
    const ordered = (entries: string) => call("collections.OrderedDict") + entries.slice(1);
    const state = dict({
      _parameters: ordered(dict({ w: tensor().replace("tQ", "NtQ") })),
      _buffers: call("collections.OrderedDict"),
      _modules: call("collections.OrderedDict"),
    });
    expect(decoded(legacy(`${source})\x81${state}b`, { 0: floats(1, 2) }))).toEqual({ w: two });
  });

  it("that lies about its storages is refused", () => {
    expect(refusal(legacy(value, { 0: floats(1, 2, 3) }))).toMatch(
      /found 3 elements for storage "0" at byte \d+ of the file, expected the 2 that the pickle declares/,
    );
    expect(refusal(legacy(value, { 1: floats(1, 2) }))).toContain('found data for the unused storage "1"');
    expect(refusal(legacy(value, {}))).toContain('found no data for storage "0"');
    const outside = tensor().replace("tQ", `${tuple(str("9"), int(1), int(2))}tQ`);
    expect(refusal(legacy(dict({ w: outside }), { 0: floats(1, 2) }))).toContain(
      'found a view outside storage "0"',
    );
  });
});

describe("a tar file of PyTorch 0.1", () => {
  const { storages, tensors, pickle: references } = tarParts();
  /** As PyTorch wrote it; the fuzzer's files have "0". */
  const PLAIN = { type: "\0" };
  const archive = (parts: Readonly<Record<string, Uint8Array>>) =>
    bytesOf(...Object.entries(parts).map(([name, data]) => tarFile(name, data, PLAIN)), new Uint8Array(1024));

  it("contains storages, tensors and a pickle of references", () => {
    expect(decoded(archive({ storages, tensors, pickle: references }))).toEqual({
      first: { ...two, values: [0, 1] },
      view: two,
    });
  });

  it.each([
    ["without a name", "", {}],
    ["that is a folder with something in it", "x/", { type: "5" }],
    ["that is a folder by its name", "x/", {}],
  ])("with a member %s is refused, since Python reads it otherwise", (_, name, options) => {
    const whole = archive({ storages, tensors, pickle: references });
    expect(refusal(bytesOf(tarFile(name, storages, options), whole))).toContain("that is not a regular file");
    const folder = tarFile("x/", new Uint8Array(0), { type: "5" });
    expect(decoded(bytesOf(folder, whole))).toEqual({ first: { ...two, values: [0, 1] }, view: two });
  });

  it("without a magic word is refused, whatever else it looks like: Python goes by the checksum", () => {
    const older = tarFile("\x80\x02N.", storages, { magic: "" });
    expect(refusal(bytesOf(older, older))).toContain("found a tar archive of other files");
    // Other spellings of the same number, as Python reads them; the sum does not count the field itself.
    const sum = Number.parseInt(Buffer.from(older.subarray(148, 154)).toString("latin1"), 8);
    const digits = sum.toString(8);
    const base256 = `\x80\0\0\0\0\0${String.fromCharCode(sum >> 8, sum & 255)}`;
    for (const field of [
      `\x1c${digits}`,
      ` +${digits}`,
      `${digits.slice(0, 2)}_${digits.slice(2)}`,
      base256,
    ]) {
      const spelled = older.slice();
      spelled.fill(0, 148, 156).set(bytesOf(field), 148);
      expect(refusal(bytesOf(spelled, spelled))).toMatch(/found a (?:tar archive of|broken tar header)/);
    }
  });

  it("of other files is to be unpacked, also as Python's tarfile writes it", () => {
    const file = tarFile("w.pth", bytesOf("PK"));
    for (const before of [new Uint8Array(), tarFile("./@PaxHeader", bytesOf("9 mtime=1"), { type: "x" })])
      expect(refusal(bytesOf(before, file))).toMatch(/other files \("w\.pth"\).*; unpack it/);
  });

  it("that is broken is refused", () => {
    const whole = archive({ storages, tensors, pickle: references });
    for (let length = 0; length < whole.length - 1536; length += 7) refusal(whole.slice(0, length));
    expect(refusal(archive({ storages, pickle: references }))).toContain(
      'found a tar archive without "tensors"',
    );
    const changed = whole.slice();
    changed[0] = 0x41;
    expect(refusal(changed)).toContain("found a broken tar header at byte 0");
    const dangling = bytesOf(pickle(dict({ w: `${str("7")}Q` })));
    expect(refusal(archive({ storages, tensors, pickle: dangling }))).toContain(
      'found a reference to tensor "7"',
    );
  });
});

describe("a bare pickle", () => {
  const dtype = (code: string, order: string) =>
    `${call("numpy.dtype", str(code), "\x89", "\x88")}(K\x03${str(order)}NNN${int(-1)}${int(-1)}K\x00tb`;
  const bytes = (data: string) => `C${le(data.length, 1)}${data}`;
  const array = (
    shape: readonly number[],
    type: string,
    fortran: boolean,
    data: string,
    module = "numpy.core",
  ) =>
    `${call(`${module}.multiarray._reconstruct`, global("numpy.ndarray"), tuple(int(0)), bytes("b"))}${tuple(
      int(1),
      tuple(...shape.map(int)),
      type,
      fortran ? "\x88" : "\x89",
      data,
    )}b`;
  const shorts = "\x01\0\x02\0\x03\0\x04\0\x05\0\x06\0";

  it("contains numpy arrays in either order of elements and bytes, in the forms of numpy 1 and 2", () => {
    const value = dict({
      c: array([2, 3], dtype("i2", "<"), false, bytes(shorts)),
      fortran: array([2, 3], dtype("i2", "<"), true, bytes(shorts), "numpy._core"),
      big: array([2], dtype("i2", ">"), false, bytes("\0\x01\0\x02")),
      python2: array([2], dtype("i2", "<"), false, `U\x04\x01\0\xff\xff`),
      protocol2: array([2], dtype("i2", "<"), false, call("_codecs.encode", str("\x01\0ÿÿ"), str("latin1"))),
      scalar: call("numpy.core.multiarray.scalar", dtype("i8", "<"), bytes("\x05\0\0\0\0\0\0\0")),
      buffer: call(
        "numpy.core.numeric._frombuffer",
        bytes("\x07\0"),
        dtype("u1", "|"),
        tuple(int(2)),
        str("C"),
      ),
    });
    const int16 = (shape: readonly number[], values: readonly number[]) => ({
      dtype: "int16",
      shape,
      values,
    });
    expect(decoded(bytesOf(pickle(value)))).toEqual({
      c: int16([2, 3], [1, 2, 3, 4, 5, 6]),
      fortran: int16([2, 3], [1, 3, 5, 2, 4, 6]),
      big: int16([2], [1, 2]),
      python2: int16([2], [1, -1]),
      protocol2: int16([2], [1, -1]),
      scalar: { dtype: "int64", shape: [], values: [5n] },
      buffer: { dtype: "uint8", shape: [2], values: [7, 0] },
    });
  });

  it("refuses another order of bytes for a dtype that is numpy's own, or another's", () => {
    const state = `(K\x03${str(">")}NNN${int(-1)}${int(-1)}K\x00tb`;
    const refused = (type: string) =>
      refusal(bytesOf(pickle(dict({ w: array([1], `${type}${state}`, false, bytes("\0\x01")) }))));
    for (const type of [call("numpy.dtype", str("i2")), call("numpy.dtype", str("i2"), "\x89", "\x89")])
      expect(refused(type)).toContain("a numpy array without a dtype that numpy writes");
    expect(refused(call("numpy.dtype", dtype("i2", "<")))).toContain("found numpy.dtype(numpy.dtype)");
  });

  it("refuses arrays of objects and arrays that lie", () => {
    const refused = (value: string) => refusal(bytesOf(pickle(dict({ w: value }))));
    expect(refused(array([1], dtype("O8", "|"), false, "]"))).toContain(
      'found numpy elements of type O8 under "w"',
    );
    expect(refused(array([3], dtype("i2", "<"), false, bytes("\0\0")))).toContain(
      'found a numpy array of 2 bytes, which does not match its shape, under "w"',
    );
    expect(refused(array([-1], dtype("i2", "<"), false, bytes("")))).toContain(
      "found a numpy array without a shape",
    );
  });

  it("contains tensors as pickle.dump writes them, each storage in a separate file", () => {
    const storage = `${tuple(str("storage"), global("torch.FloatStorage"), str("0"), str("cpu"), int(2), "N")}Q`;
    const file = legacy(storage, { 0: floats(1, 2) });
    const load = `${global("torch.storage._load_from_bytes")}B${le(file.length, 4)}${Buffer.from(file).toString("latin1")}\x85R`;
    const value = (inner: string) =>
      dict({
        w: call("torch._utils._rebuild_tensor_v2", inner, int(0), tuple(int(2)), tuple(int(1)), "\x89", "N"),
      });
    expect(decoded(bytesOf(pickle(value(load))))).toEqual({ w: two });
    const nested = pickle(load);
    const twice = `${global("torch.storage._load_from_bytes")}B${le(nested.length, 4)}${nested}\x85R`;
    expect(refusal(bytesOf(pickle(value(twice))))).toContain("found storage files nested in a storage file");
  });
});
