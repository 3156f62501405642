import { createHash } from "node:crypto";
import { truncate } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { openInput, readInput } from "../../src/node/read.js";
import { temporaryFolder } from "../support/folder.js";

const BYTES = Uint8Array.of(1, 2, 3);

describe("readInput", () => {
  it("reads a whole file", async () => {
    const folder = await temporaryFolder({ w: BYTES });
    expect([...(await readInput(folder.at("w")))]).toEqual([1, 2, 3]);
  });

  it("says why there is nothing to read", async () => {
    const folder = await temporaryFolder({ w: BYTES });
    const problem = "check the path.";
    const reading = (path: string) => readInput(folder.at(path));
    await expect(reading("none")).rejects.toThrow(`${folder.at("none")}: no such file or folder; ${problem}`);
    await expect(reading(".")).rejects.toThrow(`${folder.path}: is a folder; ${problem}`);
    await expect(reading("w/x")).rejects.toThrow(
      `${folder.at("w/x")}: part of the path is not a folder; ${problem}`,
    );
  });
});

describe("openInput", () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, index) => index % 251);

  it("reads parts, each in memory of its own, and then all of it at once", async () => {
    const folder = await temporaryFolder({ w: bytes });
    const input = await openInput(folder.at("w"));
    expect([input.length, input.loaded]).toEqual([1000, false]);
    expect(input.read(250, 253)).toEqual(Uint8Array.of(250, 0, 1));
    expect(input.read(1000, 1000)).toEqual(new Uint8Array(0));
    expect(input.read(0, 4).buffer).not.toBe(input.read(0, 4).buffer);
    expect(() => input.read(999, 1001)).toThrow(RangeError);
    const digest = createHash("sha256").update(bytes).digest("hex");
    expect(await input.sha256()).toBe(digest);
    input.load();
    expect(input.loaded).toBe(true);
    expect(input.read(0, 1000)).toEqual(bytes);
    expect(input.read(0, 4).buffer).toBe(input.read(0, 4).buffer);
    expect(await input.sha256()).toBe(digest);
    input.close();
  });

  it("loads a file into memory that threads share, on request", async () => {
    const folder = await temporaryFolder({ w: bytes });
    for (const isShared of [true, false]) {
      const input = await openInput(folder.at("w"), { isShared });
      input.load();
      const all = input.read(0, 1000);
      expect(all.buffer instanceof SharedArrayBuffer).toBe(isShared);
      expect([...all]).toEqual([...bytes]);
      expect(await input.sha256()).toBe(createHash("sha256").update(bytes).digest("hex"));
      input.close();
    }
  });

  it("says that a file has become shorter", async () => {
    const folder = await temporaryFolder({ w: bytes });
    const input = await openInput(folder.at("w"));
    await truncate(folder.at("w"), 10);
    expect(() => input.read(0, 20)).toThrow(
      "w: the file now ends at byte 10 of 1000; wait until it is fully written, and try again.",
    );
    input.close();
  });

  it("says that a file cannot be read any more", async () => {
    const folder = await temporaryFolder({ w: bytes });
    const input = await openInput(folder.at("w"));
    input.close();
    expect(() => input.read(0, 20)).toThrow("w: EBADF: bad file descriptor, read; check the disk.");
  });

  it("shows progress for files of 50 MB and more only", async () => {
    const folder = await temporaryFolder({ large: "", small: bytes });
    await truncate(folder.at("large"), 60e6);
    const seen: (readonly [number, number | undefined])[] = [];
    for (const name of ["small", "large"])
      expect(
        await readInput(folder.at(name), { onProgress: (...progress) => seen.push(progress) }),
      ).toHaveLength(name === "small" ? 1000 : 60e6);
    expect(seen.length).toBeGreaterThan(10);
    expect(seen.every(([done, total], index) => total === 60e6 && done > (seen[index - 1]?.[0] ?? 0))).toBe(
      true,
    );
    expect(seen.at(-1)).toEqual([60e6, 60e6]);
  });
});
