import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import type { Checkpoint } from "../../src/convert/open/checkpoint.js";
import { openModel } from "../../src/convert/open/open-file.js";
import type { NamedBytes } from "../../src/core/bytes.js";
import type { LayerOutput, RuntimeName } from "../../src/verify/backends/backend.js";
import { closeChromium, engineOf, RUNTIMES } from "../../src/verify/backends/registry.js";
import { modelCandidate } from "../../src/verify/candidate/model-candidate.js";
import { openVerification } from "../../src/verify/open.js";
import type { ParityReport } from "../../src/verify/outcome/report.js";
import { verify } from "../../src/verify/verify.js";
import { run } from "../cli/command.js";
import { FAMILIES, fixturePath, missing, readFixture, VARIED_FAMILIES } from "../fixtures.js";
import { browserMissing } from "../support/browser.js";
import { temporaryFolder } from "../support/folder.js";
import { convert, openFixture, openReference, SMALL } from "../support/osnet.js";
import { backendContract, verifyInOpen } from "../verify/backends/contract.js";
import { expectNearPyTorchOnAverage, openFamily } from "../verify/pytorch.js";

const absent = browserMissing();
const IN_CHROMIUM = RUNTIMES.filter((name) => name.startsWith("chromium:"));
const CHECKPOINT = fixturePath("osnet_x0_25.pth") ?? "";

/** Graphics on the processor, in IEEE float32, also where there is a card: the same everywhere. */
const FLAGS = "--use-angle=swiftshader --use-webgpu-adapter=swiftshader";
beforeEach(() => void vi.stubEnv("CHROME_FLAGS", FLAGS));
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

  for (const name of IN_CHROMIUM) backendContract(name);

  // Each Chromium runs all families.
  afterAll(() => Promise.all(IN_CHROMIUM.map(closeChromium)));

  describe.each(process.env.FAMILIES === "all" ? FAMILIES : VARIED_FAMILIES)(
    "%s against PyTorch",
    (family) => {
      const lacking = missing(`${family}.pth`, `${family}.64x32.npz`, `${family}.64x32.float64.npz`);

      // What runs in Node too is the same to the bit: families.test.ts has it.
      it.for(IN_CHROMIUM.filter((name) => !engineOf(name).where.includes("node")))(
        "%s: no farther than three times PyTorch's float32",
        async (name, context) => {
          if (lacking) return context.skip(lacking);
          const recorded = await openFamily(family);
          const { graph, stateDict } = recorded.checkpoint;
          const format = engineOf(name).runs;
          const { json, shards } = encodeTfjs(lowerToTfjs(graph, stateDict, { size: SMALL }));
          const file =
            format === "onnx"
              ? { name: "m.onnx", bytes: encodeOnnx(lowerToOnnx(graph, stateDict, { size: SMALL })) }
              : { name: "model.json", bytes: json, beside: shards };
          const party = { name: file.name, format };
          const candidate = modelCandidate(openModel(format, file), file, graph, party, { backend: name });
          expect(candidate.backend.name).toBe(name);
          await expectNearPyTorchOnAverage(candidate, recorded);
        },
      );
    },
  );

  describe("textures of half precision, as phones have them", () => {
    const name = "chromium:tfjs-webgl";
    // Flags are for a Chromium that starts, and this one is for these tests.
    beforeAll(() => closeChromium(name));
    afterAll(() => closeChromium(name));
    beforeEach(() => void vi.stubEnv("TFJS_FLAGS", "WEBGL_FORCE_F16_TEXTURES:true"));

    it.each(["osnet_x0_25", "osnet_ain_x0_25"])(
      "%s: every layer within bounds for that storage",
      async (family) => {
        const { passed, runtime, layers, output } = await verdictOn(
          tfjsOf(openFixture(family)),
          name,
          family,
        );
        expect(runtime?.storage).toBe("float16");
        expect(passed).toBe(true);
        expect(layers.length).toBeGreaterThan(300);
        // It is half precision: in float32 the embedding moves by a thousandth of that.
        expect(output?.relMax).toBeGreaterThan(1e-4);
      },
    );

    it("a gate of another stream is still found at its layer", async () => {
      const { passed, faults } = await verdictOn(tfjsOf(openFixture(), true), name, "osnet_x0_25");
      expect(passed).toBe(false);
      expect(faults.map(({ layer, kind }) => [layer, kind])).toContainEqual(["conv3.0.gate[1]", "numeric"]);
      expect(new Set(faults.map(({ layer }) => layer))).toEqual(new Set(["conv3.0.gate[1]"]));
    });
  });

  it("a browser that ends by itself is an error with its reason", async () => {
    const name = "chromium:onnxruntime-web";
    const folder = await temporaryFolder();
    vi.stubEnv("CHROME_FLAGS", `--user-data-dir=${folder.at("profile")}`);
    const checkpoint = openFixture();
    const verification = await openVerification(
      { name: "m.onnx", bytes: convert(checkpoint) },
      { name: "w.pth", bytes: readFixture("osnet_x0_25.pth") },
      { backend: name },
    );
    const { candidate } = verification;
    /** The browser, which has run the model as it is by then, is killed while it computes the layers. */
    async function* killed(images: typeof verification.images): AsyncGenerator<LayerOutput> {
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
    vi.stubEnv("CHROME_FLAGS", FLAGS);
    expect((await verify(verification)).passed).toBe(true);
  });

  describe("on the command line", () => {
    it("says which browser, card and driver ran the model", async () => {
      const folder = await temporaryFolder({ "m.onnx": convert(openFixture()) });
      const { status, stdout, stderr } = await run(
        "osnet-verify",
        ["m.onnx", CHECKPOINT, "--backend", "chromium:onnxruntime-web-webgpu", "--report", "r.json"],
        { cwd: folder.path },
      );
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(stdout.toString()).toMatch(
        /^m\.onnx in chromium:onnxruntime-web-webgpu, .*\nimages .*\nrun by Chrome\/[\d.]+; .*SwiftShader/,
      );
      const report = JSON.parse(readFileSync(folder.at("r.json"), "utf8"));
      expect(report.runtime).toEqual({
        browser: expect.stringMatching(/^Chrome\/\d/),
        gpu: expect.stringMatching(/SwiftShader driver/),
      });
    });

    it("says what is missing where there is no Chromium", async () => {
      vi.stubEnv("CHROME_PATH", "/nowhere/chrome");
      const folder = await temporaryFolder({ "m.onnx": convert(openFixture()) });
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
      const { json, shards } = encodeTfjs(
        lowerToTfjs(openFixture().graph, openFixture().stateDict, { size: SMALL }),
      );
      const folder = await temporaryFolder({
        "m.onnx": convert(openFixture()),
        "model.json": json,
        ...Object.fromEntries(shards),
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
      const folder = await temporaryFolder({ "m.onnx": convert(openFixture()) });
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

/** A checkpoint's graph model; crossed, with the first stream of a block gated as its third. */
function tfjsOf({ graph, stateDict }: Checkpoint, isCrossed = false): NamedBytes {
  const model = lowerToTfjs(graph, stateDict, { size: SMALL });
  const nodes = model.nodes.map((node) =>
    isCrossed && node.name === "conv3.0.gate-1"
      ? { ...node, inputs: node.inputs.map((input) => input.replace("gate-1", "gate-3")) }
      : node,
  );
  const { json, shards } = encodeTfjs({ ...model, nodes });
  return { name: "model.json", bytes: json, beside: shards };
}

async function verdictOn(file: NamedBytes, backend: RuntimeName, family: string): Promise<ParityReport> {
  const reference = openReference(openFixture(family), `${family}.pth`);
  return verifyInOpen(await openVerification(file, reference, { backend }));
}
