import { describe, expect, it } from "vitest";
import { expand, type OsnetSpec, type VariantName, variant } from "../../src/arch/index.js";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import type { OnnxModel } from "../../src/convert/formats/onnx/model.js";
import { encodeSafetensors } from "../../src/convert/formats/safetensors.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import { seededStateDict } from "../../src/convert/seeded-weights.js";
import type { NamedBytes } from "../../src/core/bytes.js";
import type { StateDict } from "../../src/core/tensor.js";
import { openVerification } from "../../src/verify/open.js";
import type { Tolerance } from "../../src/verify/outcome/report.js";
import { verify } from "../../src/verify/verify.js";
import { anonymous } from "../convert/import/graphs.js";
import { readFixture } from "../fixtures.js";
import { tinyCheckpoint } from "../mutation/families.js";
import {
  convert,
  openFixture,
  openReference,
  rewriteOnnx,
  SMALL,
  withTensor,
  withValues,
} from "../support/osnet.js";

/** One network as every kind of file; the model once as it states itself, and once as another exporter's. */
function filesOf(spec: OsnetSpec): Readonly<Record<string, NamedBytes>> {
  const graph = expand(spec);
  const stateDict = seededStateDict(graph, 1);
  const onnx = convert({ ...openFixture(), graph, stateDict });
  const tfjs = encodeTfjs(lowerToTfjs(graph, stateDict, { size: SMALL }));
  return {
    onnx: { name: "m.onnx", bytes: onnx },
    foreign: {
      name: "foreign.onnx",
      bytes: rewriteOnnx(onnx, (model) => ({ ...model, metadata: new Map() })),
    },
    tfjs: { name: "m.tfjs", bytes: tfjs.json, beside: tfjs.shards },
    checkpoint: { name: "w.safetensors", bytes: encodeSafetensors(stateDict, { subject: "w" }) },
  };
}

const X0_25: Readonly<Record<string, NamedBytes>> = {
  checkpoint: { name: "small.pth", bytes: readFixture("osnet_x0_25.pth") },
  recording: { name: "small.npz", bytes: readFixture("osnet_x0_25.64x32.npz") },
  model: { name: "small.onnx", bytes: convert(openFixture()) },
};

/** One of another build in every kind of file, and one of another width in those that read it differently. */
const OTHERS = [
  ["osnet_ain_x0_25", ["onnx", "foreign", "tfjs", "checkpoint"]],
  ["osnet_x0_5", ["foreign", "checkpoint"]],
] as const satisfies readonly (readonly [VariantName, readonly string[]])[];

const FILES = OTHERS.flatMap(([name, kinds]) => {
  const files = filesOf(variant(name));
  return kinds.map((kind) => [name, kind, files[kind] as NamedBytes] as const);
});

describe("a file of another network", () => {
  it.each(
    FILES.flatMap(([name, kind, file]) =>
      Object.entries(X0_25).map(
        ([against, other]) => [`${name} ${kind}`, against, name, file, other] as const,
      ),
    ),
  )("%s beside a %s is told so, either way round", async (_, __, name, file, other) => {
    const pairs = [
      [file, other, name, "osnet_x0_25"],
      [other, file, "osnet_x0_25", name],
    ] as const;
    for (const [candidate, reference, own, wanted] of pairs)
      await expect(openVerification(candidate, reference)).rejects.toMatchObject({
        code: "spec",
        problem: {
          subject: `${candidate.name} against ${reference.name}`,
          found: `the candidate is ${own}, but the reference is ${wanted}`,
          remedy: expect.not.stringContaining("--arch"),
        },
      });
  });
});

describe("weights of another training", () => {
  const own = tinyCheckpoint("block");
  const { graph } = own;
  const others = seededStateDict(graph, 5);
  const checkpoint = openReference(own);
  const verified = async (
    change: (weights: Float32Array, path: string) => Float32Array,
    rename: (model: OnnxModel) => OnnxModel = (model) => model,
  ) => {
    const changed = new Map(
      [...own.stateDict].map(([path, tensor]) => [
        path,
        tensor.dtype === "float32" ? { ...tensor, data: change(tensor.data as Float32Array, path) } : tensor,
      ]),
    );
    const written = convert({ ...own, stateDict: changed }, { fold: false });
    const bytes = rewriteOnnx(written, rename);
    return verify(await openVerification({ name: "m.onnx", bytes }, checkpoint, { batch: 1 }));
  };

  it.each<readonly [string, ((model: OnnxModel) => OnnxModel) | undefined]>([
    ["this package's names", undefined],
    ["another exporter's names", anonymous],
  ])("are one fault under %s", async (_, rename) => {
    const { faults, passed } = await verified(
      (data, path) => (others.get(path)?.data ?? data) as Float32Array,
      rename,
    );
    expect(passed).toBe(false);
    expect(faults).toHaveLength(1);
    expect(faults).toMatchObject([
      { kind: "weights", explanation: expect.stringContaining("another training run") },
    ]);
  });

  it("are one fault between two checkpoints, and one changed weight is named", async () => {
    const { stateDict, ...rest } = own;
    const side = (name: string, weights: StateDict) => ({
      name,
      bytes: new Uint8Array(),
      checkpoint: { ...rest, graph, stateDict: weights },
    });
    const judge = async (weights: StateDict, tolerance?: Tolerance) =>
      verify({
        ...(await openVerification(side("a.pth", weights), side("b.pth", stateDict), {
          size: { height: 64, width: 32 },
        })),
        ...(tolerance ? { tolerance } : {}),
      });
    const { faults, passed } = await judge(others);
    expect([passed, faults]).toMatchObject([
      false,
      [{ kind: "weights", explanation: expect.stringContaining("another training run") }],
    ]);
    const one = withTensor(stateDict, "conv2.0.gate.fc2.bias", (tensor) => withValues(tensor, { 5: 2.5 }));
    const changed = await judge(one);
    expect(changed.faults).toMatchObject([{ kind: "weights", layer: "conv2.0.gate[1].fc2" }]);
    const byNumber = await judge(one, { rule: "relative-to-max", value: 1e-3 });
    expect(byNumber.faults).toMatchObject([{ kind: "weights", layer: "conv2.0.gate[1].fc2" }]);
    expect(await judge(stateDict)).toMatchObject({ passed: true });
    expect((await judge(stateDict)).warnings).toBeUndefined();
    // The embedding does not depend on the classifier.
    const head = withTensor(stateDict, "classifier.bias", (tensor) => withValues(tensor, { 0: 2.5 }));
    expect(await judge(head)).toMatchObject({
      passed: true,
      warnings: [expect.stringMatching(/^classifier: the parameters of the two differ, which is not judged/)],
    });
  });

  it.each<readonly [string, (data: Float32Array) => Float32Array]>([
    ["reversed", (data) => data.toReversed()],
    ["doubled", (data) => data.map((value) => 2 * value)],
  ])("are not what the checkpoint's own %s are taken for", async (_, change) => {
    const { faults } = await verified((data, path) =>
      /conv\.weight|conv1\.weight/.test(path) ? change(data) : data,
    );
    expect(faults).not.toEqual([]);
    expect(JSON.stringify(faults)).not.toContain("another training");
  });
});
