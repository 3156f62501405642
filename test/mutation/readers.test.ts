import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/convert/open/checkpoint.js";
import { TINY_FAMILIES, tinyCheckpoint } from "./families.js";
import { modulesOf, readerMutants, wholeModel } from "./readers.js";
import { TRACED_FAMILIES, tracedArchive, traceMutants, traceOf } from "./traces.js";

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

describe.each(TRACED_FAMILIES)("a trace, %s", (family) => {
  it("is read, with its weights, as the network that its code computes", () => {
    const checkpoint = tinyCheckpoint(family);
    const archive = tracedArchive(checkpoint, traceOf(checkpoint));
    const read = openCheckpoint(archive, { subject: "model.pt", arch: checkpoint.spec });
    const { features } = checkpoint.graph.outputs;
    for (const { parameters } of checkpoint.graph.nodes.slice(
      0,
      checkpoint.graph.nodes.findIndex(({ name }) => name === features) + 1,
    ))
      for (const path of Object.values(parameters))
        expect(read.stateDict.get(path)).toEqual(checkpoint.stateDict.get(path));
    expect(read.decoded.notes).toContain("the traced code computes this network, layer by layer");
  });

  it("is refused with another call, at its layer", () => {
    const mutants = [...traceMutants(1, family)];
    expect(mutants.length).toBeGreaterThanOrEqual(5);
    const missed = mutants.filter(({ outcome }) => !outcome.killed || !outcome.located);
    expect(missed.map(({ says, outcome }) => [says, outcome])).toEqual([]);
    for (const { operator } of mutants) expect(DOCUMENT).toContain(`| ${operator} |`);
  });
});
