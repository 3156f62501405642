import { existsSync } from "node:fs";
import { mkdir, utimes } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { readInput } from "../../src/node/read.js";
import { sweepTemporaries, writeChecked, writeFilesChecked } from "../../src/node/write.js";
import { temporaryFolder } from "../support/folder.js";

const BYTES = Uint8Array.of(1, 2, 3);
const accepted = { check: async () => true, accept: (result: boolean) => result };

describe("writeChecked", () => {
  it("checks the written file under another name before it appears", async () => {
    const folder = await temporaryFolder();
    const seen = await writeChecked(folder.at("out"), BYTES, {
      force: false,
      check: async (temporary) => [existsSync(folder.at("out")), [...(await readInput(temporary))]] as const,
      accept: () => true,
    });
    expect(seen).toEqual([false, [1, 2, 3]]);
    expect(await folder.names()).toEqual(["out"]);
    expect([...(await folder.read("out"))]).toEqual([1, 2, 3]);
  });

  it.each([
    ["is not accepted", async () => false, undefined],
    ["breaks the check", () => Promise.reject(new Error("no")), "no"],
  ])("leaves everything as it was when the file %s", async (_, check, message) => {
    const folder = await temporaryFolder({ out: "old" });
    const writing = writeChecked<boolean>(folder.at("out"), BYTES, { ...accepted, force: true, check });
    if (message === undefined) expect(await writing).toBe(false);
    else await expect(writing).rejects.toThrow(message);
    expect(await folder.names()).toEqual(["out"]);
    expect(Buffer.from(await folder.read("out")).toString()).toBe("old");
  });

  it("reports the original error even if the temporary file is gone", async () => {
    const folder = await temporaryFolder();
    const check = async (): Promise<boolean> => {
      throw new Error("what went wrong");
    };
    await expect(writeChecked(folder.at("out"), BYTES, { ...accepted, force: false, check })).rejects.toThrow(
      "what went wrong",
    );
    expect(await folder.names()).toEqual([]);
  });

  it("replaces a file by force only", async () => {
    const folder = await temporaryFolder({ out: "old" });
    const write = (force: boolean) => writeChecked(folder.at("out"), BYTES, { ...accepted, force });
    await expect(write(false)).rejects.toThrow(
      `${folder.at("out")}: already exists; add --force to replace it.`,
    );
    expect(Buffer.from(await folder.read("out")).toString()).toBe("old");
    await write(true);
    expect([...(await folder.read("out"))]).toEqual([1, 2, 3]);
  });

  it("wants a name in a folder that is there", async () => {
    const folder = await temporaryFolder({ file: "" });
    const write = (path: string) => writeChecked(path, BYTES, { ...accepted, force: true });
    const noFolder = "its folder does not exist; create the folder first.";
    await expect(write(folder.at("none/out"))).rejects.toThrow(`${folder.at("none/out")}: ${noFolder}`);
    await expect(write(folder.at("file/out"))).rejects.toThrow(`${folder.at("file/out")}: ${noFolder}`);
    await expect(write(folder.path)).rejects.toThrow(
      `${folder.path}: found a folder, expected a file name; name the file to write.`,
    );
    await expect(write("")).rejects.toThrow(
      '"": found no name, expected a file name; name the file to write.',
    );
  });
});

describe("writeFilesChecked", () => {
  const pair = (folder: { at(name: string): string }) =>
    new Map([
      [folder.at("m.onnx"), Uint8Array.of(1)],
      [folder.at("m.onnx.data"), Uint8Array.of(2)],
    ]);

  it("lets files that belong together appear together", async () => {
    const folder = await temporaryFolder({ "m.onnx.data": "old" });
    const seen = await writeFilesChecked(pair(folder), {
      force: true,
      check: async (temporaries) => [await folder.names(), temporaries.size] as const,
      accept: () => true,
    });
    expect(seen[0].filter((name) => !name.startsWith("."))).toEqual(["m.onnx.data"]);
    expect(seen[1]).toBe(2);
    expect(await folder.names()).toEqual(["m.onnx", "m.onnx.data"]);
    expect([...(await folder.read("m.onnx.data"))]).toEqual([2]);
  });

  it.each([
    ["is not accepted", async () => false],
    ["finds one of its names taken at the end", undefined],
  ])("leaves everything as it was when it %s", async (_, check) => {
    const folder = await temporaryFolder({ "m.onnx.data": "old" });
    const taken = async (): Promise<boolean> => {
      await mkdir(folder.at("m.onnx"));
      return true;
    };
    const writing = writeFilesChecked(pair(folder), { ...accepted, force: true, check: check ?? taken });
    if (check) expect(await writing).toBe(false);
    else await expect(writing).rejects.toThrow();
    expect(await folder.names()).toEqual(check ? ["m.onnx.data"] : ["m.onnx", "m.onnx.data"]);
    expect(Buffer.from(await folder.read("m.onnx.data")).toString()).toBe("old");
  });

  it.each([
    ["goes", async () => true, ["m.onnx"]],
    ["stays where nothing is accepted", async () => false, ["m.onnx", "m.onnx.data"]],
    ["stays where the check fails", () => Promise.reject(new Error("unreadable")), ["m.onnx", "m.onnx.data"]],
  ])("what only the replaced file referred to %s", async (_, check, names) => {
    const folder = await temporaryFolder({ "m.onnx": "old", "m.onnx.data": "old" });
    const files = new Map([[folder.at("m.onnx"), Uint8Array.of(1)]]);
    const obsolete = folder.at("m.onnx.data");
    const writing = writeFilesChecked(files, { ...accepted, force: true, obsolete, check });
    await writing.catch(() => undefined);
    expect(await folder.names()).toEqual(names);
    expect([...(await folder.read("m.onnx"))]).toEqual(names.length === 1 ? [1] : [...Buffer.from("old")]);
  });

  it("replaces any of them by force only", async () => {
    const folder = await temporaryFolder({ "m.onnx.data": "old" });
    await expect(writeFilesChecked(pair(folder), { ...accepted, force: false })).rejects.toThrow(
      /m\.onnx\.data: already exists/,
    );
    expect(await folder.names()).toEqual(["m.onnx.data"]);
  });
});

describe("sweepTemporaries", () => {
  it("removes what a killed process has left, an hour later, and nothing else", async () => {
    const temporary = (name: string) => `.${name}.0f8fad5b-d9cb-469f-a165-70867728950e.tmp`;
    const files = { [temporary("old")]: "", [temporary("new")]: "", ".notes.tmp": "", "a.json": "" };
    const folder = await temporaryFolder(files);
    await mkdir(folder.at(temporary("folder")));
    await mkdir(folder.at(`${temporary("model")}.earlier`));
    const long = new Date(Date.now() - 2 * 3_600_000);
    for (const name of await folder.names())
      if (name !== temporary("new")) await utimes(folder.at(name), long, long);
    await sweepTemporaries(folder.path);
    // An earlier folder may be the only copy of a model: the version before this one moved it there.
    expect(await folder.names()).toEqual([
      `${temporary("model")}.earlier`,
      temporary("new"),
      ".notes.tmp",
      "a.json",
    ]);
    await sweepTemporaries(folder.at("none"));
  });
});
