import * as tf from "@tensorflow/tfjs-core";
import { describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { decodeTfjs, encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import {
  QUANTIZED_DTYPES,
  type QuantizedDType,
  type TfjsModel,
  type TfjsWeight,
} from "../../../src/convert/formats/tfjs/model.js";
import type { RealTensor, Tensor } from "../../../src/core/tensor.js";
import { openVerification } from "../../../src/verify/open.js";
import { measure } from "../../../src/verify/outcome/metrics.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { evaluate } from "../../../src/verify/reference/evaluate.js";
import { verify } from "../../../src/verify/verify.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { openReference, SMALL } from "../../support/osnet.js";

const checkpoint = tinyCheckpoint("osnet");
const { graph, stateDict } = checkpoint;
const REFERENCE = openReference(checkpoint);

async function open(model: TfjsModel): ReturnType<typeof openVerification> {
  const { json, shards } = encodeTfjs(model);
  // As files are read: a Buffer's slice() shares memory.
  const buffers = new Map(Array.from(shards, ([name, bytes]) => [name, Buffer.from(bytes)]));
  return openVerification({ name: "model", bytes: json, beside: buffers }, REFERENCE);
}

const reportOf = async (model: TfjsModel): Promise<ParityReport> => verify(await open(model));

const FORMATS = {
  "graph, folded": (quantize: QuantizedDType) => lowerToTfjs(graph, stateDict, { size: SMALL, quantize }),
  "layers, unfolded": (quantize: QuantizedDType) =>
    lowerToTfjsLayers(graph, stateDict, { size: SMALL, quantize, fold: false }),
} as const;

/** What of the embedding each storage type leaves in this checkpoint, at the least. */
const LEAST_COSINE = { float16: 0.99999, uint16: 0.999999, uint8: 0.98 } as const;

describe.each(Object.entries(FORMATS))("quantised weights: %s", (_name, lower) => {
  it.each(QUANTIZED_DTYPES)(
    "%s: layers agree on what is stored, and the loss is told apart",
    async (dtype) => {
      const { passed, faults, weights, quantization, output } = await reportOf(lower(dtype));
      expect({ passed, faults }).toEqual({ passed: true, faults: [] });
      expect((weights?.identical ?? 0) + (weights?.rounded ?? 0)).toBe(weights?.compared);
      expect(weights?.rounded).toBeGreaterThan(0);
      expect(quantization).toMatchObject({ dtypes: [dtype], tensors: 48 });
      expect(quantization?.cosine).toBeGreaterThan(LEAST_COSINE[dtype]);
      // The runtime's own rounding is a hundredth of what storing in fewer bits costs, or less.
      expect(output?.relMax).toBeLessThan((quantization?.relMax ?? 0) / 50);
    },
  );
});

describe("quantised weights", () => {
  it.each(QUANTIZED_DTYPES)("%s: tfjs reads the numbers that we do", (dtype) => {
    const files = encodeTfjs(lowerToTfjs(graph, stateDict, { quantize: dtype }));
    const { weightsManifest } = JSON.parse(new TextDecoder().decode(files.json)) as tf.io.ModelJSON;
    const [bytes] = files.shards.values();
    const decoded = tf.io.decodeWeights(
      new Uint8Array(bytes ?? []).buffer,
      weightsManifest.flatMap((group) => group.weights),
    );
    const { weights } = decodeTfjs(files, { subject: "model" });
    expect(Object.keys(decoded)).toEqual([...weights.keys()]);
    for (const [name, { tensor }] of weights) expect(decoded[name]?.dataSync(), name).toEqual(tensor.data);
  });

  it("cost what the two networks differ by", async () => {
    const verification = await open(FORMATS["graph, folded"]("uint8"));
    const { quantization } = await verify(verification);
    const [plain] = (await verification.candidate.program?.load().run(verification.images)) ?? [];
    let original: RealTensor | undefined;
    for (const { name, tensor } of evaluate(graph, stateDict, verification.images))
      if (name === "fc.2") original = tensor;
    const { maxAbs, relMax, cosine } = measure(original as RealTensor, plain as RealTensor);
    expect(quantization).toMatchObject({ maxAbs, relMax, cosine });
  });

  /** The model with one weight another. */
  const changed = (name: string, change: (weight: TfjsWeight) => TfjsWeight): TfjsModel => {
    const model = FORMATS["graph, folded"]("uint8");
    const weight = model.weights.get(name);
    if (!weight) throw new Error(`no ${name}`);
    return { ...model, weights: new Map(model.weights).set(name, change(weight)) };
  };

  it("that are one step off are a fault of their layer", async () => {
    const model = changed("conv2.0.gate.fc2.weight", ({ tensor, stored }) => {
      const data = Float32Array.from(tensor.data as Float32Array);
      data[2] = (data[2] ?? 0) + (stored && "scale" in stored ? stored.scale : 0);
      return { tensor: { ...tensor, data } as Tensor<"float32">, ...(stored ? { stored } : {}) };
    });
    const { passed, faults } = await reportOf(model);
    expect(passed).toBe(false);
    expect([...new Set(faults.map(({ kind }) => kind))]).toEqual(["weights"]);
    expect(faults[0]?.layer).toBe("conv2.0.gate[1].fc2");
    expect(faults[0]?.explanation).toMatch(/1 of \d+ values differ/);
  });

  /** The numbers that a file of these steps gives back for those of the checkpoint. */
  const restored = (
    { tensor }: TfjsWeight,
    stored: { readonly min: number; readonly scale: number },
    round: (steps: number) => number = Math.round,
  ): TfjsWeight => {
    const numbers = Float32Array.from(tensor.data as Float32Array, (value) => {
      const steps = Math.min(255, Math.max(0, round((value - stored.min) / stored.scale)));
      return steps * stored.scale + stored.min;
    });
    return {
      tensor: { ...tensor, data: numbers } as Tensor<"float32">,
      stored: { dtype: "uint8", ...stored },
    };
  };

  it("in ranges that end at zero, all of them: one fault", async () => {
    const { weights, ...model } = lowerToTfjs(graph, stateDict, { size: SMALL });
    const clipped = new Map(
      Array.from(weights, ([name, weight]) => {
        const values = weight.tensor.data as Float32Array;
        const scale = (Math.max(...values) - Math.min(...values)) / 255;
        return [
          name,
          name.endsWith("weight") && values.length > 1 ? restored(weight, { min: 0, scale }) : weight,
        ];
      }),
    );
    const { faults } = await reportOf({ ...model, weights: clipped });
    expect(faults).toMatchObject([
      { kind: "weights", explanation: expect.stringContaining("ranges that end before their values do") },
    ]);
  });

  describe.each(["conv2.0.gate.fc2.weight", "fc.1.folded.weight"])("%s", (name) => {
    const plain = lowerToTfjs(graph, stateDict, { size: SMALL }).weights.get(name);
    if (!plain) throw new Error(`no ${name}`);
    const values = plain.tensor.data as Float32Array;
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const step = (most - least) / 255;
    it.each([
      ["that end at zero", restored(plain, { min: 0, scale: step }), /stored from 0\.00 to .*, expected -/],
      [
        "of a tenth of the range",
        restored(plain, { min: least, scale: step / 10 }),
        /stored from .*, expected/,
      ],
      ["that are rounded down", restored(plain, { min: least, scale: step }, Math.floor), /values differ/],
      [
        "that are rounded to every third step",
        restored(plain, { min: least, scale: step }, (steps) => 3 * Math.round(steps / 3)),
        /values differ/,
      ],
      [
        "that are one step more",
        restored(plain, { min: least, scale: step }, (n) => Math.round(n) + 1),
        /values differ/,
      ],
      ["of a single number", restored(plain, { min: most, scale: 1e-9 }), /stored from .*, expected/],
    ])("stored in steps %s: a fault of its layer", async (_kind, weight, explanation) => {
      const { faults } = await reportOf(changed(name, () => weight));
      expect(faults[0]).toMatchObject({
        layer: name.startsWith("fc") ? "fc.1" : "conv2.0.gate[1].fc2",
        kind: "weights",
      });
      expect(faults[0]?.explanation).toMatch(explanation);
    });

    it("stored from its own least number on, without a step at zero: passes", async () => {
      const { passed, faults } = await reportOf(
        changed(name, () => restored(plain, { min: least, scale: step })),
      );
      expect({ passed, faults }).toEqual({ passed: true, faults: [] });
    });
  });

  it("in wider steps than their range takes are one too", async () => {
    const model = changed("fc.1.folded.weight", ({ tensor, stored }) => {
      if (!stored || !("scale" in stored)) throw new Error("not stored in steps");
      return { tensor, stored: { ...stored, min: 2 * stored.min, scale: 2 * stored.scale } };
    });
    const { faults } = await reportOf(model);
    expect(faults[0]).toMatchObject({ layer: "fc.1", kind: "weights" });
    expect(faults[0]?.explanation).toMatch(/stored in steps that are larger than its range needs/);
  });
});
