import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/convert/open/checkpoint.js";
import { TINY_FAMILIES, tinyCheckpoint } from "./families.js";
import { modulesOf, readerMutants, wholeModel } from "./readers.js";

const DOCUMENT = readFileSync(new URL("../../docs/verification-results.md", import.meta.url), "utf8");

describe.each(TINY_FAMILIES)("a model pickled whole, %s", (family) => {
  it("is read, with its weights and a note on what was checked", () => {
    const checkpoint = tinyCheckpoint(family);
    const { spec, stateDict } = checkpoint;
    const modules = modulesOf(checkpoint);
    const read = openCheckpoint(wholeModel(stateDict, modules), { subject: "model.pt", arch: spec });
    expect(read.stateDict).toEqual(stateDict);
    expect(read.decoded.notes.join()).toContain(`checked the attributes of ${modules.size} modules`);
  });

  it("is refused with another module, which is named with what is wrong with it", () => {
    const mutants = [...readerMutants(1, family)];
    expect(mutants.length).toBeGreaterThanOrEqual(5);
    const missed = mutants.filter(
      ({ outcome: { killed, located, explained } }) => !killed || !located || !explained,
    );
    expect(missed.map(({ says, outcome }) => [says, outcome])).toEqual([]);
    for (const { operator } of mutants) expect(DOCUMENT).toContain(`| ${operator} |`);
  });
});
