import { gunzipSync } from "node:zlib";
import { readFixture } from "../fixtures.js";

/** A JPEG of RGB pixels, with colour at full size. */
export async function jpegEncoder(
  width: number,
  height: number,
  quality: number,
): Promise<(pixels: Uint8Array) => Uint8Array> {
  // @ts-expect-error: the package has no types.
  const codec = await import("@cornerstonejs/codec-libjpeg-turbo-8bit/wasmjs");
  const encoder = new (await codec.default()).JPEGEncoder();
  encoder.setQuality(quality);
  encoder.setProgressive(0);
  return (pixels) => {
    encoder
      .getDecodedBuffer({ width, height, bitsPerSample: 8, componentCount: 3, isSigned: false })
      .set(pixels);
    encoder.encode();
    return Uint8Array.from(encoder.getEncodedBuffer());
  };
}

/** A picture, and what Pillow makes of it: its pixels, or that it refuses it. Recorded by test/verify/inputs/jpeg_cases.py. */
export interface JpegCase {
  readonly name: string;
  readonly file: Uint8Array;
  readonly pixels: { readonly width: number; readonly height: number; readonly sha256: string } | null;
}

export function jpegCases(): readonly JpegCase[] {
  const json = gunzipSync(readFixture("jpeg-cases.json.gz")).toString();
  return (JSON.parse(json) as readonly (Omit<JpegCase, "file"> & { readonly file: string })[]).map((one) => ({
    ...one,
    file: Uint8Array.from(Buffer.from(one.file, "base64")),
  }));
}
