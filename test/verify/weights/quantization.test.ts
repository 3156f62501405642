import * as tf from "@tensorflow/tfjs-core";
import { describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { decodeTfjs, encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import { roundToStored } from "../../../src/convert/formats/tfjs/manifest.js";
import {
  QUANTIZED_DTYPES,
  type QuantizedDType,
  type TfjsModel,
  type TfjsNode,
  type TfjsQuantization,
  type TfjsWeight,
} from "../../../src/convert/formats/tfjs/model.js";
import type { SourceFile } from "../../../src/convert/open/open-file.js";
import type { RealTensor, Tensor } from "../../../src/core/tensor.js";
import { openVerification } from "../../../src/verify/open.js";
import { measure } from "../../../src/verify/outcome/metrics.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { evaluate } from "../../../src/verify/reference/evaluate.js";
import { verify } from "../../../src/verify/verify.js";
import { storedWithin } from "../../../src/verify/weights/expected.js";
import { anonymous } from "../../convert/import/tfjs/models.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { convert, openReference, SMALL } from "../../support/osnet.js";

const checkpoint = tinyCheckpoint("block");
const { graph, stateDict } = checkpoint;
const REFERENCE = openReference(checkpoint);

async function open(
  model: TfjsModel,
  reference: SourceFile = REFERENCE,
): ReturnType<typeof openVerification> {
  const { json, shards } = encodeTfjs(model);
  // As files are read: a Buffer's slice() shares memory.
  const buffers = new Map(Array.from(shards, ([name, bytes]) => [name, Buffer.from(bytes)]));
  return openVerification({ name: "model", bytes: json, beside: buffers }, reference);
}

const reportOf = async (model: TfjsModel): Promise<ParityReport> => verify(await open(model));

const FORMATS = {
  "graph, folded": (quantize: QuantizedDType) => lowerToTfjs(graph, stateDict, { size: SMALL, quantize }),
  "layers, unfolded": (quantize: QuantizedDType) =>
    lowerToTfjsLayers(graph, stateDict, { size: SMALL, quantize, fold: false }),
} as const;

/** What of the embedding each storage type leaves in this checkpoint, at the least. */
const MIN_COSINE = { float16: 0.99999, uint16: 0.999999, uint8: 0.98 } as const;

describe.each(Object.entries(FORMATS))("quantised weights: %s", (_name, lower) => {
  it.each(QUANTIZED_DTYPES)(
    "%s: layers agree on what is stored, and the loss is told apart",
    async (dtype) => {
      const { passed, faults, weights, quantization, output } = await reportOf(lower(dtype));
      expect({ passed, faults }).toEqual({ passed: true, faults: [] });
      expect((weights?.identical ?? 0) + (weights?.rounded ?? 0)).toBe(weights?.compared);
      expect(weights?.rounded).toBeGreaterThan(0);
      expect(quantization).toMatchObject({ dtypes: [dtype], tensors: 21 });
      expect(quantization?.cosine).toBeGreaterThan(MIN_COSINE[dtype]);
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

  it("are judged by themselves against a model of the original ones, too", async () => {
    const reference = { name: "float.onnx", bytes: convert(checkpoint, { size: SMALL }) };
    const report = await verify(await open(FORMATS["graph, folded"]("uint8"), reference));
    expect(report).toMatchObject({ passed: true, faults: [], quantization: { dtypes: ["uint8"] } });
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

  it("that are infinite in float16 are within no rounding", async () => {
    const model = FORMATS["graph, folded"]("float16");
    const [name = "", weight] = [...model.weights].find(([path]) => /conv2b.*bias$/.test(path)) ?? [];
    if (!weight) throw new Error("no folded bias");
    const data = Float32Array.from(weight.tensor.data as Float32Array, (value, at) =>
      at === 0 ? -Infinity : value,
    );
    const tensor = { ...weight.tensor, data } as Tensor<"float32">;
    const { faults } = await reportOf({
      ...model,
      weights: new Map(model.weights).set(name, { ...weight, tensor }),
    });
    expect(faults[0]).toMatchObject({ kind: "weights", explanation: expect.stringContaining("1 of ") });
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
      { kind: "weights", explanation: expect.stringContaining("ranges that do not cover their values") },
    ]);
  });

  it("that are all equal have one number, from whatever far one it is computed", () => {
    const far = { dtype: "uint8", min: -(2 ** 30), scale: 2 ** 30 + 50 } as const;
    expect(storedWithin(Float32Array.of(1.25), far)).toBeLessThan(1e-6);
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
      [
        "that start at another number",
        restored(plain, { min: least - 0.3 * step, scale: step }),
        /stored from .*, expected/,
      ],
      [
        "that are narrower",
        restored(plain, { min: least, scale: 0.9985 * step }),
        /stored from .*, expected/,
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
    expect(faults[0]?.explanation).toMatch(/stored in steps that are larger than its range requires/);
  });
});

describe("a linear layer whose batch norm is a product and a sum, each constant quantised by itself, as TensorFlow's converter writes it", () => {
  /** A weight in fewer bits: its own steps over its own range, or steps of this width. */
  function storedIn(
    dtype: QuantizedDType,
    data: Float32Array,
    shape: readonly number[],
    scale?: number,
  ): TfjsWeight {
    const [least, most] = [Math.min(...data), Math.max(...data)];
    const levels = dtype === "uint8" ? 255 : 65535;
    const stored: TfjsQuantization =
      dtype === "float16" ? { dtype } : { dtype, min: least, scale: scale ?? (most - least) / levels };
    const tensor: Tensor<"float32"> = { dtype: "float32", shape, data };
    return { tensor: roundToStored(tensor, stored), stored };
  }

  /** @param split by channel, what the weights are multiplied with, and the factors divided by */
  function written(
    store: (name: "w" | "s" | "t", data: Float32Array, shape: readonly number[]) => TfjsWeight,
    split: (channel: number) => number = () => 1,
  ): TfjsModel {
    const model = lowerToTfjs(graph, stateDict, { size: SMALL, fuse: false });
    const read = (path: string): Float32Array => stateDict.get(path)?.data as Float32Array;
    const [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map((name) =>
      read(`fc.1.${name}`),
    ) as [Float32Array, Float32Array, Float32Array, Float32Array];
    const factors = gamma.map((value, at) => value / Math.sqrt((variance[at] ?? 0) + 1e-5));
    const own = read("fc.0.weight");
    const [rows = 1, columns = 1] = stateDict.get("fc.0.weight")?.shape ?? [];
    const bias = read("fc.0.bias");
    const shifts = factors.map(
      (factor, at) => ((bias[at] ?? 0) - (mean[at] ?? 0)) * factor + (beta[at] ?? 0),
    );
    // TensorFlow's matrices are [in, out].
    const matrix = Float32Array.from(
      { length: own.length },
      (_, at) => (own[(at % rows) * columns + Math.floor(at / rows)] ?? 0) * split(at % rows),
    );
    const weights = new Map(model.weights);
    weights.set("w", store("w", matrix, [columns, rows]));
    const scaled = factors.map((factor, at) => factor / split(at));
    weights.set("s", store("s", scaled, [rows]));
    weights.set("t", store("t", shifts, [rows]));
    const constant = model.nodes.find(({ name }) => name === "fc.1.folded.bias");
    const product = model.nodes.find(({ name }) => name === "fc.1/product");
    if (!constant || !product) throw new Error("no fc.1");
    const arithmetic = (name: string, op: string, inputs: readonly string[]): TfjsNode => ({
      name,
      op,
      inputs,
      attributes: new Map([["T", { type: "dtype", value: "DT_FLOAT" }]]),
    });
    const nodes = model.nodes.flatMap((node): readonly TfjsNode[] => {
      if (node.name === "fc.1/product")
        return [
          { ...product, name: "product", inputs: [product.inputs[0] ?? "", "w"] },
          arithmetic("scaled", "Mul", ["product", "s"]),
        ];
      return node.name === "fc.1" ? [arithmetic("fc.1", "AddV2", ["scaled", "t"])] : [node];
    });
    const constants = ["w", "s", "t"].map((name) => ({ ...constant, name }));
    return anonymous({ ...model, weights, nodes: [...constants, ...nodes] });
  }

  const plain: Parameters<typeof written>[0] = (_, data, shape) => ({
    tensor: { dtype: "float32", shape, data },
  });

  const quantised: typeof plain = (_, data, shape) => storedIn("uint8", data, shape);

  it.each(QUANTIZED_DTYPES)("agrees: %s", async (dtype) => {
    const { faults, passed } = await reportOf(written((_, ...values) => storedIn(dtype, ...values)));
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
  });

  it("has the factors of the model that it was quantised from", async () => {
    const file = (store: typeof plain): SourceFile => {
      const { json, shards } = encodeTfjs(written(store));
      return { name: "model", bytes: json, beside: shards };
    };
    const { faults, weights } = await verify(await openVerification(file(quantised), file(plain)));
    expect(faults.filter(({ kind }) => kind === "weights")).toEqual([]);
    expect(weights?.rounded).toBe(2);
  });

  it.each<readonly [string, "w" | "s", (channel: number) => number, number | undefined]>([
    ["in steps that are wider than its values need", "w", () => 1, 2],
    [
      "of another split, whose weights are one large row",
      "w",
      (channel) => (channel === 0 ? 1e6 : 1),
      undefined,
    ],
    [
      "of another split, whose factors are one large number",
      "s",
      (channel) => (channel === 0 ? 1e-3 : 1),
      undefined,
    ],
  ])("does not agree %s", async (_, part, split, scale) => {
    const { faults, passed } = await reportOf(
      written(
        (name, data, shape) =>
          name === part ? storedIn("uint8", data, shape, scale) : plain(name, data, shape),
        split,
      ),
    );
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ kind: "weights", layer: "fc.1" }]);
  });

  it("agrees if it is split otherwise, but in no fewer bits", async () => {
    const { faults } = await reportOf(written(plain, (channel) => 2 ** (channel % 3)));
    expect(faults).toEqual([]);
  });
});
