import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/core/errors.js";
import { judge } from "./oracle.js";
import { TARGETS } from "./targets.js";

/** A file that a reader once failed on, minimised: how it failed, and the sentence that it meets now. */
interface CorpusFile {
  readonly file: string;
  readonly target: string;
  readonly was: string;
  readonly message: string;
}

const CORPUS = new URL("corpus/", import.meta.url);
const MANIFEST = "manifest.json";
const files = JSON.parse(readFileSync(new URL(MANIFEST, CORPUS), "utf8")) as readonly CorpusFile[];

describe("the corpus of what fuzzing found", () => {
  it("is all in the manifest", () => {
    const listed = [MANIFEST, ...files.map(({ file }) => file)].sort();
    expect(readdirSync(CORPUS).sort()).toEqual(listed);
  });

  it.each(files)("$file is refused in one sentence ($was)", ({ file, target: name, message }) => {
    const target = TARGETS.find((candidate) => candidate.name === name);
    if (target === undefined) throw new Error(`no target ${name}`);
    const bytes = new Uint8Array(readFileSync(new URL(file, CORPUS)));
    expect(judge(target, bytes)).toMatchObject({ outcome: "refused", finding: "" });
    expect(() => target.read(bytes)).toThrow(InputError);
    expect(() => target.read(bytes)).toThrow(expect.objectContaining({ message }));
  });
});
