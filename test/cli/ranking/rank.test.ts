import { execFileSync } from "node:child_process";
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { XMLParser } from "fast-xml-parser";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { StateDict } from "../../../src/core/tensor.js";
import type { RankingReport } from "../../../src/verify/ranking/report.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { createFolder, type Folder } from "../../support/folder.js";
import { encodeNpy } from "../../support/npy.js";
import { convert, SMALL, withTensor } from "../../support/osnet.js";
import { pictureSet } from "../../support/picture-set.js";
import { schemaOf } from "../../support/schemas.js";
import { tinyFile } from "../../support/tiny-file.js";
import { type Finished, run, spawnCommand } from "../command.js";

const CHECKPOINT = tinyFile("block");
const [FEATURES = 0] = tinyCheckpoint("block").spec.embedding;
const SIZE = ["--size", "64x32"];

/** The checkpoint's features of `market`. */
const RECORDED = ["--reference", "reference.npy", "--data", "market"] as const;

/** A data set, the checkpoint's ONNX file and features, and what tests add. */
let folder: Folder;
beforeAll(async () => {
  folder = await createFolder({ "model.onnx": convert(tinyCheckpoint("block")) });
  await put(await pictureSet(), "market");
  const { status, stderr } = await verify(
    "embed",
    CHECKPOINT,
    "--data",
    "market",
    ...SIZE,
    "-o",
    "reference.npy",
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
});
afterAll(() => folder.remove());

async function put(files: ReadonlyMap<string, Uint8Array | string>, under: string): Promise<void> {
  for (const [name, bytes] of files) {
    const path = folder.at(`${under}/${name}`);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, bytes);
  }
}

function verify(...args: readonly string[]): Promise<Finished> {
  return run("osnet-verify", args, { cwd: folder.path });
}

/** Ranks models, and gives the report. */
async function rank(
  ...args: readonly string[]
): Promise<{ readonly status: number | null; readonly report: RankingReport }> {
  const { status, stdout, stderr } = await verify("rank", ...args, "--json");
  expect(stderr).toBe("");
  return { status, report: JSON.parse(stdout.toString()) as RankingReport };
}

/** An ONNX file of the checkpoint with other weights. */
async function mutant(name: string, change: (stateDict: StateDict) => StateDict): Promise<string> {
  const checkpoint = tinyCheckpoint("block");
  await writeFile(folder.at(name), convert({ ...checkpoint, stateDict: change(checkpoint.stateDict) }));
  return name;
}

/** The checkpoint's ONNX file with the gates of other channels. */
function crossGates(): Promise<string> {
  return mutant("crossed.onnx", (stateDict) =>
    withTensor(stateDict, "conv2.0.gate.fc2.weight", ({ shape, data }) => ({
      dtype: "float32",
      shape,
      data: Float32Array.from(data as Float32Array).reverse(),
    })),
  );
}

describe("osnet-verify rank", () => {
  it("passes the checkpoint's own ONNX file, says what was read and how far its reference is proven, in every report", async () => {
    const files = ["proof.md", "proof.html", "proof.json"].flatMap((name) => ["--report", name]);
    const { status, stdout, stderr } = await verify(
      "rank",
      "model.onnx",
      "--reference",
      CHECKPOINT,
      "--data",
      "market",
      ...files,
    );
    expect(stderr).toBe("");
    const text = stdout.toString();
    expect(text).toContain(
      "market: market1501 layout, 18 queries, 40 gallery images, 6 identities, 3 cameras, 4 distractors",
    );
    const sentence = "is run as an ONNX file that is proven to compute the network for every input";
    expect(text).toContain(sentence);
    expect(text.trimEnd().split("\n").at(-1)).toBe(
      "PASS  the candidate ranks as the reference does, within the limits",
    );
    expect(status).toBe(0);
    const read = async (name: string) => Buffer.from(await folder.read(name)).toString();
    for (const name of ["proof.md", "proof.html"]) expect(await read(name)).toContain(sentence);
    const report = JSON.parse(await read("proof.json")) as RankingReport;
    expect(report.reference.proof).toMatchObject({ status: "proven", images: 2 });
    const validate = schemaOf("osnet-ranking-1.schema.json");
    expect(validate(report), JSON.stringify(validate.errors)).toBe(true);

    // Both are the same network: the figures are the same to 1e-9.
    const [candidate] = report.candidates;
    expect(candidate?.figures?.mAP).toBeCloseTo(report.reference.figures?.mAP ?? Number.NaN, 9);
    expect(candidate?.figures?.mAP).toBeGreaterThan(0.2);
    expect(candidate?.parity).toMatchObject({ kendallTau: 1, flips: { count: 0 } });
    expect(candidate?.parity.drift.max).toBeLessThan(1e-5);
    const recorded = await rank("model.onnx", ...RECORDED);
    expect(recorded.report.reference.proof).toBeUndefined();
  });

  it("runs candidates by the runtime, output and order of channels that are asked for", async () => {
    const both = ["model.onnx", ...RECORDED];
    const byWeb = await rank(...both, "--backend", "tfjs-cpu", "--backend", "onnxruntime-web");
    expect(byWeb.report.candidates[0]?.backend).toBe("onnxruntime-web");
    expect(byWeb.report.passed).toBe(true);
    const named = await rank(...both, "--output", "features");
    expect(named.report.candidates[0]?.parity.drift.max).toBeLessThan(1e-5);
    const swapped = await rank(...both, "--input-order", "bgr");
    expect(swapped.report.candidates[0]?.parity.drift.max).toBeGreaterThan(1e-3);
    const unknown = await verify("rank", ...both, "--output", "nothing");
    expect(unknown.status).toBe(2);
    expect(unknown.stderr).toContain("nothing");
  });

  it("re-ranks on request: other figures, by which the same model passes and another fails", async () => {
    const plain = await rank("model.onnx", ...RECORDED);
    const again = await rank("model.onnx", ...RECORDED, "--rerank", "--distance", "cosine");
    expect([again.status, again.report.reranked, again.report.distance]).toEqual([0, true, "cosine"]);
    const [before, after] = [plain, again].map(({ report }) => report.reference.figures?.mAP);
    expect(after).toBeGreaterThan(0);
    expect(after).not.toBe(before);
    expect(again.report.candidates[0]?.figures?.mAP).toBeCloseTo(after ?? Number.NaN, 6);
    const crossed = await rank(await crossGates(), ...RECORDED, "--rerank", "--max-flips", "0");
    expect(crossed.status).toBe(1);
  });

  it("takes a quantised TensorFlow.js model", async () => {
    const converted = await run(
      "osnet-convert",
      ["pth2tfjs", CHECKPOINT, "-o", "uint8", ...SIZE, "--quantize", "uint8"],
      { cwd: folder.path },
    );
    expect(converted.status, converted.stderr).toBe(0);
    const { report } = await rank("uint8", ...RECORDED);
    const [candidate] = report.candidates;
    expect(candidate?.backend).toBe("tfjs-wasm");
    expect(candidate?.parity.drift.max).toBeGreaterThan(1e-4);
    expect(candidate?.parity.kendallTau).toBeGreaterThan(0.9);
    expect(candidate?.parity.kendallTau).toBeLessThan(1);
  });

  it("takes a float16 model, whose order hardly changes", async () => {
    await writeFile(folder.at("half.onnx"), convert(tinyCheckpoint("block"), { dtype: "float16" }));
    const { report } = await rank("half.onnx", ...RECORDED);
    const [candidate] = report.candidates;
    expect(candidate?.parity.drift.max).toBeGreaterThan(1e-6);
    expect(candidate?.parity.drift.max).toBeLessThan(0.01);
    expect(candidate?.parity.kendallTau).toBeGreaterThan(0.97);
    expect(Math.abs(candidate?.parity.mAP?.value ?? 1)).toBeLessThan(0.01);
  });

  it("fails a collapsed model, whatever the order of files", async () => {
    const zero = (stateDict: StateDict): StateDict =>
      ["fc.0.weight", "fc.1.weight"].reduce(
        (changed, path) =>
          withTensor(changed, path, ({ shape, data }) => ({
            dtype: "float32",
            shape,
            data: new Float32Array(data.length),
          })),
        stateDict,
      );
    const collapsed = await mutant("collapsed.onnx", zero);
    // The match of every query comes first in its gallery, so that the order of files alone would find it.
    const shots = await pictureSet({ identities: 1, cameras: 4, shots: 3, distractors: 4, junk: 0 });
    await put(shots, "one");
    for (const data of [RECORDED, ["--reference", CHECKPOINT, "--data", "one"]]) {
      const { status, report } = await rank(collapsed, ...data);
      const [candidate] = report.candidates;
      expect(status).toBe(1);
      expect(candidate?.checks.map(({ passed }) => passed)).toEqual([true, false, false, false]);
      expect(candidate?.figures?.ties.rank1Worst).toBe(0);
      expect(candidate?.parity.flips.share).toBe(1);
    }
  });

  it("says how much crossed gates change", async () => {
    const crossed = await crossGates();
    const { report } = await rank(crossed, ...RECORDED);
    const { parity } = report.candidates[0] ?? {};
    expect(parity?.drift.max).toBeGreaterThan(1e-4);
    expect(parity?.kendallTau).toBeLessThan(1);
  });

  it("fails features that are not finite", async () => {
    const broken = await mutant("nan.onnx", (stateDict) =>
      withTensor(stateDict, "fc.0.bias", ({ shape, data }) => ({
        dtype: "float32",
        shape,
        data: Float32Array.from(data as Float32Array, (value, index) => (index === 3 ? Number.NaN : value)),
      })),
    );
    const { status, report } = await rank(broken, ...RECORDED);
    expect(status).toBe(1);
    expect(report.candidates[0]?.nonFinite).toBe(58);
    const reversed = await verify("rank", "model.onnx", "--reference", broken, "--data", "market");
    expect(reversed.status).toBe(2);
  });

  it.each([
    ["too large to be squared", 1e160, "c.jpg", "found NaN or infinite features for 3 pictures"],
    ["of one picture twice", 1, "a.jpg", "found two rows for a.jpg"],
  ])("refuses recorded features %s", async (_, size, last, found) => {
    const data = Float64Array.of(size, 2 * size, 3 * size);
    const files = new Map<string, Uint8Array | string>([
      ["d.csv", "path,pid,camid,split\na.jpg,1,1,query\nb.jpg,2,2,gallery\nc.jpg,1,2,gallery\n"],
      ["f.npy", encodeNpy({ dtype: "float64", shape: [3, 1], data })],
      ["f.txt", `a.jpg\nb.jpg\n${last}\n`],
    ]);
    await put(files, "few");
    const { status, stderr } = await verify(
      "rank",
      "few/f.npy",
      "--reference",
      "few/f.npy",
      "--data",
      "few/d.csv",
    );
    expect({ status, stderr: stderr.toString() }).toMatchObject({
      status: 2,
      stderr: expect.stringContaining(found),
    });
  });

  it("compares orders where there are no labels", async () => {
    const flat = [...(await pictureSet({ identities: 2 }))].map(
      ([path, bytes]) => [path.replaceAll("/", "_"), bytes] as const,
    );
    await put(new Map(flat), "flat");
    const { status, report } = await rank("model.onnx", "--reference", CHECKPOINT, "--data", "flat");
    expect(status).toBe(0);
    expect(report.dataset).toMatchObject({ layout: "flat", queries: flat.length, identities: 0 });
    expect(report.candidates[0]?.figures).toBeUndefined();
  });

  it("lists broken pictures, and refuses too many", async () => {
    await put(await pictureSet(), "broken");
    await put(
      new Map([
        ["query/0001_c1s1_000000_00.jpg", "no picture"],
        ["bounding_box_test/0001_c9s1_000000_00.jpg", ""],
      ]),
      "broken",
    );
    const args = ["model.onnx", "--reference", CHECKPOINT, "--data", "broken"];
    expect((await verify("rank", ...args)).status).toBe(2);
    const { status, report } = await rank(...args, "--max-broken", "0.1");
    expect(status).toBe(0);
    expect(report.broken).toHaveLength(2);
    expect(report.dataset).toMatchObject({ queries: 17, gallery: 40 });
  });

  it("refuses what it cannot rank", async () => {
    await put(new Map([["one.jpg", (await pictureSet()).values().next().value ?? ""]]), "single");
    for (const args of [
      ["model.onnx", "--reference", CHECKPOINT, "--data", "nowhere"],
      ["model.onnx", "--reference", CHECKPOINT, "--data", "single"],
      ["model.onnx", "--reference", "none.pth", "--data", "market"],
      ["model.onnx", ...RECORDED, "--size", "128x64"],
      ["model.onnx", ...RECORDED, "--report", "x.sarif"],
      ["model.onnx", ...RECORDED, "--max-flips", "2"],
    ]) {
      const { status, stdout, stderr } = await verify("rank", ...args);
      expect({ status, stdout: stdout.toString() }, args.join(" ")).toEqual({ status: 2, stdout: "" });
      expect(stderr).toMatch(/^[^\n]*: .*; .*[.?]\n/);
    }
  });
});

describe("ranking reports", () => {
  it("are written as JSON, Markdown, JUnit and a page, with pictures only if asked", async () => {
    const reports = ["r.json", "r.md", "r.xml", "r.html"].flatMap((name) => ["--report", name]);
    const args = [await crossGates(), "model.onnx", ...RECORDED, ...reports, "--cache", "kept", "--quiet"];
    const { status, stderr } = await verify("rank", ...args, "--single-shot");
    expect({ status, stderr }).toEqual({ status: 1, stderr: "" });
    const read = async (name: string): Promise<string> => Buffer.from(await folder.read(name)).toString();
    const report = JSON.parse(await read("r.json")) as RankingReport;
    const isValid = schemaOf("osnet-ranking-1.schema.json");
    isValid(report);
    expect(isValid.errors).toBe(null);
    expect(report.candidates.map(({ passed }) => passed)).toEqual([false, true]);
    expect(report.candidates[0]?.queryChanges).toHaveLength(18);
    const { same, different } = report.reference.spread ?? {};
    const total = (counts: readonly number[] = []): number => counts.reduce((sum, count) => sum + count, 0);
    // Of 40 gallery images, 2 are the query's own by its camera, and 4 by others.
    expect([total(same?.counts), total(different?.counts)]).toEqual([18 * 4, 18 * 34]);
    expect(report.reference.singleShot?.[0]).toBeGreaterThan(0);
    expect(await read("r.md")).toMatch(/^## FAIL: 1 of 2 candidates do not rank as the reference does\n/);
    const suites = (new XMLParser({ ignoreAttributes: false }).parse(await read("r.xml")) as Junit)
      .testsuites;
    expect(suites.testsuite.map((suite) => [suite["@_tests"], suite["@_failures"] !== "0"])).toEqual([
      ["4", true],
      ["4", false],
    ]);
    expect(await read("r.html")).not.toContain("data:image");
    expect((await verify("rank", ...args, "--pictures")).status).toBe(1);
    const shown = (await read("r.html")).match(/<img src="data:image\/jpeg;base64,[\w+/]+=*" alt=/g);
    expect(shown?.length).toBeGreaterThan(11);
  });
});

/** Of a JUnit document, what is looked at. */
interface Junit {
  readonly testsuites: {
    readonly testsuite: readonly { readonly "@_tests": string; readonly "@_failures": string }[];
  };
}

describe("osnet-verify embed", () => {
  it("runs as built, with threads that decode", async () => {
    const args = ["embed", "model.onnx", "--data", "market", "-o", "built.npy"];
    const { status, stderr } = await spawnCommand("osnet-verify", args, { cwd: folder.path });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(Buffer.from(await folder.read("reference.npy")).equals(await folder.read("built.npy"))).toBe(true);
  });

  it("writes features that rank takes as a reference, in one file or in shards", async () => {
    const embed = async (...args: readonly string[]): Promise<string> => {
      const { status, stdout, stderr } = await verify("embed", "model.onnx", "--data", "market", ...args);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      return stdout.toString();
    };
    expect(await embed("-o", "features.npy")).toContain("wrote features.npy: 58 × 24 features");
    await mkdir(folder.at("shards"));
    await embed("-o", "shards/1.safetensors", "--shard", "1/2");
    await embed("-o", "shards/2.safetensors", "--shard", "2/2");
    for (const reference of ["features.npy", "shards"]) {
      const { status, report } = await rank("model.onnx", "--reference", reference, "--data", "market");
      expect(status).toBe(0);
      expect(report.reference.backend).toBe("recorded");
      expect(report.candidates[0]?.parity.drift.max).toBeLessThan(1e-6);
    }
    const list = Buffer.from(await folder.read("features.txt"))
      .toString()
      .trimEnd()
      .split("\n");
    expect(list).toHaveLength(58);
    await writeFile(
      folder.at("short.npy"),
      encodeNpy({ dtype: "float32", shape: [1, 2], data: Float32Array.of(1, 2) }),
    );
    await writeFile(folder.at("short.txt"), `${list[0]}\n`);
    const refused = await verify("rank", "model.onnx", "--reference", "short.npy", "--data", "market");
    expect(refused.status).toBe(2);
    expect((await verify("embed", "model.onnx", "--data", "market", "-o", "features.npy")).status).toBe(2);
  });

  it("writes the pictures' size, which the reference is then run at; of an .npy, it is said not to be known", async () => {
    await writeFile(folder.at("small.onnx"), convert(tinyCheckpoint("block"), { size: SMALL }));
    const against = ["--reference", CHECKPOINT, "--data", "market"];
    for (const features of ["sized.npz", "plain.npy"]) {
      expect((await verify("embed", "small.onnx", "--data", "market", "-o", features)).status).toBe(0);
      const { status, stderr } = await verify("rank", features, ...against);
      expect(status, features).toBe(features === "sized.npz" ? 0 : 1);
      expect(stderr.includes("plain.npy does not say which size")).toBe(features === "plain.npy");
    }
  });

  it("goes on from its cache, also after an interruption in the middle of a row", async () => {
    const embed = async (out: string): Promise<string> => {
      const { status, stdout, stderr } = await verify(
        "embed",
        "model.onnx",
        "--data",
        "market",
        "-o",
        out,
        "--cache",
        "cache",
      );
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      return stdout.toString();
    };
    expect(await embed("first.npy")).not.toContain("from the cache");
    expect(await embed("second.npy")).toContain("58 from the cache");
    const [name = ""] = await readdir(folder.at("cache"));
    const whole = await folder.read(`cache/${name}`);
    const row = 32 + 4 * FEATURES + 8;
    await writeFile(folder.at(`cache/${name}`), whole.subarray(0, whole.length - 10 * row - row / 2));
    expect(await embed("third.npy")).toContain("47 from the cache");
    expect(await embed("fourth.npy")).toContain("58 from the cache");
    for (const other of ["second.npy", "third.npy", "fourth.npy"])
      expect(Buffer.from(await folder.read("first.npy")).equals(await folder.read(other))).toBe(true);
    // A value that changed, and a row that is another picture's, are computed again.
    const damaged = Uint8Array.from(whole);
    const first = damaged.indexOf(10) + 1;
    damaged[first + 40] = (damaged[first + 40] ?? 0) ^ 1;
    damaged.copyWithin(first + row, first + 2 * row, first + 2 * row + 32);
    for (const other of await readdir(folder.at("cache"))) await rm(folder.at(`cache/${other}`));
    await writeFile(folder.at(`cache/${name}`), damaged);
    expect(await embed("fifth.npy")).toContain("56 from the cache");
    expect(Buffer.from(await folder.read("first.npy")).equals(await folder.read("fifth.npy"))).toBe(true);
    // Features under another model's name.
    await writeFile(folder.at(`cache/${name}`), Buffer.from(whole).fill("0", 33, 38));
    expect(await embed("sixth.npy")).not.toContain("58 from the cache");
  });

  it("neither follows links in its cache nor waits for pipes", async () => {
    const args = ["embed", "model.onnx", "--data", "market", "--cache", "linked"];
    expect((await verify(...args, "-o", "linked-1.npy")).status).toBe(0);
    const [name = ""] = await readdir(folder.at("linked"));
    const precious = folder.at("precious.txt");
    await rename(folder.at(`linked/${name}`), precious);
    const before = await readFile(precious);
    await symlink(precious, folder.at(`linked/${name}`));
    execFileSync("mkfifo", [folder.at(`linked/${name.replace(".features", "-pipe.features")}`)]);
    const { status, stdout } = await verify(...args, "-o", "linked-2.npy");
    expect({ status, fromCache: stdout.toString().includes("from the cache") }).toEqual({
      status: 0,
      fromCache: false,
    });
    expect((await readFile(precious)).equals(before)).toBe(true);
    await symlink(folder.at("linked"), folder.at("other"));
    const refused = await verify(...args.with(-1, "other"), "-o", "linked-3.npy");
    expect(refused.status).toBe(2);
    expect(refused.stderr).toMatch(/found a link, expected a folder;/);
  });
});
