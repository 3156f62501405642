import { describe, expect, it } from "vitest";
import { expand, identify, type OsnetSpec, parametersOf, variant } from "../../src/arch/index.js";
import type { TensorHeader } from "../../src/arch/parameters.js";
import { InputError } from "../../src/core/errors.js";
import type { Shape } from "../../src/core/tensor.js";

const SMALL = variant("osnet_x0_25");

function headersOf(spec: OsnetSpec): Map<string, TensorHeader> {
  return new Map(parametersOf(expand(spec)).map((parameter) => [parameter.path, parameter]));
}

/** A complete osnet_x0_25 of 16 classes, and more. */
function withKeys(keys: Readonly<Record<string, Shape>>): Map<string, TensorHeader> {
  const headers = headersOf({ ...SMALL, head: { classes: 16, loss: "softmax" } });
  for (const [path, shape] of Object.entries(keys)) headers.set(path, { shape, dtype: "float32" });
  return headers;
}

function refusal(stateDict: ReadonlyMap<string, TensorHeader>): InputError {
  try {
    identify(stateDict, { subject: "w.pth" });
  } catch (error) {
    if (error instanceof InputError) return error;
  }
  throw new Error("not refused");
}

describe("heads that torchreid does not know", () => {
  it("are no part of the network, and named", () => {
    const stateDict = withKeys({ "classifier2.weight": [9, 512], "head.0.bias": [4], logit_scale: [] });
    const { extra, spec, variant: name } = identify(stateDict);
    expect(extra).toEqual(["classifier2.weight", "head.0.bias", "logit_scale"]);
    expect([name, spec.head?.classes]).toEqual(["osnet_x0_25", 16]);
  });

  it("do not occur in an ordinary checkpoint, with or without a classifier", () => {
    expect(identify(withKeys({})).extra).toEqual([]);
    expect(identify(headersOf({ ...SMALL, head: null }))).toMatchObject({ extra: [], spec: { head: null } });
  });

  it("take the classifier with them if it does not read the embedding", () => {
    const bottleneck = withKeys({ "bottleneck.weight": [256], "classifier.weight": [16, 256] });
    expect(identify(bottleneck)).toMatchObject({
      extra: ["classifier.weight", "classifier.bias", "bottleneck.weight"],
      spec: { head: null, embedding: [512] },
    });
    const noBias = withKeys({ "bottleneck.weight": [512] });
    noBias.delete("classifier.bias");
    expect(identify(noBias).extra).toEqual(["classifier.weight", "bottleneck.weight"]);
  });

  it("may be a classifier of several layers", () => {
    const stateDict = headersOf({ ...SMALL, head: null });
    stateDict.set("classifier.0.weight", { shape: [16, 512], dtype: "float32" });
    expect(identify(stateDict)).toMatchObject({ extra: ["classifier.0.weight"], spec: { head: null } });
  });

  it("may be a classifier without a bias, as angular losses have it", () => {
    const stateDict = withKeys({});
    stateDict.delete("classifier.bias");
    expect(identify(stateDict)).toMatchObject({ extra: ["classifier.weight"], spec: { head: null } });
    const noWeight = withKeys({});
    noWeight.delete("classifier.weight");
    expect(refusal(noWeight).details).toEqual(["missing: classifier.weight [16, 512]"]);
  });

  it("do not excuse an incomplete backbone: everything is listed", () => {
    const stateDict = withKeys({ "bottleneck.weight": [512] });
    stateDict.delete("conv5.bn.bias");
    expect(refusal(stateDict).details).toEqual([
      "missing: conv5.bn.bias [128]",
      "unexpected: bottleneck.weight [512]",
    ]);
  });

  it.each(["conv5.extra", "conv9.bn.weight", "fc.0.scale", "pool2.0.conv.weight", "maxpool.weight"])(
    "are not what lies in the backbone's modules: %s",
    (path) => {
      expect(refusal(withKeys({ [path]: [3] })).details).toContain(`unexpected: ${path} [3]`);
    },
  );
});

describe("what a refusal calls the network", () => {
  it("is the nearest variant, and how it differs", () => {
    const [first, ...rest] = SMALL.stages;
    const blocks = (first?.blocks ?? []).map((block) => ({ ...block, instanceNorm: "outside" as const }));
    const stateDict = headersOf({ ...SMALL, stages: [{ blocks, transition: true }, ...rest] });
    stateDict.delete("conv3.0.gate.fc2.bias");
    expect(refusal(stateDict).message).toBe(
      "w.pth: found 1 missing key, expected the complete state dict of osnet_x0_25 with instance norm outside the residual in conv2; partial state dicts are not loaded, so repair the checkpoint, or name its architecture with --arch.",
    );
  });

  it("is a published variant where the state dict is only part of one", () => {
    const stateDict = withKeys({});
    for (const path of stateDict.keys()) if (path.startsWith("conv4.")) stateDict.delete(path);
    const { problem } = refusal(stateDict);
    expect(problem.expected).toBe("the complete state dict of osnet_x0_25");
    expect(problem.details?.every((line) => line.startsWith("missing: conv4."))).toBe(true);
  });

  it("has the embedding that the classifier reads", () => {
    const stateDict = withKeys({});
    for (const path of stateDict.keys()) if (path.startsWith("fc.")) stateDict.delete(path);
    const details = refusal(stateDict).details;
    expect(details).toEqual([
      "missing: fc.0.weight [512, 128]",
      "missing: fc.0.bias [512]",
      "missing: fc.1.weight [512]",
      "missing: fc.1.bias [512]",
      "missing: fc.1.running_mean [512]",
      "missing: fc.1.running_var [512]",
    ]);
  });

  it("has the instance norm that one of its blocks kept", () => {
    const stateDict = headersOf(variant("osnet_ibn_x1_0"));
    stateDict.delete("conv2.0.IN.weight");
    stateDict.delete("conv2.0.IN.bias");
    expect(refusal(stateDict).problem).toMatchObject({
      found: "2 missing keys",
      expected: "the complete state dict of osnet_ibn_x1_0",
    });
  });
});
