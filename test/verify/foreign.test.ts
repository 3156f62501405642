import { beforeAll, describe, expect, it } from "vitest";
import type { Checkpoint } from "../../src/convert/checkpoint.js";
import { decodeOnnx, encodeOnnx, type OnnxModel } from "../../src/convert/formats/onnx/index.js";
import { openVerification } from "../../src/verify/open.js";
import type { ParityReport } from "../../src/verify/report.js";
import { verify } from "../../src/verify/verify.js";
import { anonymous, dropNode, replaceNode } from "../convert/lift/graphs.js";
import { missing, readFixture } from "../fixtures.js";
import { convert, openFixture, withTensor, withValues } from "../support/osnet.js";

/** Files without a word about their architecture, and without a name that means anything. */

let checkpoint: Checkpoint;
beforeAll(() => {
  checkpoint = openFixture();
});

const REFERENCE = "osnet_x0_25.pth";

async function report(candidate: Uint8Array, reference = REFERENCE): Promise<ParityReport> {
  return verify(
    await openVerification(
      { name: "theirs.onnx", bytes: candidate },
      { name: reference, bytes: readFixture(reference) },
    ),
  );
}

function theirs(fold: boolean, change: (model: OnnxModel) => OnnxModel = (model) => model): Uint8Array {
  const model = decodeOnnx(convert(checkpoint, { fold }), { subject: "m.onnx" });
  return encodeOnnx(anonymous(change(model)));
}

describe("a file of another exporter", () => {
  it.each([
    [true, { compared: 378, folded: 80 }, { compared: 316, identical: 316, folded: 80 }],
    [false, { compared: 458, folded: 0 }, { compared: 557, identical: 557, folded: 0 }],
  ])("is compared layer by layer, folded %s", async (fold, { compared, folded }, weights) => {
    const { passed, faults, coverage, gates, output, ...rest } = await report(theirs(fold));
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
    expect(coverage).toMatchObject({ expected: 458, compared, missing: [] });
    expect(coverage.folded).toHaveLength(folded);
    expect(gates).toHaveLength(24);
    expect(rest.weights).toEqual(weights);
    expect(output).toMatchObject({ layer: "fc.2", status: "pass" });
    expect(output?.tappingMaxAbs).not.toBeNull();
  });

  it("is compared with a recording, whose names tell how modules are called", async () => {
    const { passed, coverage } = await report(theirs(true), "osnet_x0_25.64x32.npz");
    expect([passed, coverage.compared]).toEqual([true, 365]);
  });

  it("fails by its structure, naming the layer", async () => {
    const layer = "conv3.1.gate[2].gate_activation";
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

  it("blames nothing behind a layer that it lacks", async () => {
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

describe("torch's exports", () => {
  it.for([
    ["real/osnet_x0_25_msmt17.torch2.8.onnx", "real/osnet_x0_25_msmt17.pth", 320],
    ["osnet_x0_25.torch1.13.op9.onnx", "osnet_x0_25.pth", 320],
    ["osnet_x0_25.torch1.13.static_unnamed.onnx", "osnet_x0_25.pth", 320],
    ["osnet_ain_x0_25.torch1.13.op12.unfolded.onnx", "osnet_ain_x0_25.pth", 547],
    ["osnet_nas_x0_25.torch1.13.op12.onnx", "osnet_nas_x0_25.pth", 329],
    ["osnet_x0_25.torch1.13.op12.onnx", "osnet_x0_25.256x128.npz", null],
  ] as const)("%s agrees with %s", async ([onnx, reference, weights], context) => {
    const absent = missing(onnx, reference);
    if (absent) return context.skip(absent);
    const { passed, faults, gates, weights: compared } = await report(readFixture(onnx), reference);
    expect(faults).toEqual([]);
    expect([passed, gates.length]).toEqual([true, 24]);
    expect(compared?.identical ?? null).toBe(weights);
  });

  it("of another checkpoint does not", async (context) => {
    const absent = missing("real/osnet_x0_25_msmt17.torch2.8.onnx");
    if (absent) return context.skip(absent);
    const { passed, weights } = await report(readFixture("real/osnet_x0_25_msmt17.torch2.8.onnx"));
    expect(passed).toBe(false);
    expect(weights?.identical).toBeLessThan(5);
  });
});
