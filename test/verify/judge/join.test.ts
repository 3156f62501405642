import { describe, expect, it } from "vitest";
import type { LayerOutput } from "../../../src/verify/backends/backend.js";
import { joinByName } from "../../../src/verify/judge/compare-layers.js";

/** Yields names with values, all in one piece of memory that is used again, as backends may. */
async function* stream(
  ...outputs: readonly (readonly [name: string, value: number])[]
): AsyncGenerator<LayerOutput> {
  const data = new Float64Array(1);
  for (const [name, value] of outputs) {
    data[0] = value;
    yield { name, tensor: { dtype: "float64", shape: [1], data } };
  }
}

async function join(
  left: AsyncIterable<LayerOutput>,
  right: AsyncIterable<LayerOutput>,
  ...wanted: string[]
): Promise<unknown[]> {
  const pairs: unknown[] = [];
  for await (const { name, expected, actual } of joinByName(left, right, new Set(wanted)))
    pairs.push([name, expected.data[0], actual.data[0]]);
  return pairs;
}

describe("joinByName", () => {
  it("pairs streams in step", async () => {
    expect(await join(stream(["a", 1], ["b", 2]), stream(["a", 3], ["b", 4]), "a", "b")).toEqual([
      ["a", 1, 3],
      ["b", 2, 4],
    ]);
  });

  it("pairs by name alone, whatever the order and the surplus, with memory used again", async () => {
    const pairs = await join(
      stream(["a", 1], ["x", 0], ["b", 2], ["c", 3]),
      stream(["c", 30], ["b", 20], ["a", 10]),
      "a",
      "b",
      "c",
    );
    expect(pairs).toHaveLength(3);
    expect(pairs).toEqual(
      expect.arrayContaining([
        ["a", 1, 10],
        ["b", 2, 20],
        ["c", 3, 30],
      ]),
    );
  });

  it("yields nothing for a name that one side lacks, and ends", async () => {
    expect(await join(stream(["a", 1], ["b", 2]), stream(["b", 4]), "a", "b")).toEqual([["b", 2, 4]]);
    expect(await join(stream(), stream(["b", 4]), "b")).toEqual([]);
  });

  it("stops its sources when nothing is left to join", async () => {
    let closed = 0;
    async function* endless(): AsyncGenerator<LayerOutput> {
      try {
        for (let index = 0; ; index++)
          yield { name: `n${index}`, tensor: { dtype: "float64", shape: [], data: Float64Array.of(index) } };
      } finally {
        closed++;
      }
    }
    expect(await join(endless(), endless(), "n2")).toEqual([["n2", 2, 2]]);
    expect(closed).toBe(2);
  });

  it("keeps repeated values with the layer after them, even if one side runs ahead", async () => {
    const value = (name: string, again?: boolean): LayerOutput => ({
      name,
      tensor: { dtype: "float64", shape: [1], data: Float64Array.of(0) },
      ...(again ? { again } : {}),
    });
    async function* actual(): AsyncGenerator<LayerOutput> {
      // `b` is missing: from there on this side is a layer ahead.
      yield* [value("a"), value("c"), value("a", true), value("d"), value("e")];
    }
    const again: [string, string[]][] = [];
    const expected = stream(["a", 0], ["b", 0], ["c", 0], ["d", 0], ["e", 0]);
    for await (const pair of joinByName(expected, actual(), new Set(["a", "b", "c", "d", "e"])))
      again.push([pair.name, pair.again.map(({ name }) => name)]);
    expect(again).toEqual([
      ["a", []],
      ["c", []],
      ["d", ["a"]],
      ["e", []],
    ]);
  });
});
