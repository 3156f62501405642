import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import type { Checkpoint } from "../../src/convert/open/checkpoint.js";
import { openModel } from "../../src/convert/open/open-file.js";
import type { NamedBytes } from "../../src/core/bytes.js";
import type { RuntimeName } from "../../src/verify/backends/backend.js";
import { closeChromium, engineOf, RUNTIMES } from "../../src/verify/backends/registry.js";
import { modelCandidate } from "../../src/verify/candidate/model-candidate.js";
import { openVerification } from "../../src/verify/open.js";
import type { ParityReport } from "../../src/verify/outcome/report.js";
import { ALL, FAMILIES, missing, VARIED_FAMILIES } from "../fixtures.js";
import { type TinyFamily, tinyCheckpoint } from "../mutation/families.js";
import { browserMissing, ON_PROCESSOR } from "../support/browser.js";
import { openReference, SMALL } from "../support/osnet.js";
import { backendContract, verifyInOpen } from "../verify/backends/contract.js";
import { expectNearPyTorchOnAverage, openFamily } from "../verify/pytorch.js";

const absent = browserMissing();

/** Those that run on a graphics card, here on SwiftShader; the others are backends.test.ts's. */
const ENGINES = RUNTIMES.filter((name) => !engineOf(name).where.includes("node"));

beforeEach(() => void vi.stubEnv("CHROME_FLAGS", ON_PROCESSOR));
afterEach(() => void vi.unstubAllEnvs());

describe.skipIf(absent)(`on the graphics card, in Chromium ${absent || ""}`, () => {
  for (const name of ENGINES) backendContract(name);

  // Each Chromium runs all that is its engine's, since it has compiled the shaders.
  afterAll(() => Promise.all(ENGINES.map(closeChromium)));

  // One each of the families that have every kind of layer. chromium.test.ts runs them in WebGL.
  const RUNS = ENGINES.flatMap((name, turn) => {
    const some = name === "chromium:tfjs-webgl" ? [] : VARIED_FAMILIES.slice(turn, turn + 1);
    return (ALL ? FAMILIES : some).map((family) => [name, family] as const);
  });

  it.for(RUNS)("%s, %s: no farther than three times PyTorch's float32", async ([name, family], context) => {
    const lacking = missing(`${family}.pth`, `${family}.64x32.npz`, `${family}.64x32.float64.npz`);
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
  });

  describe("textures of half precision, as phones have them", () => {
    const name = "chromium:tfjs-webgl";
    // Flags are for a Chromium that starts, and this one is for these tests.
    beforeAll(() => closeChromium(name));
    afterAll(() => closeChromium(name));
    beforeEach(() => void vi.stubEnv("TFJS_FLAGS", "WEBGL_FORCE_F16_TEXTURES:true"));

    it.each(ALL ? (["osnet", "ain"] as const) : (["ain"] as const))(
      "%s: every layer within bounds for that storage",
      async (family) => {
        const { passed, runtime, layers, output } = await verdictOn(
          tfjsOf(tinyCheckpoint(family)),
          name,
          family,
        );
        expect(runtime?.storage).toBe("float16");
        expect(passed).toBe(true);
        expect(layers.length).toBeGreaterThan(100);
        // It is half precision: in float32 the embedding moves by a thousandth of that.
        expect(output?.relMax).toBeGreaterThan(1e-4);
      },
    );

    it("a gate of another stream is still found at its layer", async () => {
      const { passed, faults } = await verdictOn(tfjsOf(tinyCheckpoint("ain"), true), name, "ain");
      expect(passed).toBe(false);
      expect(faults.map(({ layer, kind }) => [layer, kind])).toContainEqual([CROSSED, "numeric"]);
      expect(new Set(faults.map(({ layer }) => layer))).toEqual(new Set([CROSSED]));
    });
  });
});

const CROSSED = "conv2.1.gate[1]";

/** A checkpoint's graph model; crossed, with the first stream of a block gated as its third. */
function tfjsOf({ graph, stateDict }: Checkpoint, isCrossed = false): NamedBytes {
  const model = lowerToTfjs(graph, stateDict, { size: SMALL });
  const nodes = model.nodes.map((node) =>
    isCrossed && node.name === "conv2.1.gate-1"
      ? { ...node, inputs: node.inputs.map((input) => input.replace("gate-1", "gate-3")) }
      : node,
  );
  const { json, shards } = encodeTfjs({ ...model, nodes });
  return { name: "model.json", bytes: json, beside: shards };
}

async function verdictOn(file: NamedBytes, backend: RuntimeName, family: TinyFamily): Promise<ParityReport> {
  const reference = openReference(tinyCheckpoint(family));
  return verifyInOpen(await openVerification(file, reference, { backend }));
}
