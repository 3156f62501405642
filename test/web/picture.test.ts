import { describe, expect, it } from "vitest";
import { expand, VARIANT_NAMES, variant } from "../../src/arch/index.js";
import { pictureOf } from "../../web/picture.js";

describe.each(VARIANT_NAMES)("the picture of %s", (name) => {
  const graph = expand(variant(name));
  const picture = pictureOf(graph.spec);
  const cellsOf = ({ before, streams, after }: (typeof picture)[number]) => [
    ...before,
    ...streams.flat(),
    ...after,
  ];

  it("has every layer in one cell", () => {
    const drawn = picture.flatMap(cellsOf).flatMap(({ layers }) => layers);
    expect([...drawn].sort()).toEqual(graph.nodes.map((node) => node.name).sort());
    expect(new Set(drawn).size).toBe(drawn.length);
  });

  it("has blocks with their streams, t light convolutions and a gate in the t-th", () => {
    const specs = graph.spec.stages.flatMap(({ blocks }) => blocks);
    const blocks = picture.filter(({ streams }) => streams.length > 0);
    expect(blocks.map(({ streams }) => streams.length)).toEqual(specs.map(({ streams }) => streams));
    for (const { streams, after } of blocks) {
      for (const [index, cells] of streams.entries())
        expect(cells.map(({ kind }) => kind)).toEqual([
          ...Array.from({ length: index + 1 }, () => "light"),
          "gate",
        ]);
      expect(after.map(({ kind }) => kind)).toEqual(expect.arrayContaining(["sum", "conv", "add"]));
    }
  });

  it("is in the network's order, from the images to the results", () => {
    expect(picture[0]?.before[0]).toMatchObject({ name: "images", kind: "input" });
    expect(picture.map((group) => group.name)).toEqual([...new Set(picture.map((group) => group.name))]);
    expect(picture.at(-1)?.name).toBe("fc");
    expect(picture.flatMap(cellsOf).filter(({ kind }) => kind === "linear").length).toBeGreaterThan(0);
  });
});
