import { describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { encodeNpz, type NpzArchive, openNpz } from "../../src/convert/formats/npz.js";
import { onnxNode } from "../../src/convert/formats/onnx/model.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import type { Checkpoint } from "../../src/convert/open/checkpoint.js";
import { seededStateDict } from "../../src/convert/seeded-weights.js";
import type { NamedBytes } from "../../src/core/bytes.js";
import { castFloat, isDType } from "../../src/core/tensor-cast.js";
import { seededImages } from "../../src/verify/inputs/images.js";
import { openVerification } from "../../src/verify/open.js";
import type { ParityReport } from "../../src/verify/outcome/report.js";
import { verify } from "../../src/verify/verify.js";
import { recording } from "../mutation/candidates.js";
import { IMAGES, type OneBlock, tinyCheckpoint } from "../mutation/families.js";
import { followed, operator } from "../mutation/onnx-edits.js";
import { convert, openReference, rewriteOnnx, SMALL, withTensor, withValues } from "../support/osnet.js";

const images = seededImages(0, IMAGES.batch, IMAGES.height, IMAGES.width);

const recordings = new WeakMap<Checkpoint, NpzArchive>();

/** All that PyTorch would record of a network, computed once. */
function recordingOf(network: Checkpoint): NpzArchive {
  const known = recordings.get(network);
  if (known) return known;
  const { bytes } = recording(network, images, true);
  const opened = openNpz(bytes as Uint8Array, "r.npz");
  recordings.set(network, opened);
  return opened;
}

/** What PyTorch would record of a network, as far as names match; always its images and its output. */
function recorded(network: Checkpoint, wanted = /(?!^classifier)^./): NamedBytes {
  const whole = recordingOf(network);
  const kept = whole.names.filter((name) => ["input", "output"].includes(name) || wanted.test(name));
  return {
    name: "r.npz",
    bytes: encodeNpz(new Map(kept.map((name) => [name, whole.read(name)])), { subject: "r.npz" }),
  };
}

const trainings = new WeakMap<Checkpoint, Checkpoint>();

function ofAnotherTraining(checkpoint: Checkpoint): Checkpoint {
  const known = trainings.get(checkpoint) ?? {
    ...checkpoint,
    stateDict: seededStateDict(checkpoint.graph, 77),
  };
  trainings.set(checkpoint, known);
  return known;
}

async function verified(candidate: NamedBytes, reference: NamedBytes): Promise<ParityReport> {
  return verify(await openVerification(candidate, reference));
}

/** Which layers a recording has besides its output. */
const PARTS = {
  "every layer": /(?!^classifier)^./,
  "the blocks": /^conv\d\.\d$/,
  "activations alone": /(?!^classifier)relu$/,
  "gated streams alone": /gate\[\d\]$/,
  "one stage": /^conv2\./,
  "batch norms alone": /bn$/,
} as const;

describe("a recording of another training is one fault", () => {
  const checkpoint = tinyCheckpoint("block");
  const model = { name: "m.onnx", bytes: convert(checkpoint) };

  async function expectOneFault(candidate: NamedBytes, reference: NamedBytes): Promise<void> {
    const { passed, faults } = await verified(candidate, reference);
    expect(passed).toBe(false);
    expect(faults).toMatchObject([
      {
        kind: "weights",
        explanation: expect.stringMatching(/^the recording was made with other weights[,:]/),
      },
    ]);
  }

  const PARTS_IN_TURN = Object.entries(PARTS).map(([name, wanted], turn) => [name, wanted, turn] as const);

  // Compared with a checkpoint and with a model: the whole with both, the parts with one of them in turn.
  it.each(PARTS_IN_TURN)("that has %s", async (_, wanted, turn) => {
    const other = recorded(ofAnotherTraining(checkpoint), wanted);
    if (turn === 0 || turn % 2 === 1) await expectOneFault(other, openReference(checkpoint));
    if (turn % 2 === 0) await expectOneFault(model, other);
  });

  it("of a network some of whose layers have far smaller values", async () => {
    const trained = ofAnotherTraining(checkpoint);
    const stateDict = new Map(
      [...trained.stateDict].map(([path, tensor]) =>
        isDType(tensor, "float32") && /conv2(a|[bc]\.\d)\.conv1\.weight$/.test(path)
          ? [path, { ...tensor, data: tensor.data.map((value) => value / 500) }]
          : [path, tensor],
      ),
    );
    await expectOneFault(recorded({ ...trained, stateDict }), openReference(checkpoint));
  });

  it.each(["nas block", "attribute block"] as const)(
    "of %s, of which all without weights is said to be right",
    async (family) => {
      const own = tinyCheckpoint(family);
      const wanted = family === "attribute block" ? /./ : undefined;
      const { faults } = await verified(recorded(ofAnotherTraining(own), wanted), openReference(own));
      expect(faults).toHaveLength(1);
      expect(faults[0]?.explanation).toMatch(
        /^the recording was made with other weights: (\d+) of \1 layers with weights differ .* without weights are right$/,
      );
    },
  );

  it("and is not said of one other weight, of another epsilon throughout, or of weights rounded to 8 bits", async () => {
    const one = withTensor(checkpoint.stateDict, "conv2.0.gate.fc2.bias", (tensor) =>
      withValues(tensor, { 5: 2.5 }),
    );
    const { graph } = checkpoint;
    const epsilons = {
      ...graph,
      nodes: graph.nodes.map((node) =>
        node.op.kind === "batchNorm" ? { ...node, op: { ...node.op, epsilon: 0.3 } } : node,
      ),
    };
    const rounded = new Map(
      [...checkpoint.stateDict].map(([path, tensor]) => {
        if (!isDType(tensor, "float32") || tensor.shape.length < 2) return [path, tensor];
        const step = Math.max(...tensor.data.map(Math.abs)) / 127;
        return [path, { ...tensor, data: tensor.data.map((x) => Math.round(x / step) * step) }];
      }),
    );
    const own = openReference(checkpoint);
    const recordings = [
      { ...checkpoint, stateDict: one },
      { ...checkpoint, graph: epsilons },
      { ...checkpoint, stateDict: rounded },
    ].map((wrong) => recorded(wrong));
    const [ofOne, ofEpsilons, ofRounded] = recordings as [NamedBytes, NamedBytes, NamedBytes];
    for (const [candidate, reference] of [
      [own, ofOne],
      [model, ofEpsilons],
      [own, ofRounded],
      [model, ofRounded],
      [ofOne, own],
      [ofRounded, own],
    ] as const) {
      const { passed, faults } = await verified(candidate, reference);
      expect(passed).toBe(false);
      expect(JSON.stringify(faults)).not.toContain("other weights");
    }
  });

  it("and a folded model that is wrong itself is not one of other weights", async () => {
    const right = recorded(checkpoint);
    const wrong = rewriteOnnx(model.bytes, operator("conv1.relu", "Identity"));
    const { faults } = await verified({ name: "m.onnx", bytes: wrong }, right);
    expect(faults).not.toEqual([]);
    expect(JSON.stringify(faults)).not.toContain("other weights");
  });
});

describe("a recording of few layers", () => {
  const FEW: readonly (readonly [OneBlock, RegExp])[] = [
    ["ibn block", /^$/],
    ["nas block", PARTS["the blocks"]],
  ];

  it.each(FEW)("of %s, %s, is judged wherever it has a value, and passes", async (family, wanted) => {
    const checkpoint = tinyCheckpoint(family);
    const { passed, faults, layers } = await verified(
      recorded(checkpoint, wanted),
      openReference(checkpoint),
    );
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
    expect(layers.filter(({ status }) => status !== "pass")).toEqual([]);
  });

  it.each(FEW)(
    "of %s, %s, fails where it has other weights behind instance norms",
    async (family, wanted) => {
      const checkpoint = tinyCheckpoint(family);
      const path = "conv2.0.conv3.bn.weight";
      const stateDict = withTensor(
        checkpoint.stateDict,
        checkpoint.stateDict.has(path) ? path : "conv2.0.conv3.conv.weight",
        (tensor) => withValues(tensor, { 3: 1.5, 7: -1.5 }),
      );
      const { passed } = await verified(
        recorded({ ...checkpoint, stateDict }, wanted),
        openReference(checkpoint),
      );
      expect(passed).toBe(false);
    },
  );
});

describe("a recording beside a model", () => {
  const checkpoint = tinyCheckpoint("block");
  const bytes = convert(checkpoint);

  it("that is its reference: layers that the model has folded are not compared", async () => {
    const tfjs = encodeTfjs(lowerToTfjs(checkpoint.graph, checkpoint.stateDict, { size: SMALL }));
    for (const reference of [
      { name: "m.onnx", bytes },
      { name: "m.onnx", bytes: convert(checkpoint, { fold: false }) },
      { name: "model.json", bytes: tfjs.json, beside: tfjs.shards },
    ]) {
      const { passed, faults, layers } = await verified(recorded(checkpoint), reference);
      expect(faults).toEqual([]);
      expect(passed).toBe(true);
      expect(layers.length).toBeGreaterThan(50);
    }
  });

  it("that gives its features and logits alone: what the recording has behind them is not missing", async () => {
    const attribute = tinyCheckpoint("attribute block");
    const recording = recorded(attribute, /./);
    for (const output of ["both", "features"] as const) {
      const model = { name: "m.onnx", bytes: convert(attribute, { output }) };
      const { passed, faults, layers } = await verified(model, recording);
      expect(faults).toEqual([]);
      expect(passed).toBe(true);
      expect(layers.map(({ name }) => name)).not.toContain("classifier.sigmoid");
    }
  });

  it("in float16 may be farther off", async () => {
    const bytes = convert(checkpoint, { dtype: "float16" });
    const { faults, tolerance } = await verify(
      await openVerification({ name: "m.onnx", bytes }, recorded(checkpoint)),
    );
    expect([faults, tolerance]).toEqual([[], { rule: "relative-to-max", value: 1 / 32 }]);
    // A checkpoint's weights are rounded, and nothing else.
    for (const dtype of ["float16", "bfloat16"] as const) {
      const stateDict = new Map(
        [...checkpoint.stateDict].map(([path, tensor]) =>
          isDType(tensor, "float32") ? [path, castFloat(tensor, dtype, path)] : [path, tensor],
        ),
      );
      const report = await verified(
        openReference({ ...checkpoint, stateDict }, "half.pth"),
        recorded(checkpoint),
      );
      expect([report.passed, report.tolerance]).toEqual([false, { rule: "relative-to-max", value: 1e-4 }]);
    }
  });

  it("whose output is followed by an operator is one fault, at that output", async () => {
    const negated = rewriteOnnx(
      bytes,
      followed("features", (before) => [onnxNode("features", "Neg", [before])]),
    );
    const { faults } = await verified({ name: "m.onnx", bytes: negated }, recorded(checkpoint, /^$/));
    expect(faults).toMatchObject([{ layer: "fc.2", kind: "structure" }]);
  });
});

it("a recording of images of one colour passes with a warning", async () => {
  const checkpoint = tinyCheckpoint("block");
  const grey = { ...images, data: new Float32Array(images.data.length) };
  const { bytes } = recording(checkpoint, grey, false);
  const { passed, warnings } = await verified({ name: "r.npz", bytes }, openReference(checkpoint));
  expect(passed).toBe(true);
  expect(warnings).toEqual([expect.stringContaining("every image has one colour")]);
  expect((await verified(recorded(checkpoint), openReference(checkpoint))).warnings).toBeUndefined();
});
