import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** A fresh folder for one test. */
export interface Folder {
  readonly path: string;
  at(name: string): string;
  read(name: string): Promise<Uint8Array>;
  /** Every file and folder in it, hidden ones too, sorted. */
  names(): Promise<readonly string[]>;
  remove(): Promise<void>;
}

/** Makes a folder with these files in it, which goes when the test ends. */
export async function temporaryFolder(files: Parameters<typeof createFolder>[0] = {}): Promise<Folder> {
  const folder = await createFolder(files);
  onTestFinished(() => folder.remove());
  return folder;
}

/** The same, for tests that run beside each other: the caller removes it. */
export async function createFolder(
  files: Readonly<Record<string, Uint8Array | string>> = {},
): Promise<Folder> {
  const path = await mkdtemp(join(tmpdir(), "osnet-convert-"));
  for (const [name, content] of Object.entries(files)) await writeFile(join(path, name), content);
  return {
    path,
    at: (name) => join(path, name),
    read: (name) => readFile(join(path, name)),
    names: async () => (await readdir(path)).sort(),
    remove: () => rm(path, { recursive: true, force: true }),
  };
}
