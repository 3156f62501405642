import { InputError } from "../../core/errors.js";
import type { RankingLabels } from "./compare.js";

/**
 * Re-identification data sets, inferred from the names of their files. A picture's identity (`pid`) and camera
 * (`camid`) are those of torchreid's readers (`torchreid/data/datasets/image`), except that cameras keep the number in
 * the name.
 *
 * | layout | recognised by | identity and camera |
 * | --- | --- | --- |
 * | `market1501` | folders `query` and `bounding_box_test`, also in a subfolder | `PID_cCAM…`; −1 is dropped, 0 is a distractor (Market-1501, DukeMTMC-reID) |
 * | `msmt17` | `list_query.txt` and `list_gallery.txt` | lines `PATH PID`; the third part of the file's name is the camera |
 * | `cuhk03` | `splits_new_detected.json` or `splits_new_labeled.json`, as torchreid writes them | entries `[path, pid, camid]` of the first split |
 * | `csv` | a file of columns `path`, `pid`, `camid`, `split` | its columns; `split` is `query` or `gallery` |
 * | `folders` | pictures in one folder per identity | the folder; each picture is a query among all others |
 * | `flat` | pictures in one folder | none: only the order of neighbours can be compared |
 */
type Layout = "market1501" | "msmt17" | "cuhk03" | "csv" | "folders" | "flat";

/** A picture of a data set. */
export interface Picture {
  /** Relative to the data set's folder, with forward slashes. */
  readonly path: string;
  readonly pid: number;
  readonly camid: number;
}

export interface Dataset {
  readonly layout: Layout;
  readonly queries: readonly Picture[];
  readonly gallery: readonly Picture[];
  /** Whether queries and gallery are the same pictures, each a query among the others. */
  readonly isShared: boolean;
  /** Whether identities are known. */
  readonly isLabelled: boolean;
}

/** A summary of what was read. */
export interface DatasetFacts {
  /** The recognised layout. */
  readonly layout: Layout;
  /** Number of query images. */
  readonly queries: number;
  /** Number of gallery images, including distractors. */
  readonly gallery: number;
  /** Number of identities in the queries and the gallery; 0 without labels. */
  readonly identities: number;
  /** Number of cameras; 0 if queries and gallery are the same pictures. */
  readonly cameras: number;
  /** Gallery images of identity 0. */
  readonly distractors: number;
  /** Queries whose identity has no gallery image from another camera. */
  readonly queriesWithoutMatch: number;
}

const PICTURE = /\.(jpe?g|png)$/i;
const MARKET_NAME = /(-?\d+)_c(\d+)/;
const MSMT17_FOLDERS = ["test", "mask_test_v2"] as const;

/** The files of a data set. */
interface DatasetFiles {
  /** All files below its folder, with forward slashes, or the one CSV file. */
  readonly paths: readonly string[];
  readText(path: string): string;
}

/**
 * @param subject name of the data set in messages
 * @throws InputError (`file`) if there are no pictures, (`format`) if a list cannot be read
 */
export function readDataset({ paths, readText }: DatasetFiles, subject: string): Dataset {
  const sorted = paths.toSorted();
  const pictures = sorted.filter((path) => PICTURE.test(path));
  const only = sorted.length === 1 ? sorted[0] : undefined;
  if (only?.endsWith(".csv")) return labelled("csv", fromCsv(readText(only), subject), subject);
  const query = sorted.find((path) => /(^|\/)query\/[^/]+$/.test(path));
  const root = query?.slice(0, query.lastIndexOf("query/"));
  if (root !== undefined && sorted.some((path) => path.startsWith(`${root}bounding_box_test/`))) {
    const queries = marketFolder(pictures, `${root}query/`);
    const gallery = marketFolder(pictures, `${root}bounding_box_test/`);
    if (queries.length === 0 || gallery.length === 0) throw noMarketFiles(subject, queries.length === 0);
    return labelled("market1501", { queries, gallery }, subject);
  }
  const list = sorted.find((path) => /(^|\/)list_query\.txt$/.test(path));
  if (list !== undefined) {
    const base = list.slice(0, -"list_query.txt".length);
    const folder = MSMT17_FOLDERS.find((name) => sorted.some((path) => path.startsWith(`${base}${name}/`)));
    const read = (name: string): readonly Picture[] =>
      msmt17List(readText(`${base}${name}`), `${base}${folder ?? "test"}/`, `${subject}, ${name}`);
    return labelled(
      "msmt17",
      { queries: read("list_query.txt"), gallery: read("list_gallery.txt") },
      subject,
    );
  }
  const split = sorted.find((path) => /(^|\/)splits_new_(detected|labeled)\.json$/.test(path));
  if (split !== undefined) return labelled("cuhk03", fromSplits(readText(split), split, subject), subject);
  if (pictures.length === 0)
    throw new InputError({
      code: "file",
      subject,
      found: "no pictures",
      expected: "a data set, or a folder of .jpg and .png pictures",
      remedy: "name the folder with query and bounding_box_test, or with the pictures",
    });
  const folders = [...new Set(pictures.map(folderOf))];
  const isFlat = folders.length === 1;
  const shared = pictures.map(
    (path, index): Picture => ({ path, pid: isFlat ? 0 : 1 + folders.indexOf(folderOf(path)), camid: index }),
  );
  return {
    layout: isFlat ? "flat" : "folders",
    queries: shared,
    gallery: shared,
    isShared: true,
    isLabelled: !isFlat,
  };
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/") + 1);
}

function labelled(layout: Layout, sets: Pick<Dataset, "queries" | "gallery">, subject: string): Dataset {
  for (const { path, pid, camid } of [...sets.queries, ...sets.gallery]) {
    if (Number.isSafeInteger(pid) && Number.isSafeInteger(camid)) continue;
    throw new InputError({
      code: "format",
      subject,
      found: `identity ${pid} and camera ${camid} of ${path}`,
      expected: "whole numbers up to 2^53",
      remedy: "use smaller numbers",
    });
  }
  return { layout, ...sets, isShared: false, isLabelled: true };
}

function marketFolder(pictures: readonly string[], folder: string): readonly Picture[] {
  return pictures.flatMap((path): readonly Picture[] => {
    const name = path.startsWith(folder) ? path.slice(folder.length) : "/";
    const [, pid, camid] = MARKET_NAME.exec(name) ?? [];
    // torchreid reads .jpg files of the folder itself, and drops identity −1, which the set's authors call junk.
    if (name.includes("/") || !name.endsWith(".jpg") || pid === undefined || Number(pid) === -1) return [];
    return [{ path, pid: Number(pid), camid: Number(camid) }];
  });
}

/** Read as a folder per identity, the two folders would be two persons. */
function noMarketFiles(subject: string, isQuery: boolean): InputError {
  return new InputError({
    code: "file",
    subject,
    found: `no .jpg file named as PID_cCAM in ${isQuery ? "query" : "bounding_box_test"}`,
    expected: "Market-1501 file names, in lower case as torchreid expects",
    remedy: "rename the pictures (a PNG may be named .jpg), or list them in a .csv",
  });
}

function msmt17List(text: string, folder: string, subject: string): readonly Picture[] {
  return lines(text).map((line, index) => {
    const [path = "", pid = ""] = line.split(" ");
    const camera = path.split("_")[2] ?? "";
    if (!/^\d+$/.test(pid) || !/^\d+$/.test(camera))
      throw badLine(subject, index + 1, "PATH PID, where the third part of PATH by _ is the camera");
    return { path: expectInside(`${folder}${path}`, subject), pid: Number(pid), camid: Number(camera) };
  });
}

function fromSplits(text: string, path: string, subject: string): Pick<Dataset, "queries" | "gallery"> {
  const base = folderOf(path);
  const pictures = `${base}images_${path.endsWith("labeled.json") ? "labeled" : "detected"}/`;
  const [split] = (parseJson(text, `${subject}, ${path}`) as readonly unknown[] | null) ?? [];
  const read = (name: "query" | "gallery"): readonly Picture[] => {
    const entries = (split as Readonly<Record<string, unknown>> | undefined)?.[name];
    if (!Array.isArray(entries))
      throw badLine(`${subject}, ${path}`, 1, `a list "${name}" in the first split`);
    return entries.map((entry: unknown, index) => {
      const [file, pid, camid] = Array.isArray(entry) ? entry : [];
      if (typeof file !== "string" || !Number.isInteger(pid) || !Number.isInteger(camid))
        throw badLine(`${subject}, ${path}, ${name}`, index + 1, "[path, pid, camid]");
      // torchreid writes the paths of the machine that made the split, of which only the file name is usable.
      return { path: `${pictures}${file.split(/[\\/]/).at(-1)}`, pid, camid };
    });
  };
  return { queries: read("query"), gallery: read("gallery") };
}

function fromCsv(text: string, subject: string): Pick<Dataset, "queries" | "gallery"> {
  const [header = "", ...rows] = lines(text);
  const columns = header.split(",").map((name) => name.trim().toLowerCase());
  const [path, pid, camid, split] = ["path", "pid", "camid", "split"].map((name) => columns.indexOf(name));
  if (path === undefined || pid === undefined || camid === undefined || split === undefined)
    throw new Error("four columns were looked up");
  const isTwice = columns.some((name, at) => columns.indexOf(name) < at);
  if (Math.min(path, pid, camid, split) < 0 || isTwice)
    throw badLine(subject, 1, "columns path, pid, camid and split, each once");
  const queries: Picture[] = [];
  const gallery: Picture[] = [];
  for (const [index, row] of rows.entries()) {
    const cells = row.split(",").map((cell) => cell.trim());
    const [id, camera] = [cells[pid] ?? "", cells[camid] ?? ""];
    if (!/^-?\d+$/.test(id) || !/^\d+$/.test(camera) || cells.length !== columns.length)
      throw badLine(
        subject,
        index + 2,
        "whole numbers as pid and camid, and as many cells as the header has",
      );
    const picture = {
      path: expectInside(cells[path] ?? "", subject),
      pid: Number(id),
      camid: Number(camera),
    };
    if (picture.pid === -1) continue;
    if (cells[split] === "query") queries.push(picture);
    else if (cells[split] === "gallery") gallery.push(picture);
    else if (cells[split] !== "train")
      throw badLine(subject, index + 2, "a split of query, gallery or train");
  }
  return { queries, gallery };
}

function lines(text: string): readonly string[] {
  return text.split(/\r?\n/).filter((line) => line.trim() !== "");
}

function parseJson(text: string, subject: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw badLine(subject, 1, "JSON");
  }
}

/** A list must not name files outside its data set. */
function expectInside(path: string, subject: string): string {
  if (path !== "" && !path.startsWith("/") && !/(^|[\\/])\.\.([\\/]|$)|^[a-z]:|\\/i.test(path)) return path;
  throw new InputError({
    code: "file",
    subject,
    found: `the path ${JSON.stringify(path)}`,
    expected: "paths of pictures inside the data set",
    remedy: "write them relative to its folder, with forward slashes",
  });
}

function badLine(subject: string, line: number, expected: string): InputError {
  return new InputError({
    code: "format",
    subject,
    found: `an invalid line ${line}`,
    expected,
    remedy: "see docs/ranking.md for the layouts that are read",
  });
}

/** A value's number among all, since some are dates or have more than 32 bits. */
function numberOf(known: Map<number, number>, value: number): number {
  const number = known.get(value) ?? known.size;
  known.set(value, number);
  return number;
}

/** Identities and cameras of a labelled set, numbered in their order: only whether two are equal counts. */
export function labelsOf({ isLabelled, queries, gallery }: Dataset): RankingLabels | undefined {
  if (!isLabelled) return undefined;
  const pids = new Map<number, number>();
  const camids = new Map<number, number>();
  const of = (pictures: readonly Picture[]): RankingLabels["queries"] => ({
    pids: Int32Array.from(pictures, ({ pid }) => numberOf(pids, pid)),
    camids: Int32Array.from(pictures, ({ camid }) => numberOf(camids, camid)),
  });
  return { queries: of(queries), gallery: of(gallery) };
}

export function datasetFacts({ layout, queries, gallery, isShared, isLabelled }: Dataset): DatasetFacts {
  const cameras = new Map<number, Set<number>>();
  for (const { pid, camid } of gallery) cameras.set(pid, (cameras.get(pid) ?? new Set()).add(camid));
  const hasMatch = ({ pid, camid }: Picture): boolean => {
    const seen = cameras.get(pid);
    return seen !== undefined && (seen.size > 1 || !seen.has(camid));
  };
  const all = isShared ? gallery : [...queries, ...gallery];
  return {
    layout,
    queries: queries.length,
    gallery: gallery.length,
    identities: isLabelled ? new Set(all.map(({ pid }) => pid).filter((pid) => pid !== 0)).size : 0,
    cameras: isShared ? 0 : new Set(all.map(({ camid }) => camid)).size,
    distractors: isLabelled ? gallery.filter(({ pid }) => pid === 0).length : 0,
    queriesWithoutMatch: isLabelled ? queries.filter((picture) => !hasMatch(picture)).length : 0,
  };
}
