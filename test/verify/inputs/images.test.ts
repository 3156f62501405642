import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { expand, outputShapes, VARIANT_NAMES, variant } from "../../../src/arch/index.js";
import { imagesFor } from "../../../src/verify/inputs/choose-images.js";
import { defaultSize, seededImages } from "../../../src/verify/inputs/images.js";
import { decodePng } from "../../../src/verify/inputs/png.js";
import { openFixture } from "../../support/osnet.js";
import { encodePng } from "../../support/png.js";

describe("seededImages", () => {
  it("gives the same bits for a seed, on every machine", () => {
    const { data } = seededImages(0, 2, 64, 32);
    const digest = createHash("sha256").update(new Uint8Array(data.buffer)).digest("hex");
    expect(digest).toBe("722e522b4632829ee0f3375d4c68f4b024f5d1604971ba77c590d213cae6fe23");
  });

  it("gives other images for another seed, and within a batch", () => {
    const { shape, data } = seededImages(0, 3, 16, 8);
    expect(shape).toEqual([3, 3, 16, 8]);
    const planes = Array.from({ length: 9 }, (_, index) => [...data.subarray(index * 128, index * 128 + 4)]);
    expect(new Set(planes.map(String)).size).toBe(9);
    expect([...seededImages(1, 3, 16, 8).data]).not.toEqual([...data]);
  });

  it("has the range of normalised photographs", () => {
    const { data } = seededImages(5, 4, 64, 32);
    // Pixels of 0 to 1: (0 − 0.485) / 0.229 to (1 − 0.406) / 0.225.
    expect(Math.min(...data)).toBeGreaterThanOrEqual(-2.12);
    expect(Math.max(...data)).toBeLessThanOrEqual(2.65);
    expect(Math.max(...data) - Math.min(...data)).toBeGreaterThan(2);
  });

  it.each([
    [1, 1],
    [7, 3],
    [3, 500],
  ])("takes %i×%i pixels", (height, width) => {
    const { data } = seededImages(0, 1, height, width);
    expect(data).toHaveLength(3 * height * width);
    expect(data.every(Number.isFinite)).toBe(true);
  });
});

describe("defaultSize", () => {
  const squares = (graph: ReturnType<typeof expand>, height: number, width: number) =>
    [...outputShapes(graph, [2, 3, height, width])].filter(
      ([, [, , high = 1, wide = 1]]) => high === wide && high > 1,
    );

  it.each(VARIANT_NAMES)("of %s is 256×128, where no layer is as high as wide", (name) => {
    const graph = expand(variant(name));
    expect(defaultSize(graph, {})).toEqual({ height: 256, width: 128 });
    expect(squares(graph, 256, 128)).toEqual([]);
  });

  it.each([
    [
      { height: 64, width: 32 },
      { height: 64, width: 32 },
    ],
    [{ height: 128 }, { height: 128, width: 112 }],
    [{ height: 160 }, { height: 160, width: 128 }],
    [{ width: 256 }, { height: 240, width: 256 }],
    [
      { height: 128, width: 128 },
      { height: 128, width: 128 },
    ],
  ])("keeps what the model fixes, %j", (fixed, size) => {
    const graph = expand(variant("osnet_x0_25"));
    expect(defaultSize(graph, fixed)).toEqual(size);
    if (size.height !== size.width) expect(squares(graph, size.height, size.width)).toEqual([]);
  });
});

describe("a picture of one colour", () => {
  it("that is large, and packed in next to nothing, is refused before it is unpacked", () => {
    const [width, height] = [6000, 3000];
    const png = encodePng(width, height, new Uint8Array(3 * width * height));
    expect(png.length).toBeLessThan(100_000);
    expect(() => decodePng(png, "p.png")).toThrow(
      /^p\.png: found \d+ bytes that unpack to a picture of 54003000 bytes, expected at most 256 times as many/,
    );
  });

  it("of the size of a screen is read", () => {
    const picture = decodePng(encodePng(1920, 1080, new Uint8Array(3 * 1920 * 1080)), "p.png");
    expect([picture.width, picture.height]).toEqual([1920, 1080]);
  });
});

it("images with values that are not finite are refused by the name of their file", () => {
  const checkpoint = openFixture();
  const file = { kind: "checkpoint", format: "pth", checkpoint } as const;
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const images = seededImages(0, 2, 64, 32);
    images.data[7] = value;
    const chosen = { images: { source: "images.npy", tensor: images } };
    expect(() => imagesFor(checkpoint.graph, file, file, undefined, [], chosen)).toThrow(
      "images.npy: found images with 1 values that are NaN or infinite, expected finite pixels",
    );
  }
});
