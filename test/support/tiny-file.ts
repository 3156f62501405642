import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { encodeWeights } from "../../src/convert/export/write.js";
import { type TinyNetwork, tinyCheckpoint } from "../mutation/families.js";

/** A small network's checkpoint as a file of PyTorch's. */
export function tinyBytes(family: TinyNetwork = "osnet"): Uint8Array {
  return encodeWeights(tinyCheckpoint(family).stateDict, "pth", { subject: family });
}

/** The same in a folder that goes when the test file ends; its path. */
export function tinyFile(family: TinyNetwork = "osnet"): string {
  const folder = mkdtempSync(join(tmpdir(), "osnet-convert-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const path = join(folder, `${family}.pth`);
  writeFileSync(path, tinyBytes(family));
  return path;
}

/** A small network's architecture as a file, for what takes a spec.json. */
export function tinySpecFile(family: TinyNetwork): string {
  return JSON.stringify(tinyCheckpoint(family).spec);
}
