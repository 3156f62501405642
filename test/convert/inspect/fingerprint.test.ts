import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { expand, type LayerGraph, parametersOf, variant } from "../../../src/arch/index.js";
import { fingerprintWeights } from "../../../src/convert/inspect/inspection.js";
import { identifyCheckpoint } from "../../../src/convert/open/checkpoint.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { toFloat64 } from "../../../src/core/tensor-cast.js";
import { fixturePath, missing, readFixture } from "../../fixtures.js";
import { openFixture, withTensor, withValues } from "../../support/osnet.js";

const { graph, stateDict } = openFixture();
const FINGERPRINT = await fingerprintWeights(graph, stateDict);

async function fingerprintOf(name: string): Promise<string> {
  const checkpoint = identifyCheckpoint(readFixture(name), { subject: name });
  return fingerprintWeights(checkpoint.graph, checkpoint.stateDict);
}

/** The scheme as its documentation puts it, by other means. */
function definition(network: LayerGraph, weights: StateDict): string {
  const hash = createHash("sha256").update("osnet-weights/1\n");
  for (const { path, shape, optional } of parametersOf(network)) {
    const tensor = weights.get(path);
    if (!tensor || optional || path.startsWith("classifier.")) continue;
    const bytes = Buffer.concat(
      Array.from(toFloat64(tensor, path).data, (value) => {
        const word = Buffer.alloc(8);
        word.writeDoubleLE(value);
        return word;
      }),
    );
    const digest = createHash("sha256").update(bytes).digest("hex");
    hash.update(`${path} [${shape.join(", ")}] ${digest}\n`);
  }
  return hash.digest("hex");
}

describe("fingerprintWeights", () => {
  it("is what its documentation says", async () => {
    expect(FINGERPRINT).toBe(definition(graph, stateDict));
    expect(FINGERPRINT).toBe("1b775044290ebf1eaf1773e29d2bf1d53b34ea7bfb938a69ed7d4bae81f4516a");
  });

  it("does not depend on the order of keys, the classifier, heads or counters", async () => {
    const other = new Map(
      [...stateDict]
        .reverse()
        .filter(([path]) => !path.startsWith("classifier.") && !path.endsWith(".num_batches_tracked")),
    ).set("bottleneck.weight", { dtype: "float32", shape: [1], data: new Float32Array(1) });
    const headless = expand({ ...variant("osnet_x0_25"), head: null });
    expect(await fingerprintWeights(headless, other)).toBe(FINGERPRINT);
  });

  it("depends on every value and on its sign, zero's too", async () => {
    const zero = withTensor(stateDict, "conv1.conv.weight", (tensor) => withValues(tensor, { 7: 0 }));
    const minus = withTensor(stateDict, "conv1.conv.weight", (tensor) => withValues(tensor, { 7: -0 }));
    const prints = [stateDict, zero, minus].map((weights) => fingerprintWeights(graph, weights));
    expect(new Set(await Promise.all(prints)).size).toBe(3);
  });

  it("takes every NaN for the same", async () => {
    const [quiet, odd] = [0x7fc00000, 0xffc12345].map((bits) =>
      withTensor(stateDict, "fc.0.bias", (tensor) => {
        const data = Float32Array.from(tensor.data as Float32Array);
        new Uint32Array(data.buffer)[7] = bits;
        return { dtype: "float32", shape: tensor.shape, data };
      }),
    );
    expect(await fingerprintWeights(graph, quiet ?? stateDict)).toBe(
      await fingerprintWeights(graph, odd ?? stateDict),
    );
  });

  const folder = fixturePath("encodings");
  describe.skipIf(folder === undefined)(
    `the encodings of one network (${missing("encodings") || "all there"})`,
    () => {
      const names = folder === undefined ? [] : readdirSync(folder);
      const rounded = new Set(["half.pth", "bfloat16.pth"]);

      it.each(names.filter((name) => !rounded.has(name)))("%s has the network's", async (name) => {
        expect(await fingerprintOf(`encodings/${name}`)).toBe(FINGERPRINT);
      });

      it("half and bfloat16 copies have their own", async () => {
        const prints = await Promise.all(
          ["osnet_x0_25.pth", "encodings/half.pth", "encodings/bfloat16.pth"].map(fingerprintOf),
        );
        expect(new Set(prints).size).toBe(3);
      });
    },
  );
});
