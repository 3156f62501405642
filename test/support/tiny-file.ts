import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { encodeWeights } from "../../src/convert/export/write.js";
import { type TinyFamily, tinyCheckpoint } from "../mutation/families.js";

/** A small network's checkpoint as a file of PyTorch's, in a folder that goes when the test file ends; its path. */
export function tinyFile(family: TinyFamily = "osnet"): string {
  const folder = mkdtempSync(join(tmpdir(), "osnet-convert-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const path = join(folder, `${family}.pth`);
  writeFileSync(path, encodeWeights(tinyCheckpoint(family).stateDict, "pth", { subject: family }));
  return path;
}
