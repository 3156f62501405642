import { execFileSync } from "node:child_process";
import { mkdir, symlink, truncate } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { expand, variant } from "../../src/arch/index.js";
import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import { seededStateDict } from "../../src/convert/seeded-weights.js";
import { expectAffordable } from "../../src/verify/inputs/images.js";
import { fixturePath } from "../fixtures.js";
import { temporaryFolder } from "../support/folder.js";
import { npyOf } from "../support/npy.js";
import { openFixture } from "../support/osnet.js";
import { encodePng } from "../support/png.js";
import { run } from "./command.js";

const CHECKPOINT = JSON.stringify(fixturePath("osnet_x0_25.pth"));
const MODELS = `models: { m: { checkpoint: ${CHECKPOINT} } }`;

/** Runs what must be refused at once, by the processor's time, which no load of the machine changes, and gives what was said. */
async function quickly(args: readonly string[], cwd: string): Promise<string> {
  const start = process.cpuUsage();
  const { status, stdout, stderr } = await run("osnet-verify", args, { cwd });
  expect(status).toBe(2);
  const { user, system } = process.cpuUsage(start);
  expect((user + system) / 1e6).toBeLessThan(20);
  return stdout.toString() + stderr;
}

describe("sizes that a file names", () => {
  it("a run has so many pixels, whatever names its batch and size", async () => {
    expect(() => expectAffordable(128, 256, 128)).not.toThrow();
    for (const [batch, height, width] of [
      [1e8, 64, 32],
      [20_000, 256, 128],
      [1, 9999, 9999],
    ] as const)
      expect(() => expectAffordable(batch, height, width)).toThrow(
        expect.objectContaining({ name: "InputError", code: "argument" }),
      );
    const folder = await temporaryFolder({
      "a.yaml": `${MODELS}\ncandidates: { c: { convert: onnx, options: { size: 9999x9999, batch: 1024 } } }`,
      "b.yaml": `${MODELS}\ndefaults: { size: 2048x2048, batch: 64 }\ncandidates: { c: { convert: tfjs-graph } }`,
    });
    for (const name of ["a.yaml", "b.yaml"])
      expect(await quickly(["suite", name, "--report-dir", "r"], folder.path)).toContain("pixels in a run");
  });

  it("embeddings, chosen images and arrays likewise", async () => {
    const { graph, stateDict } = openFixture();
    const header = (images: number): Uint8Array =>
      npyOf(`{'descr': '<f4', 'fortran_order': False, 'shape': (${images}, 3, 64, 32), }`, new Uint8Array());
    const options = { batch: 1e8, size: { height: 64, width: 32 } };
    const folder = await temporaryFolder({
      "m.onnx": encodeOnnx(lowerToOnnx(graph, stateDict, options)),
      "any.onnx": encodeOnnx(lowerToOnnx(graph, stateDict)),
      "a.png": encodePng(8, 16, new Uint8Array(3 * 8 * 16)),
      // Images [80000, 3, 64, 32] of zeros, of which the disk keeps nothing.
      "huge.npy": header(80_000),
      "many.npy": header(2049),
    });
    for (const [name, images] of [
      ["huge.npy", 80_000],
      ["many.npy", 2049],
    ] as const)
      await truncate(folder.at(name), header(images).length + images * 3 * 64 * 32 * 4);
    const checkpoint = JSON.parse(CHECKPOINT) as string;
    for (const args of [
      ["embed", "m.onnx", "--data", ".", "-o", "f.npy"],
      ["rank", "m.onnx", "--reference", checkpoint, "--data", "."],
      ["m.onnx", checkpoint, "--input", "auto"],
      ["any.onnx", checkpoint, "--input", "many.npy"],
    ])
      expect(await quickly(args, folder.path)).toContain("pixels in a run");
    expect(await quickly(["any.onnx", checkpoint, "--input", "huge.npy"], folder.path)).toBe(
      "huge.npy: found 1966080128 bytes, expected at most 67108864; use a smaller file.\n",
    );
  });

  it("architectures", () => {
    const spec = variant("osnet_x0_25");
    const [stage] = spec.stages;
    const [block] = stage?.blocks ?? [];
    if (!stage || !block) throw new Error("a variant without blocks");
    const wide = { ...spec, embedding: [1e6, 1e6] };
    for (const bad of [
      { ...spec, embedding: new Array<number>(5000).fill(8) },
      { ...spec, stages: new Array(300_000).fill(stage) },
      { ...spec, stages: [{ ...stage, blocks: new Array(300_000).fill(block) }] },
    ])
      expect(() => expand(bad)).toThrow(expect.objectContaining({ code: "spec" }));
    expect(() => seededStateDict(expand(wide), 0)).toThrow(expect.objectContaining({ code: "spec" }));
  });

  it.each<[name: string, text: string, says: string]>([
    [
      "40,000 keys",
      `models:\n${Array.from({ length: 40_000 }, (_, i) => `  k${i}: 1`).join("\n")}`,
      "40000 lines",
    ],
    ["depth", `models: ${"[".repeat(50_000)}`, "nested too deeply"],
    [
      "3,000 mistakes",
      `models:\n${Array.from({ length: 3000 }, (_, i) => `  k${i}: 1`).join("\n")}`,
      "and 2981 more",
    ],
    ["keys that are lists", "? [a, b]\n: 1\n", "suite of models"],
  ])("a suite: %s", async (_, text, says) => {
    const folder = await temporaryFolder({ "s.yaml": text });
    const said = await quickly(["suite", "s.yaml", "--report-dir", "r"], folder.path);
    expect(said).toContain(says);
    expect(said).not.toMatch(/call stack|Warning/i);
    expect(said.split("\n").length).toBeLessThan(25);
    expect(await folder.names()).toEqual(["s.yaml"]);
  });

  it("a suite's paths are regular files, and its folders are not links", async () => {
    const folder = await temporaryFolder({
      "s.yaml": "models: { m: { checkpoint: '-' } }\ncandidates: { c: { convert: onnx } }",
      "f.yaml": "models: { m: { checkpoint: fifo } }\ncandidates: { c: { convert: onnx } }",
    });
    if (process.platform !== "win32") execFileSync("mkfifo", [folder.at("fifo")]);
    expect(await quickly(["suite", "s.yaml", "--report-dir", "r"], folder.path)).toMatch(/no such file/);
    expect(await quickly(["suite", "f.yaml", "--report-dir", "r"], folder.path)).toMatch(
      /a pipe or a device|no such/,
    );
    await mkdir(folder.at("elsewhere"));
    for (const name of ["entries", ".cache"]) {
      await mkdir(folder.at(`with${name}`));
      await symlink(folder.at("elsewhere"), folder.at(`with${name}/${name}`));
      expect(await quickly(["suite", "s.yaml", "--report-dir", `with${name}`], folder.path)).toContain(
        "a link",
      );
    }
  });
});
