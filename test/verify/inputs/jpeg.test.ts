import { describe, expect, it } from "vitest";
import { sha256 } from "../../../src/core/bytes.js";
import type { InputError } from "../../../src/core/errors.js";
import { decodePhoto } from "../../../src/verify/inputs/photos.js";
import { jpegCases } from "../../support/jpeg.js";

const cases = jpegCases();
const pictureOf = (name: string): Uint8Array =>
  cases.find((one) => one.name === name)?.file ?? new Uint8Array();
const refusal = (bytes: Uint8Array): Promise<string> =>
  decodePhoto(bytes, "a.jpg").then(
    () => "nothing",
    (error: InputError) => `${error.code}: ${error.problem.found}`,
  );

describe("JPEG pictures", () => {
  it.each(cases.filter(({ pixels }) => pixels))(
    "$name: the pixels that Pillow has",
    async ({ file, pixels }) => {
      const { width, height, data } = await decodePhoto(file, "a.jpg");
      expect({ width, height, sha256: await sha256(data) }).toEqual(pixels);
    },
  );

  it.each(cases.filter(({ pixels }) => !pixels))("$name: refused, as by Pillow", async ({ file }) => {
    expect(await refusal(file)).toMatch(/^format: /);
  });

  it("are refused where they end within the picture, with that reason", async () => {
    expect(await refusal(pictureOf("half"))).toBe("format: a JPEG that ends within its picture");
  });

  it("are decoded concurrently and in sequence, also after a broken one", async () => {
    const [good, bad] = [pictureOf("all levels"), pictureOf("another frame within the data")];
    const tables = good.indexOf(0xdb);
    const unusable = good.slice();
    unusable[tables + 3] = 0x7f;
    const results = await Promise.all([good, bad, unusable, good].map(refusal));
    expect(results).toEqual([
      "nothing",
      "format: a JPEG with two frames",
      "format: JPEG data that does not decode",
      "nothing",
    ]);
    expect(await refusal(good)).toBe("nothing");
  });

  it("of other sampling are refused", async () => {
    const picture = pictureOf("all levels").slice();
    const frame = picture.findIndex((byte, at) => byte === 0xff && picture[at + 1] === 0xc0);
    picture[frame + 11] = 0x31;
    expect(await refusal(picture)).toBe("unsupported: a JPEG of sampling 3×1, 1×1, 1×1");
  });
});
