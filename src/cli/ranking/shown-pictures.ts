import { join } from "node:path";
import type { RankingReport } from "../../verify/ranking/report.js";
import { NEAREST_SHOWN } from "../../verify/reports/ranking/page.js";
import { preparePicture } from "./pictures.js";

/** Pixels and quality of a picture in a report: a few KB each, whatever the file has. */
const SHOWN = { height: 128, width: 64 } as const;
const QUALITY = 80;

/** The pictures of the worst queries as `data:` URIs: encoded anew, so that nothing of a file but its pixels is in a report. */
export async function shownPictures(
  { candidates }: RankingReport,
  folder: string,
): Promise<ReadonlyMap<string, string>> {
  const encode = await jpegEncoder();
  const paths = candidates.flatMap(({ worst }) =>
    worst.flatMap(({ picture, referenceNearest, candidateNearest }) => [
      picture,
      ...[referenceNearest, candidateNearest].flatMap((nearest) =>
        nearest.slice(0, NEAREST_SHOWN).map((one) => one.picture),
      ),
    ]),
  );
  const shown = new Map<string, string>();
  for (const path of new Set(paths)) {
    const prepared = await preparePicture({ path: join(folder, path), ...SHOWN });
    if (!("pixels" in prepared)) continue;
    const bytes = encode(prepared.pixels);
    shown.set(path, `data:image/jpeg;base64,${Buffer.from(bytes).toString("base64")}`);
  }
  return shown;
}

/** Encodes pictures of the size shown, RGB, with libjpeg-turbo. */
async function jpegEncoder(): Promise<(pixels: Uint8Array) => Uint8Array> {
  // @ts-expect-error: the package has no types.
  const codec = await import("@cornerstonejs/codec-libjpeg-turbo-8bit/wasmjs");
  const encoder = new (await codec.default()).JPEGEncoder();
  encoder.setQuality(QUALITY);
  encoder.setProgressive(0);
  const frame = { ...SHOWN, bitsPerSample: 8, componentCount: 3, isSigned: false };
  return (pixels) => {
    encoder.getDecodedBuffer(frame).set(pixels);
    encoder.encode();
    return encoder.getEncodedBuffer();
  };
}
