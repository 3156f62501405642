import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readFixture } from "./fixtures.js";

interface Manifest {
  readonly files: readonly { readonly file: string; readonly sha256: string }[];
}

const { files } = JSON.parse(Buffer.from(readFixture("manifest.json")).toString()) as Manifest;

describe("fixtures/manifest.json", () => {
  it("lists every fixture", () => {
    const present = readdirSync(new URL("../fixtures/", import.meta.url)).filter(
      (name) => name !== "manifest.json",
    );
    expect(files.map(({ file }) => file).sort()).toEqual(present.sort());
  });

  it.each(files)("$file is the file it describes", ({ file, sha256 }) => {
    expect(createHash("sha256").update(readFixture(file)).digest("hex")).toBe(sha256);
  });
});
