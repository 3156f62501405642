import { deflateSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { openNpz } from "../../../src/convert/formats/npz.js";
import type { InputError } from "../../../src/core/errors.js";
import type { Pixels } from "../../../src/verify/inputs/images.js";
import { decodePhoto, photoTensor, resizeBilinear } from "../../../src/verify/inputs/photos.js";
import { readFixture } from "../../fixtures.js";

/** Pictures, and under `NAME.rgb` what Pillow's `convert("RGB")` makes of them. */
const archive = openNpz(readFixture("photos.npz"), "photos.npz");
const bytesOf = (name: string): Uint8Array => archive.read(name).data as Uint8Array;
const pillow = (name: string): Pixels => {
  const { shape, data } = archive.read(name);
  return { height: shape[0] ?? 0, width: shape[1] ?? 0, data: data as Uint8Array };
};
const named = (suffix: string): readonly string[] => archive.names.filter((name) => name.endsWith(suffix));
const refusal = (bytes: Uint8Array, name = "a.png"): Promise<string> =>
  decodePhoto(bytes, name).then(
    () => "nothing",
    (error: InputError) => `${error.code}: ${error.problem.found}`,
  );

describe("PNG pictures", () => {
  it.each(named(".png"))("reads %s as Pillow does", async (name) => {
    expect(await decodePhoto(bytesOf(name), name)).toEqual(pillow(`${name}.rgb`));
  });

  it("covers every colour type and depth, interlaced and not", () => {
    expect(named(".png")).toHaveLength(2 * 15 + 2);
  });
});

describe("JPEG pictures", () => {
  it.each(named(".jpg").filter((name) => name !== "cmyk.jpg"))("reads %s as Pillow does", async (name) => {
    expect(await decodePhoto(bytesOf(name), name)).toEqual(pillow(`${name}.rgb`));
  });
});

describe("resizeBilinear", () => {
  const resized = (height: number, width: number): readonly [actual: Pixels, expected: Pixels] => [
    resizeBilinear(pillow("pillow.png.rgb"), height, width),
    pillow(`resized.${height}x${width}`),
  ];

  it.each([
    [256, 128],
    [37, 83],
    [211, 40],
    [1, 1],
    [64, 32],
    [7, 5],
  ])("is Pillow's to %i×%i, to the bit", (height, width) => {
    const [actual, expected] = resized(height, width);
    expect(actual).toEqual(expected);
  });
});

describe("photoTensor", () => {
  it("is PyTorch's, to the bit", () => {
    const { shape, data } = photoTensor([pillow("pillow.png.rgb")], 211, 40);
    const expected = archive.read("tensor.211x40");
    expect(shape).toEqual(expected.shape);
    expect(Buffer.from(data.buffer).equals(Buffer.from(expected.data.slice().buffer))).toBe(true);
  });

  it("makes a batch of pictures of different sizes, in their order", () => {
    const pictures = [pillow("pillow.png.rgb"), pillow("rgb8.png.rgb")];
    const { shape, data } = photoTensor(pictures, 16, 8);
    expect(shape).toEqual([2, 3, 16, 8]);
    const apart = pictures.flatMap((picture) => [...photoTensor([picture], 16, 8).data]);
    expect([...data]).toEqual(apart);
  });
});

describe("a JPEG of a phone", () => {
  it("is a picture, though the marker of its APP1 begins with 0", async () => {
    const picture = bytesOf("444.jpg");
    // Behind the first segment, of a length in two bytes; Pillow passes over it.
    const segment = Uint8Array.of(0, 0xe1, 0, 8, ...new TextEncoder().encode("http:/"));
    const at = 4 + ((picture[4] ?? 0) << 8) + (picture[5] ?? 0);
    const damaged = Buffer.concat([picture.subarray(0, at), segment, picture.subarray(at)]);
    expect(await decodePhoto(damaged, "phone.jpg")).toEqual(await decodePhoto(picture, "444.jpg"));
  });
});

describe("pictures that are refused", () => {
  const png = bytesOf("rgb8.png");
  const jpeg = bytesOf("444.jpg");
  /** Byte `at` of the header (after the signature, length and type) is the first of its width. */
  const changed = (bytes: Uint8Array, at: number, ...values: readonly number[]): Uint8Array => {
    const copy = bytes.slice();
    copy.set(values, at);
    return copy;
  };
  const frame = jpeg.findIndex((byte, index) => byte === 0xff && jpeg[index + 1] === 0xc0);

  it.each<readonly [what: string, bytes: Uint8Array, found: string]>([
    ["text", new TextEncoder().encode("GIF89a"), "format: bytes that are neither a JPEG nor a PNG picture"],
    ["nothing", new Uint8Array(), "format: bytes that are neither a JPEG nor a PNG picture"],
    [
      "a PNG of 2³¹ × 2³¹",
      changed(png, 16, 128, 0, 0, 0, 128, 0, 0, 0),
      "unsupported: a picture of 2147483648×2147483648 pixels",
    ],
    ["a PNG of no width", changed(png, 16, 0, 0, 0, 0), "format: a picture of 0×29 pixels"],
    [
      "a PNG with more data than its size",
      changed(png, 16, 0, 0, 0, 1),
      "format: a PNG with more data than its size takes",
    ],
    ["a PNG with less", changed(png, 20, 0, 0, 1, 0), "format: a PNG with 1682 of 14848 bytes of data"],
    ["a PNG of 3 bits", changed(png, 24, 3), "format: a PNG of colour type 2 with 3 bits"],
    [
      "a PNG of another compression",
      changed(png, 26, 1),
      "unsupported: a PNG with an unknown compression, filter or interlacing method",
    ],
    ["half a PNG", png.subarray(0, 500), "format: a PNG that ends within a chunk"],
    ["a PNG without its data", png.subarray(0, 33), "format: a PNG with 0 bytes for 1682 of data"],
    ["a PNG of other compressed data", changed(png, 90, 0), "format: a PNG with broken compressed data"],
    [
      "a palette that is too short",
      changed(bytesOf("palette8.png"), 36, 3),
      "format: a PNG that ends within a chunk",
    ],
    [
      "a JPEG of 65535²",
      changed(jpeg, frame + 5, 255, 255, 255, 255),
      "unsupported: a picture of 65535×65535 pixels",
    ],
    ["a JPEG of 12 bits", changed(jpeg, frame + 4, 12), "unsupported: a JPEG of 12 bits"],
    ["a lossless JPEG", changed(jpeg, frame + 1, 0xc3), "unsupported: a JPEG of kind SOF3"],
    ["a JPEG of four colours", bytesOf("cmyk.jpg"), "unsupported: a JPEG of 4 colour components"],
    [
      "a PNG of a few bytes that promises 31 megabytes",
      changed(png, 16, 0, 0, 20, 0, 0, 0, 8, 0),
      "format: a PNG with 1589 bytes for 31459328 of data",
    ],
    [
      "a JPEG of a few bytes that promises as many",
      changed(jpeg.subarray(0, 2000), frame + 5, 20, 0, 8, 0),
      "format: a JPEG of 2048×5120 pixels in 2000 bytes",
    ],
    ["half a JPEG", jpeg.subarray(0, jpeg.length >> 1), "format: a JPEG that ends within its picture"],
    ["the start of a JPEG", jpeg.subarray(0, 20), "format: a JPEG without image data"],
  ])("%s", async (_, bytes, found) => {
    expect(await refusal(bytes)).toBe(found);
  });

  it("a JPEG of a thousand scans", async () => {
    const scan = jpeg.findIndex((byte, index) => byte === 0xff && jpeg[index + 1] === 0xda);
    const scans = Array.from({ length: 1000 }, () => [...jpeg.subarray(scan, scan + 20)]).flat();
    expect(await refusal(Uint8Array.from([...jpeg.subarray(0, scan), ...scans]))).toBe(
      "unsupported: a JPEG with 1000 scans",
    );
  });

  it("a PNG in chunks of one byte, or of one pixel to a row, costs what its pixels cost", async () => {
    const head = png.subarray(0, 33);
    const data = deflateSync(new Uint8Array(2_000_000));
    const one = Array.from(data, (byte) => [0, 0, 0, 1, 73, 68, 65, 84, byte, 0, 0, 0, 0]).flat();
    expect(await refusal(Uint8Array.from([...head, ...one]))).toMatch(/^format: a PNG with /);
    const line = changed(png, 16, 0, 0, 0, 1, 2, 98, 90, 0);
    expect(await refusal(line)).toBe("unsupported: a picture of 1×40000000 pixels");
  });
});
