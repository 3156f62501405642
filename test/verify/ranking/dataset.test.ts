import { describe, expect, it } from "vitest";
import { datasetFacts, labelsOf, readDataset } from "../../../src/verify/ranking/dataset.js";

function dataset(files: Readonly<Record<string, string>>) {
  return readDataset({ paths: Object.keys(files), readText: (path) => files[path] ?? "" }, "crops");
}

function named(paths: readonly string[]) {
  return dataset(Object.fromEntries(paths.map((path) => [path, ""])));
}

describe("a data set", () => {
  it("in Market-1501's layout: junk is dropped, distractors stay, only .jpg counts", () => {
    const market = named([
      "Market-1501-v15.09.15/query/0002_c1s1_000451_03.jpg",
      "Market-1501-v15.09.15/query/0003_c2s1_000451_03.jpg",
      "Market-1501-v15.09.15/query/Thumbs.db",
      "Market-1501-v15.09.15/bounding_box_test/-1_c1s1_000401_03.jpg",
      "Market-1501-v15.09.15/bounding_box_test/0000_c3s1_000401_03.jpg",
      "Market-1501-v15.09.15/bounding_box_test/0002_c6s1_000776_01.jpg",
      "Market-1501-v15.09.15/bounding_box_test/0002_c1s1_000777_01.jpg.bak",
      "Market-1501-v15.09.15/bounding_box_train/0007_c6s1_000776_01.jpg",
    ]);
    expect(market.queries.map(({ pid, camid }) => [pid, camid])).toEqual([
      [2, 1],
      [3, 2],
    ]);
    expect(market.gallery.map(({ pid, camid }) => [pid, camid])).toEqual([
      [0, 3],
      [2, 6],
    ]);
    expect(datasetFacts(market)).toEqual({
      layout: "market1501",
      queries: 2,
      gallery: 2,
      identities: 2,
      cameras: 4,
      distractors: 1,
      queriesWithoutMatch: 1,
    });
  });

  it("in Market-1501's folders without a .jpg is refused, not read as two persons", () => {
    const folders = ["query/0002_c1s1_000451_03.png", "bounding_box_test/0002_c2s1_000451_03.png"];
    expect(() => named(folders)).toThrow(
      /found no \.jpg file named as PID_cCAM in query, expected Market-1501 file names/,
    );
    expect(() => named(["query/0002_c1s1_000451_03.jpg", folders[1] ?? ""])).toThrow(/in bounding_box_test/);
  });

  it("in MSMT17's lists", () => {
    const msmt = dataset({
      "MSMT17_V1/list_query.txt": "0000/0000_004_02_0303morning_0060_0.jpg 0\n",
      "MSMT17_V1/list_gallery.txt": "0000/0000_000_01_0303morning_0008_0.jpg 0\n",
      "MSMT17_V1/test/0000/0000_004_02_0303morning_0060_0.jpg": "",
      "MSMT17_V1/test/0000/0000_000_01_0303morning_0008_0.jpg": "",
    });
    expect(msmt.queries).toEqual([
      { path: "MSMT17_V1/test/0000/0000_004_02_0303morning_0060_0.jpg", pid: 0, camid: 2 },
    ]);
    expect(msmt.layout).toBe("msmt17");
  });

  it("in CUHK03's new protocol, as torchreid splits it", () => {
    const cuhk = dataset({
      "splits_new_detected.json": JSON.stringify([
        { query: [["/elsewhere/1_001_1_01.png", 7, 0]], gallery: [["/elsewhere/1_001_2_06.png", 7, 1]] },
      ]),
    });
    expect(cuhk.gallery).toEqual([{ path: "images_detected/1_001_2_06.png", pid: 7, camid: 1 }]);
  });

  it("as a CSV", () => {
    const csv = dataset({
      "set.csv": "split,path,pid,camid\nquery,a.jpg,1,0\ngallery,b/c.png,1,1\ntrain,d.png,2,1\n",
    });
    expect(csv.queries).toEqual([{ path: "a.jpg", pid: 1, camid: 0 }]);
    expect(csv.gallery).toEqual([{ path: "b/c.png", pid: 1, camid: 1 }]);
    for (const path of ["../a.jpg", "/etc/a.jpg", "C:\\a.jpg", "x/../../a.jpg"])
      expect(() => dataset({ "set.csv": `path,pid,camid,split\n${path},1,0,query\n` })).toThrow(
        expect.objectContaining({ code: "file" }),
      );
    expect(() => dataset({ "set.csv": "path,pid,camid,split\na.jpg,one,0,query\n" })).toThrow(
      expect.objectContaining({ code: "format" }),
    );
  });

  it("of a folder per identity: each picture is a query among the others", () => {
    const folders = named(["anna/1.jpg", "anna/2.png", "bert/1.jpg"]);
    expect(folders).toMatchObject({ layout: "folders", isShared: true, isLabelled: true });
    expect(datasetFacts(folders)).toMatchObject({ identities: 2, queriesWithoutMatch: 1 });
    expect([...(labelsOf(folders)?.gallery.pids ?? [])]).toEqual([0, 0, 1]);
  });

  it("tells identities and cameras apart that differ beyond 32 bits, and refuses those beyond 2^53", () => {
    const csv = (pid: string, camid: string) =>
      dataset({
        "d.csv": `path,pid,camid,split\na.jpg,1,2,query\nb.jpg,${pid},${camid},gallery\nc.jpg,1,3,gallery`,
      });
    const { queries, gallery } = labelsOf(csv("4294967297", "4294967298")) ?? {};
    expect([queries?.pids, gallery?.pids, gallery?.camids].map((ids) => [...(ids ?? [])])).toEqual([
      [0],
      [1, 0],
      [1, 2],
    ]);
    expect(() => csv("9007199254740993", "2")).toThrow(
      "found identity 9007199254740992 and camera 2 of b.jpg",
    );
  });

  it("with a column twice is refused", () => {
    const csv = "path,pid,camid,split,pid\na.jpg,1,2,query,3\n";
    expect(() => dataset({ "d.csv": csv })).toThrow("found an invalid line 1");
  });

  it("of one folder has no labels", () => {
    const flat = named(["b.jpg", "a.jpg", "notes.txt"]);
    expect(flat).toMatchObject({ layout: "flat", isLabelled: false });
    expect(flat.queries.map(({ path }) => path)).toEqual(["a.jpg", "b.jpg"]);
    expect(labelsOf(flat)).toBeUndefined();
  });

  it("without pictures is refused", () => {
    expect(() => named(["notes.txt"])).toThrow(expect.objectContaining({ code: "file" }));
  });
});
