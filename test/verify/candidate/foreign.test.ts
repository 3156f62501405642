import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { IMAGENET } from "../../../src/convert/export/options.js";
import { foldBatchNorm } from "../../../src/convert/export/weights.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { describePreprocess } from "../../../src/convert/import/preprocess.js";
import type { SourceFile } from "../../../src/convert/open/open-file.js";
import { castFloat, toReal } from "../../../src/core/tensor-cast.js";
import type { Verification } from "../../../src/verify/candidate/candidate.js";
import { type OpenOptions, openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import {
  anonymous,
  dropNode,
  inNhwc,
  inputOf,
  int64,
  onIntegers,
  operator,
  replaceNode,
  takingPixels,
  withConstants,
  withNodes,
} from "../../convert/import/graphs.js";
import { missing, readFixture } from "../../fixtures.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { temporaryFolder } from "../../support/folder.js";
import {
  convert,
  openFixture,
  openReference,
  rewriteOnnx,
  withTensor,
  withValues,
} from "../../support/osnet.js";

/** Files without a word about their architecture, and without a name that means anything. */

const checkpoint = tinyCheckpoint("block");
const REFERENCE = openReference(checkpoint);

const fixture = (name: string): SourceFile => ({ name, bytes: readFixture(name) });

/** Both sides opened: what is known before anything runs. */
function opened(
  candidate: Uint8Array,
  reference = REFERENCE,
  options: OpenOptions = {},
): Promise<Verification> {
  return openVerification({ name: "theirs.onnx", bytes: candidate }, reference, options);
}

async function report(
  candidate: Uint8Array,
  reference = REFERENCE,
  options: OpenOptions = {},
): Promise<ParityReport> {
  return verify(await opened(candidate, reference, options));
}

const FED_BGR = { inputOrder: "bgr" } as const;

function theirs(
  fold: boolean,
  change: (model: OnnxModel) => OnnxModel = (model) => model,
  of = checkpoint,
): Uint8Array {
  const model = decodeOnnx(convert(of, { fold }), { subject: "m.onnx" });
  return encodeOnnx(anonymous(change(model)));
}

/** Every number and every step of folding in float16; the stem's weights times a factor. */
function inHalfPrecision(factor: number): Uint8Array {
  const half = (value: number): number =>
    toReal(castFloat({ dtype: "float32", shape: [], data: Float32Array.of(value) }, "float16", ""), "")
      .data[0] ?? 0;
  const read = (path = ""): number[] =>
    Array.from(checkpoint.stateDict.get(path)?.data as Float32Array, half);
  const model = decodeOnnx(convert(checkpoint, { dtype: "float16", ioDtype: "float16" }), { subject: "m" });
  const initializers = new Map(model.graph.initializers);
  for (const { foldedBatchNorm, parameters, name } of foldBatchNorm(checkpoint.graph).nodes) {
    if (!foldedBatchNorm) continue;
    const { weight, bias, runningMean, runningVar } = foldedBatchNorm.parameters;
    const [gammas, betas, means] = [read(weight), read(bias), read(runningMean)];
    const scales = read(runningVar).map((variance, channel) =>
      half((gammas[channel] ?? 0) * half(1 / Math.sqrt(half(variance + 1e-5)))),
    );
    const weights = read(parameters.weight);
    const own = parameters.bias === undefined ? means.map(() => 0) : read(parameters.bias);
    const rowLength = weights.length / scales.length;
    const scaled = weights.map(
      (value, at) => value * (scales[Math.floor(at / rowLength)] ?? 0) * (name === "conv1.bn" ? factor : 1),
    );
    const shifted = betas.map((beta, channel) =>
      half(beta + half(half((own[channel] ?? 0) - (means[channel] ?? 0)) * (scales[channel] ?? 0))),
    );
    for (const [role, values] of [
      ["weight", scaled],
      ["bias", shifted],
    ] as const) {
      const tensor = initializers.get(`${name}.folded.${role}`);
      const data = Float32Array.from(values);
      if (tensor)
        initializers.set(
          `${name}.folded.${role}`,
          castFloat({ dtype: "float32", shape: tensor.shape, data }, "float16", role),
        );
    }
  }
  return encodeOnnx(anonymous({ ...model, graph: { ...model.graph, initializers } }));
}

describe("a file of another exporter", () => {
  it.each([
    [true, { compared: 55, folded: 13 }, { compared: 44, identical: 44, folded: 13 }],
    [false, { compared: 68, folded: 0 }, { compared: 84, identical: 84, folded: 0 }],
  ])("is compared layer by layer, folded %s", async (fold, { compared, folded }, weights) => {
    const { passed, faults, coverage, gates, output, ...rest } = await report(theirs(fold));
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
    expect(coverage).toMatchObject({ expected: 68, compared, missing: [] });
    expect(coverage.folded).toHaveLength(folded);
    expect(gates).toHaveLength(3);
    expect(rest.weights).toEqual(weights);
    expect(output).toMatchObject({ layer: "fc.2", status: "pass" });
    expect(output?.tappingMaxAbs).not.toBeNull();
  });

  it("is compared with a recording, whose names tell how modules are called", async () => {
    const { passed, coverage } = await report(
      theirs(true, undefined, openFixture()),
      fixture("osnet_x0_25.64x32.npz"),
    );
    expect([passed, coverage.compared]).toEqual([true, 365]);
  });

  it("fails by its structure, naming the layer", async () => {
    const layer = "conv2.0.gate[2].gate_activation";
    const { passed, faults } = await report(
      theirs(true, (model) => replaceNode(model, layer, (node) => ({ ...node, opType: "HardSigmoid" }))),
    );
    expect(passed).toBe(false);
    expect(faults).toEqual([
      {
        layer,
        stream: 2,
        kind: "structure",
        margin: expect.any(Number),
        cause: "hard-sigmoid",
        explanation: expect.stringMatching(
          /^found HardSigmoid, expected a sigmoid; it is a HardSigmoid of slope 1\/5: /,
        ),
      },
    ]);
    expect(faults[0]?.margin).toBeGreaterThan(1000);
  });

  it("blames nothing after a missing layer", async () => {
    const { faults } = await report(theirs(true, (model) => dropNode(model, "conv2.0.conv1.relu")));
    expect(faults.map(({ layer, kind }) => [layer, kind])).toEqual([["conv2.0.conv1.relu", "structure"]]);
  });

  it("fails by a weight, naming the parameter", async () => {
    const path = "conv2.0.gate.fc2.weight";
    const { faults } = await report(
      theirs(true, ({ graph, ...model }) => ({
        ...model,
        graph: {
          ...graph,
          initializers: withTensor(graph.initializers, path, (tensor) => withValues(tensor, { 3: 0.5 })),
        },
      })),
    );
    expect(faults[0]).toMatchObject({ layer: "conv2.0.gate[1].fc2", kind: "weights" });
    expect(faults[0]?.explanation).toContain(path);
  });
});

describe("a file that works on its values in another way", () => {
  it("NHWC is compared layer by layer", async () => {
    const { passed, faults, coverage, input } = await report(theirs(true, inNhwc));
    expect(faults).toEqual([]);
    expect([passed, coverage.compared]).toEqual([true, 55]);
    expect(input).toMatchObject({ source: expect.stringContaining("axes NHWC"), shape: [2, 3, 64, 32] });
  });

  it("raw pixels are given what becomes the images", async () => {
    const { passed, faults, input } = await report(theirs(true, takingPixels), REFERENCE, FED_BGR);
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
    expect(input.source).toBe(
      "seed:0, through the file's own preprocessing (axes NHWC, uint8 pixels, channels in the order 2, 1, 0, normalised by ImageNet's mean and deviation from values of 0 to 255)",
    );
    await expect(
      opened(theirs(true, takingPixels, openFixture()), fixture("osnet_x0_25.64x32.npz"), FED_BGR),
    ).rejects.toThrow("found a model that takes integer pixels, and a recording");
  });

  it("raw pixels are RGB unless somebody says otherwise", async () => {
    const { faults } = await report(theirs(true, takingPixels));
    expect(faults).toMatchObject([{ layer: "images", kind: "structure" }]);
    expect(faults[0]?.explanation).toContain("--input-order bgr");
  });

  it("a reshape in the place of a transpose is the only fault", async () => {
    const { faults } = await report(
      theirs(true, (model) => {
        const changed = replaceNode(takingPixels(model), "p.nchw", (node) =>
          operator("Reshape", [inputOf(node), "p.shape"], "p.nchw"),
        );
        const [, channels = 0, ...plane] = model.graph.inputs[0]?.shape ?? [];
        return withConstants(changed, { "p.shape": int64(-1, ...[channels, ...plane].map(Number)) });
      }),
      REFERENCE,
      FED_BGR,
    );
    expect(faults).toMatchObject([{ layer: "images", kind: "structure" }]);
    expect(faults[0]?.explanation).toContain("found Reshape to NCHW");
  });

  it("another normalisation is named", async () => {
    const deviation = "p.deviation";
    const { faults } = await report(
      theirs(true, (model) => {
        const changed = takingPixels(model);
        const { graph } = changed;
        const initializers = withTensor(graph.initializers, deviation, (tensor) =>
          withValues(tensor, { 0: 0.5 }),
        );
        return { ...changed, graph: { ...graph, initializers } };
      }),
      REFERENCE,
      FED_BGR,
    );
    expect(faults).toMatchObject([{ layer: "images", kind: "structure" }]);
    expect(faults[0]?.explanation).toContain(
      "a normalisation by the mean [0.485, 0.456, 0.406] and the deviation [0.5, 0.224, 0.225] from values of 0 to 255",
    );
    const pixels = {
      layout: [0, 1, 2, 3],
      dtype: "uint8",
      order: [0, 1, 2],
      isHalf: false,
      unknown: [],
    } as const;
    const white = [1 / 255, 1 / 255, 1 / 255];
    const divided = describePreprocess({ ...pixels, scale: white, shift: [0, 0, 0] });
    expect(divided).toContain("which is not torchreid's normalisation (only divided by 255)");
    // What rounds to ImageNet's is given with more digits.
    const near = IMAGENET.deviation.map((value) => 1 / (value + 1e-6));
    const shift = IMAGENET.mean.map((value, channel) => -value * (near[channel] ?? 0));
    const almost = describePreprocess({ ...pixels, scale: near.map((value) => value / 255), shift });
    expect(almost).toContain("the deviation [0.229001, 0.224001, 0.225001]");
  });

  it("integers: weights are quantised and not faults, the loss is", async () => {
    const { passed, faults, weights, output } = await report(theirs(true, onIntegers));
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer: "images", kind: "structure" }]);
    expect(weights).toEqual({ compared: 44, identical: 20, folded: 13, quantised: 24 });
    expect(output?.relMax).toBeGreaterThan(1e-3);
  });

  it("integers: a file of this package is located by structure after a quantiser, which renames values", async () => {
    const renamed = (model: OnnxModel): OnnxModel => {
      const convs = new Set(
        model.graph.nodes.flatMap(({ opType, outputs }) => (opType === "Conv" ? outputs : [])),
      );
      const rename = (name: string): string => (convs.has(name) ? `${name}_quantized` : name);
      return withNodes(model, (nodes) =>
        nodes.map((node) => ({
          ...node,
          inputs: node.inputs.map(rename),
          outputs: node.outputs.map(rename),
        })),
      );
    };
    const { faults } = await report(rewriteOnnx(convert(checkpoint), (model) => onIntegers(renamed(model))));
    expect(faults).toMatchObject([{ layer: "images", kind: "structure" }]);
  });

  it("integers: one step for all channels is held to the range of all", async () => {
    const { weights } = await opened(theirs(true, (model) => onIntegers(model, true)));
    expect(weights?.faults).toEqual([]);
    expect(weights?.result.quantised).toBe(24);
  });

  it("a weight that quantising does not explain is a fault", async () => {
    const { weights } = await opened(
      theirs(true, (model) => {
        const changed = onIntegers(model);
        const name = "conv2.0.gate.fc2.weight.q";
        const tensor = changed.graph.initializers.get(name);
        const data = Int8Array.from(tensor?.data as Int8Array, (value, at) => (at === 3 ? value - 2 : value));
        const initializers = new Map(changed.graph.initializers).set(name, {
          dtype: "int8",
          shape: tensor?.shape ?? [],
          data,
        });
        return { ...changed, graph: { ...changed.graph, initializers } };
      }),
    );
    expect(weights?.faults[0]).toMatchObject({
      layer: "conv2.0.gate[1].fc2",
      kind: "weights",
      explanation: expect.stringContaining("1 of 32 values differ"),
    });
  });

  it("half precision, folded in half precision as torch exports model.half()", async () => {
    const { faults, output } = await report(inHalfPrecision(1));
    expect(faults).toEqual([]);
    expect(output?.relMax).toBeGreaterThan(1e-4);
    const { weights } = await opened(inHalfPrecision(1.02));
    expect(weights?.faults[0]).toMatchObject({ layer: "conv1.bn", kind: "weights" });
  });

  it("onnxruntime's optimiser: convolutions with their activations in one operator", async () => {
    const folder = await temporaryFolder({ "plain.onnx": theirs(true) });
    const { InferenceSession } = await import("onnxruntime-node");
    const options = { logSeverityLevel: 3, executionProviders: ["cpu"] } as const;
    const session = await InferenceSession.create(join(folder.path, "plain.onnx"), {
      ...options,
      graphOptimizationLevel: "extended",
      optimizedModelFilePath: join(folder.path, "optimised.onnx"),
    });
    await session.release();
    const bytes = await folder.read("optimised.onnx");
    const { graph } = decodeOnnx(bytes, { subject: "optimised.onnx" });
    expect(graph.nodes.filter(({ opType }) => opType === "FusedConv").length).toBeGreaterThan(12);
    const { passed, faults, weights, coverage } = await report(bytes);
    expect(faults).toEqual([]);
    expect([passed, coverage.missing]).toEqual([true, []]);
    // What a fused convolution computes inside is no value, but its constants are compared.
    expect(weights).toEqual({ compared: 44, identical: 44, folded: 13 });
  });

  it.each([
    [
      "Relu",
      "found a ReLU, expected a sigmoid; if the reference was trained with such gates, which a state dict cannot show, pass its spec with --arch",
    ],
    // No spec has such gates.
    ["Softmax", "found Softmax, expected a sigmoid"],
  ])("gates of another activation, %s: the message says what to do", async (opType, explanation) => {
    const { candidate } = await opened(
      theirs(true, (model) => ({
        ...model,
        graph: {
          ...model.graph,
          nodes: model.graph.nodes.map((node) => (node.opType === "Sigmoid" ? { ...node, opType } : node)),
        },
      })),
    );
    expect(candidate.structure).toHaveLength(3);
    expect(candidate.structure?.[0]?.explanation).toBe(explanation);
  });
});

/** Some of them: all are proven in proof/onnx.test.ts, and run by `npm run mutation`. */
describe("torch's exports", () => {
  it.for([
    ["real/osnet_x0_25_msmt17.torch2.8.onnx", "real/osnet_x0_25_msmt17.pth", 320],
    ["osnet_ain_x0_25.torch1.13.op12.unfolded.onnx", "osnet_ain_x0_25.pth", 547],
    ["osnet_nas_x0_25.torch1.13.op12.onnx", "osnet_nas_x0_25.pth", 329],
    ["osnet_x0_25.torch1.13.op12.onnx", "osnet_x0_25.256x128.npz", null],
  ] as const)("%s agrees with %s", async ([onnx, reference, weights], context) => {
    const absent = missing(onnx, reference);
    if (absent) return context.skip(absent);
    // A single image: those of a whole batch are compared above, and these are 256×128.
    const options = weights === null ? {} : { batch: 1 };
    const {
      passed,
      faults,
      gates,
      weights: compared,
    } = await report(readFixture(onnx), fixture(reference), options);
    expect(faults).toEqual([]);
    expect([passed, gates.length]).toEqual([true, 24]);
    expect(compared?.identical ?? null).toBe(weights);
  });
});
