import { describe, expect, it } from "vitest";
import { chooseImages } from "../../../src/verify/inputs/choose-images.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { evaluate } from "../../../src/verify/reference/evaluate.js";
import { openFixture, withTensor } from "../../support/osnet.js";

const { graph, stateDict } = openFixture();
const SIZE = { height: 64, width: 32 };
const all = chooseImages(graph, stateDict, SIZE);

describe("chooseImages", () => {
  it("adds images that test more to the seeded ones, and reports what remains", () => {
    const few = chooseImages(graph, stateDict, { ...SIZE, rounds: 0 });
    expect(few.kinds).toEqual(["seeded", "seeded"]);
    expect(few.images).toEqual(seededImages(0, 2, 64, 32));
    expect(few.vacuity.untested).toHaveLength(24);
    expect(all.kinds.slice(0, 2)).toEqual(["seeded", "seeded"]);
    expect(all.kinds.length).toBeGreaterThan(3);
    expect(all.images.shape).toEqual([all.kinds.length, 3, 64, 32]);
    expect(all.vacuity.untested.length).toBeLessThan(16);
    // Units fire on a picture of one colour that fire on no other.
    const white = all.images.data.subarray(all.kinds.indexOf("white") * 3 * 64 * 32).slice(0, 3 * 64 * 32);
    expect([...new Set(white)]).toEqual(
      [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225].map(Math.fround),
    );
    expect(all.vacuity.collapsed).toEqual([]);
  });

  it("gives an image on which a ReLU clips that did not", () => {
    const { images, vacuity } = all;
    const open = new Set(vacuity.untested.map(({ layer }) => layer));
    const clipped = graph.gates
      .map(({ block, stream }) => `${block}.gate[${stream}].relu`)
      .filter((name) => !open.has(name));
    expect(clipped.length).toBeGreaterThan(8);
    for (const { name, tensor } of evaluate(graph, stateDict, images))
      if (clipped.includes(name)) expect(Math.min(...tensor.data), name).toBe(0);
  });

  it("keeps to the batch that a model fixes", () => {
    const one = chooseImages(graph, stateDict, { ...SIZE, batch: 1 });
    expect(one.images.shape).toEqual([1, 3, 64, 32]);
    // One image of its choice tests no less than the first.
    expect(one.vacuity.untested.length).toBeLessThan(24);
    const five = chooseImages(graph, stateDict, { ...SIZE, batch: 5, rounds: 0 });
    expect(five.kinds).toEqual(Array.from({ length: 5 }, () => "seeded"));
  });

  it("says so where no image helps: a gate that reads nothing is the same in all streams", () => {
    const deaf = withTensor(stateDict, "conv3.0.gate.fc1.weight", ({ shape, data }) => ({
      dtype: "float32",
      shape,
      data: new Float32Array(data.length),
    }));
    const { vacuity } = chooseImages(graph, deaf, { ...SIZE, rounds: 2 });
    const alike = vacuity.untested.filter(({ reason }) => reason.includes("its gate is that of stream"));
    expect(alike).toHaveLength(6);
  });
});
