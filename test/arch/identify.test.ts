import { describe, expect, it } from "vitest";
import { expand, identify, type OsnetSpec, parametersOf, variant } from "../../src/arch/index.js";
import { InputError } from "../../src/core/errors.js";
import type { DType, Shape } from "../../src/core/tensor.js";

type Headers = Map<string, { readonly shape: Shape; readonly dtype: DType }>;

const headersOf = (spec: OsnetSpec): Headers =>
  new Map(parametersOf(expand(spec)).map(({ path, shape, dtype }) => [path, { shape, dtype }]));

const without = (headers: Headers, ...prefixes: readonly string[]): Headers =>
  new Map([...headers].filter(([path]) => !prefixes.some((prefix) => path.startsWith(prefix))));

function refusal(headers: Headers, spec?: OsnetSpec): InputError {
  try {
    identify(headers, { subject: "w.pth", ...(spec ? { spec } : {}) });
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error("not refused");
}

const SPEC = variant("osnet_x0_25");
const LARGE = variant("osnet_x1_0");
const AIN = variant("osnet_ain_x0_25");
const withBlocks = (
  spec: OsnetSpec,
  change: (block: OsnetSpec["stages"][0]["blocks"][0]) => object,
): OsnetSpec => ({
  ...spec,
  stages: spec.stages.map((stage) => ({
    ...stage,
    blocks: stage.blocks.map((block) => ({ ...block, ...change(block) })),
  })),
});

describe("identify finds", () => {
  it.each<readonly [name: string, spec: OsnetSpec, variant: string | undefined]>([
    ["a variant", SPEC, "osnet_x0_25"],
    ["other classes", { ...SPEC, head: { classes: 7, loss: "softmax" } }, "osnet_x0_25"],
    ["no classifier", { ...SPEC, head: null }, "osnet_x0_25"],
    ["no embedding", { ...SPEC, embedding: [] }, "osnet_x0_25"],
    ["two embedding layers", { ...SPEC, embedding: [300, 77] }, "osnet_x0_25"],
    ["three streams", withBlocks(SPEC, () => ({ streams: 3 })), undefined],
    ["one stream, in the other dialect", withBlocks(AIN, () => ({ streams: 1 })), undefined],
    ["another bottleneck", withBlocks(SPEC, () => ({ reduction: 2 })), undefined],
    ["another gate", { ...LARGE, gate: { ...LARGE.gate, reduction: 8 } }, undefined],
    ["a gate with layer norm", { ...SPEC, gate: { ...SPEC.gate, layerNorm: true } }, undefined],
    ["instance norm in and outside", withBlocks(AIN, () => ({ instanceNorm: "both" })), undefined],
    [
      "one block to a stage",
      {
        ...AIN,
        stages: AIN.stages.map((stage) => ({ ...stage, blocks: stage.blocks.slice(0, 1) })),
      },
      undefined,
    ],
  ])("%s", (_, spec, name) => {
    const found = identify(headersOf(spec));
    expect(found.spec).toEqual(spec);
    expect(found.variant).toBe(name);
  });

  it("a checkpoint from before num_batches_tracked, and one in half precision", () => {
    const headers = headersOf(SPEC);
    const old = new Map([...headers].filter(([path]) => !path.endsWith(".num_batches_tracked")));
    expect(identify(old).variant).toBe("osnet_x0_25");
    const half: Headers = new Map(
      [...headers].map(([path, { shape }]) => [path, { shape, dtype: "float16" }]),
    );
    expect(identify(half).variant).toBe("osnet_x0_25");
  });

  it("what only the user can know, by the spec given, with the checkpoint's classes", () => {
    const given: OsnetSpec = { ...SPEC, pooling: "max", head: { classes: 1, loss: "sigmoid" } };
    const { spec } = identify(headersOf({ ...SPEC, head: { classes: 26, loss: "softmax" } }), {
      spec: given,
    });
    expect(spec).toEqual({ ...given, head: { classes: 26, loss: "sigmoid" } });
  });
});

describe("identify refuses", () => {
  const remedy =
    "partial state dicts are not loaded, so repair the checkpoint, or name its architecture with --arch.";

  it.each([
    [SPEC, "osnet_x0_25", "conv2.1."],
    [SPEC, "osnet_x0_25", "conv3.0."],
    [SPEC, "osnet_x0_25", "conv4.1."],
    [SPEC, "osnet_x0_25", "conv4.1.conv2d."],
    [SPEC, "osnet_x0_25", "conv3.2."],
    [SPEC, "osnet_x0_25", "conv5."],
    [SPEC, "osnet_x0_25", "conv2.0.gate."],
    [AIN, "osnet_ain_x0_25", "conv2.1."],
    [AIN, "osnet_ain_x0_25", "conv4.1."],
    [AIN, "osnet_ain_x0_25", "conv4.0.conv2.3."],
    [AIN, "osnet_ain_x0_25", "conv4.0.IN."],
    [AIN, "osnet_ain_x0_25", "pool3."],
  ])("%#: a network without some module, though what is left could be one", (spec, name, prefix) => {
    const whole = headersOf(spec);
    const lost = [...whole].filter(([path]) => path.startsWith(prefix) && !path.endsWith("_tracked"));
    const { message, details } = refusal(without(whole, prefix));
    expect(message).toBe(
      `w.pth: found ${lost.length} missing keys, expected the complete state dict of ${name}; ${remedy}`,
    );
    expect(details).toEqual(lost.map(([path, { shape }]) => `missing: ${path} [${shape.join(", ")}]`));
  });

  it("a torn network that the user describes is no torn one", () => {
    const short = {
      ...SPEC,
      stages: SPEC.stages.map((stage, index) =>
        index === 2 ? { ...stage, blocks: stage.blocks.slice(0, 1) } : stage,
      ),
    };
    expect(identify(without(headersOf(SPEC), "conv4.1."), { spec: short }).spec).toEqual(short);
  });

  it("keys of every kind in one error, in the network's order", () => {
    const headers = headersOf(SPEC);
    headers.delete("conv5.bn.bias");
    headers.set("conv5.bn.beta", { shape: [3], dtype: "float32" });
    headers.set("fc.0.bias", { shape: [9], dtype: "float32" });
    headers.set("conv1.bn.weight", { shape: [16], dtype: "int64" });
    const { message, details } = refusal(headers);
    expect(message).toBe(
      `w.pth: found 1 missing, 1 unexpected, 1 mis-shaped, 1 wrongly typed keys, expected the complete state dict of osnet_x0_25; ${remedy}`,
    );
    expect(details).toEqual([
      "missing: conv5.bn.bias [128]",
      "unexpected: conv5.bn.beta [3]",
      "mis-shaped: fc.0.bias: found [9], expected [512]",
      "wrongly typed: conv1.bn.weight: found int64, expected a floating-point type",
    ]);
  });

  it("another network than the one asked for", () => {
    const { message } = refusal(headersOf(SPEC), variant("osnet_x1_0"));
    expect(message).toContain("mis-shaped keys, expected the complete state dict of osnet_x1_0;");
  });

  it("batch norms that are fused into convolutions, and one part of a checkpoint", () => {
    const folded = [...headersOf(SPEC)].filter(([path]) => !path.includes(".bn."));
    const biases = folded.flatMap(([path, { shape }]) =>
      /conv\d?\.weight$/.test(path)
        ? [[path.replace("weight", "bias"), { shape: shape.slice(0, 1), dtype: "float32" }] as const]
        : [],
    );
    for (const prefix of ["", "m."])
      expect(
        refusal(new Map([...folded, ...biases].map(([path, header]) => [`${prefix}${path}`, header])))
          .message,
      ).toContain("batch norms are fused");
    const part = without(headersOf(SPEC), "conv4.");
    expect(() => identify(part, { subject: "model-00001-of-00002.safetensors" })).toThrow("several parts");
  });

  it("what is no OSNet, and nothing at all", () => {
    const shape = [64];
    const names = ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight"];
    const expected =
      "expected the state dict of an OSNet (conv1.conv.weight, conv2.0.conv2a… or conv2.0.conv2.0.layers…); use a torchreid OSNet checkpoint.";
    expect(refusal(new Map(names.map((name) => [name, { shape, dtype: "float32" }]))).message).toBe(
      `w.pth: found 4 tensors of another network ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", …), ${expected}`,
    );
    expect(refusal(new Map()).message).toBe(`w.pth: found no tensors, ${expected}`);
  });
});
