import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { type Picture, readDataset } from "../../../src/verify/ranking/dataset.js";
import { readFixture } from "../../fixtures.js";

type Row = readonly [name: string, pid: number, camid: number];

interface Case {
  readonly name: string;
  readonly folder: string;
  readonly paths: readonly string[];
  readonly texts: Readonly<Record<string, string>>;
  readonly query: readonly Row[];
  readonly gallery: readonly Row[];
}

/** What torchreid's own classes read, recorded by reader_cases.py: cameras count from 0. */
const cases = JSON.parse(gunzipSync(readFixture("dataset-cases.json.gz")).toString()) as readonly Case[];

describe("readers of data sets against torchreid's", () => {
  it.each(cases)("$name", ({ folder, paths, texts, query, gallery }) => {
    const readText = (path: string): string => texts[path.slice(folder.length + 1)] ?? "";
    const found = readDataset({ paths, readText }, "set");
    // Market-1501, DukeMTMC-reID and MSMT17 number cameras from 1 in their names; torchreid subtracts it.
    const first = found.layout === "cuhk03" ? 0 : 1;
    const rows = (pictures: readonly Picture[]): readonly Row[] =>
      pictures.map(({ path, pid, camid }): Row => [path.split("/").at(-1) ?? "", pid, camid - first]);
    const sorted = (some: readonly Row[]): readonly string[] => some.map((row) => row.join(" ")).toSorted();
    expect(sorted(rows(found.queries))).toEqual(sorted(query));
    expect(sorted(rows(found.gallery))).toEqual(sorted(gallery));
    for (const { path } of [...found.queries, ...found.gallery]) expect(paths).toContain(path);
  });

  it("cover every layout that torchreid has", () => {
    expect(cases.map(({ query, gallery }) => Math.min(query.length, gallery.length) > 3)).toEqual(
      Array(7).fill(true),
    );
  });
});
