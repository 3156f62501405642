import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import type { LayerOutput } from "../../src/verify/backends/backend.js";
import { closeChromium, engineOf, RUNTIMES } from "../../src/verify/backends/registry.js";
import { openVerification } from "../../src/verify/open.js";
import { verify } from "../../src/verify/verify.js";
import { run } from "../cli/command.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { browserMissing, ON_PROCESSOR } from "../support/browser.js";
import { temporaryFolder } from "../support/folder.js";
import { convert, openReference, SMALL } from "../support/osnet.js";
import { tinyFile } from "../support/tiny-file.js";
import { backendContract } from "../verify/backends/contract.js";

const absent = browserMissing();
const IN_CHROMIUM = RUNTIMES.filter((name) => name.startsWith("chromium:"));
const SMALL_CHECKPOINT = tinyCheckpoint("block");
const CHECKPOINT = tinyFile("block");

beforeEach(() => void vi.stubEnv("CHROME_FLAGS", ON_PROCESSOR));
afterEach(() => void vi.unstubAllEnvs());

describe.skipIf(absent)(`in Chromium ${absent || ""}`, () => {
  it("runs every engine that runs in pages", () => {
    expect([...IN_CHROMIUM].sort()).toEqual([
      "chromium:onnxruntime-web",
      "chromium:onnxruntime-web-webgpu",
      "chromium:tfjs-cpu",
      "chromium:tfjs-wasm",
      "chromium:tfjs-webgl",
      "chromium:tfjs-webgpu",
    ]);
  });

  // Those on the graphics card are graphics.test.ts's.
  describe.each(IN_CHROMIUM.filter((name) => engineOf(name).where.includes("node")))("%s", (name) => {
    afterAll(() => closeChromium(name));
    backendContract(name);
  });

  it("a browser that ends by itself is an error with its reason", async () => {
    const name = "chromium:onnxruntime-web";
    const folder = await temporaryFolder();
    vi.stubEnv("CHROME_FLAGS", `--user-data-dir=${folder.at("profile")}`);
    const verification = await openVerification(
      { name: "m.onnx", bytes: convert(SMALL_CHECKPOINT) },
      openReference(SMALL_CHECKPOINT),
      { backend: name },
    );
    const { candidate } = verification;
    /** The browser is killed while it computes the layers again. */
    async function* killed(images: typeof verification.images): AsyncGenerator<LayerOutput> {
      for await (const { release } of candidate.backend.run(images)) release?.();
      const outputs = candidate.backend.run(images)[Symbol.asyncIterator]();
      const first = outputs.next();
      await new Promise((resolve) => setTimeout(resolve, 100));
      for (const id of processesOf(folder.at("profile"))) process.kill(id, "SIGKILL");
      yield (await first).value;
    }
    const backend = { ...candidate.backend, run: killed };
    const stopped = verify({ ...verification, candidate: { ...candidate, backend } });
    await expect(stopped).rejects.toThrow(/^chromium:onnxruntime-web: the (browser exited|page crashed)/);
    // The next run starts another.
    vi.stubEnv("CHROME_FLAGS", ON_PROCESSOR);
    expect((await verify(verification)).passed).toBe(true);
  });

  describe("on the command line", () => {
    const tfjsFiles = (): Readonly<Record<string, Uint8Array>> => {
      const { graph, stateDict } = SMALL_CHECKPOINT;
      const { json, shards } = encodeTfjs(lowerToTfjs(graph, stateDict, { size: SMALL }));
      return { "model.json": json, ...Object.fromEntries(shards) };
    };

    it("says which browser, card and driver ran the model", async () => {
      const folder = await temporaryFolder(tfjsFiles());
      const { status, stdout, stderr } = await run(
        "osnet-verify",
        ["model.json", CHECKPOINT, "--backend", "chromium:tfjs-webgpu", "--report", "r.json"],
        { cwd: folder.path },
      );
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(stdout.toString()).toMatch(
        /^model\.json in chromium:tfjs-webgpu, .*\nimages .*\nrun by Chrome\/[\d.]+; .*SwiftShader/,
      );
      const report = JSON.parse(readFileSync(folder.at("r.json"), "utf8"));
      expect(report.runtime).toEqual({
        browser: expect.stringMatching(/^Chrome\/\d/),
        gpu: expect.stringMatching(/SwiftShader driver/),
      });
    });

    it("says what is missing where there is no Chromium", async () => {
      vi.stubEnv("CHROME_PATH", "/nowhere/chrome");
      const folder = await temporaryFolder({ "m.onnx": convert(SMALL_CHECKPOINT) });
      const args = ["m.onnx", CHECKPOINT, "--backend", "chromium:onnxruntime-web"];
      const { status, stderr } = await run("osnet-verify", args, { cwd: folder.path });
      expect({ status, stderr }).toEqual({
        status: 2,
        stderr:
          "Chromium: is not installed, and is needed to run a model in a browser; install it (Debian: apt-get install chromium), or set CHROME_PATH to its executable.\n",
      });
    });

    it.each([
      ["m.onnx", "onnxruntime-web-webgpu"],
      ["model.json", "tfjs-webgpu"],
      ["model.json", "tfjs-webgl"],
    ] as const)("%s: says so where Chromium has no graphics adapter for %s", async (model, engine) => {
      const name = `chromium:${engine}` as const;
      // One that has an adapter may still run.
      await closeChromium(name);
      vi.stubEnv("CHROME_FLAGS", "--disable-gpu --disable-software-rasterizer");
      const folder = await temporaryFolder({
        "m.onnx": convert(SMALL_CHECKPOINT),
        ...tfjsFiles(),
      });
      const { status, stderr } = await run("osnet-verify", [model, CHECKPOINT, "--backend", name], {
        cwd: folder.path,
      });
      expect({ status, stderr }).toEqual({
        status: 2,
        stderr: `${name}: no GPU is available; run it on a machine with one, or use the processor: CHROME_FLAGS="--use-angle=swiftshader --use-webgpu-adapter=swiftshader".\n`,
      });
    });

    it("leaves no Chromium running when it is killed", async () => {
      const folder = await temporaryFolder({ "m.onnx": convert(SMALL_CHECKPOINT) });
      const script = new URL("../../dist/bin/osnet-verify.js", import.meta.url).pathname;
      const profile = folder.at("profile");
      const child: ChildProcess = spawn(
        process.execPath,
        [script, "m.onnx", CHECKPOINT, "--backend", "chromium:onnxruntime-web"],
        {
          cwd: folder.path,
          env: { ...process.env, CHROME_FLAGS: `--user-data-dir=${profile}` },
          stdio: "ignore",
        },
      );
      // Chromium's processes name the folder of their profile.
      await vi.waitUntil(() => existsSync(profile) && processesOf(profile).length > 0, PATIENCE);
      child.kill("SIGKILL");
      await vi.waitUntil(() => processesOf(profile).length === 0, PATIENCE);
    });
  });
});

const PATIENCE = { timeout: 5 * 60_000, interval: 100 } as const;

/** The processes that have this text among their arguments, as Linux lists them. */
function processesOf(text: string): readonly number[] {
  return readdirSync("/proc").flatMap((id) => {
    if (!/^\d+$/.test(id)) return [];
    try {
      return readFileSync(`/proc/${id}/cmdline`, "utf8").includes(text) ? [Number(id)] : [];
    } catch {
      return [];
    }
  });
}
