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
  const { encode } = await import("jpeg-js");
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
    const data = new Uint8Array(4 * SHOWN.height * SHOWN.width).fill(255);
    for (let pixel = 0; pixel < SHOWN.height * SHOWN.width; pixel++)
      data.set(prepared.pixels.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
    const bytes = encode({ data, ...SHOWN }, QUALITY).data;
    shown.set(path, `data:image/jpeg;base64,${Buffer.from(bytes).toString("base64")}`);
  }
  return shown;
}
