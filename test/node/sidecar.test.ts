import { mkdir, symlink, truncate, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { toBytes, toSource } from "../../src/core/bytes.js";
import { filesBeside } from "../../src/node/read.js";
import { temporaryFolder } from "../support/folder.js";

describe("filesBeside", () => {
  it("reads files beside the model and below, once", async () => {
    const folder = await temporaryFolder({ "m.data": "abc" });
    await mkdir(folder.at("weights"));
    await writeFile(folder.at("weights/w.data"), "xyz");
    const beside = filesBeside(folder.at("m.onnx"));
    const text = (name: string) => Buffer.from(toBytes(beside.get(name) ?? new Uint8Array())).toString();
    expect([text("m.data"), text("weights/w.data")]).toEqual(["abc", "xyz"]);
    expect(beside.get("m.data")).toBe(beside.get("m.data"));
    expect(beside.get("absent")).toBeUndefined();
    expect(beside.get("absent/w.data")).toBeUndefined();
  });

  it("reads parts of a file that is larger than any weights", async () => {
    const folder = await temporaryFolder({ "m.data": "abc" });
    await truncate(folder.at("m.data"), 2 ** 36);
    const found = toSource(filesBeside(folder.at("m.onnx")).get("m.data") ?? new Uint8Array());
    expect([found.length, found.loaded]).toEqual([2 ** 36, false]);
    expect(Buffer.from(found.read(1, 4)).toString()).toBe("bc\0");
    expect(() => found.read(2 ** 36 - 1, 2 ** 36 + 1)).toThrow(RangeError);
    expect(() => toBytes(found)).toThrow(
      "m.data: found 68719476736 bytes, expected at most 2 GiB; use an OSNet model.",
    );
    await expect(found.sha256()).rejects.toMatchObject({ code: "file" });
  });

  it("follows no link, to a file or to a folder", async () => {
    const elsewhere = await temporaryFolder({ "secret.data": "abc" });
    const folder = await temporaryFolder();
    await symlink(elsewhere.at("secret.data"), folder.at("m.data"));
    await symlink(elsewhere.path, folder.at("weights"));
    const beside = filesBeside(folder.at("m.onnx"));
    for (const name of ["m.data", "weights/secret.data"])
      expect(() => beside.get(name)).toThrow(/found a link, expected a regular file beside the model/);
  });

  it("follows a link to a file beside the model's own, as in Hugging Face's cache", async () => {
    const blobs = await temporaryFolder({ aaa: "model", bbb: "weights" });
    const [folder, elsewhere] = [await temporaryFolder(), await temporaryFolder({ bbb: "others" })];
    await symlink(blobs.at("aaa"), folder.at("m.onnx"));
    await symlink(blobs.at("bbb"), folder.at("m.data"));
    await symlink(elsewhere.at("bbb"), folder.at("other.data"));
    await symlink(blobs.path, folder.at("blobs"));
    const beside = filesBeside(folder.at("m.onnx"));
    expect(Buffer.from(beside.get("m.data") as Uint8Array).toString()).toBe("weights");
    for (const name of ["other.data", "blobs/bbb"]) expect(() => beside.get(name)).toThrow(/found a link/);
  });

  it("reads nothing but files", async () => {
    const folder = await temporaryFolder({ file: "abc" });
    await mkdir(folder.at("m.data"));
    const beside = filesBeside(folder.at("m.onnx"));
    expect(() => beside.get("m.data")).toThrow(/found something other than a file/);
    expect(() => beside.get("file/m.data")).toThrow(/found something other than a folder/);
  });
});
