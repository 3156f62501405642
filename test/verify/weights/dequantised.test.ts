import { describe, expect, it } from "vitest";
import { int, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { withoutNames } from "../../mutation/candidates.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import type { OnnxEdit } from "../../mutation/onnx-edits.js";
import { convert, openFixture, openReference, rewriteOnnx, SMALL } from "../../support/osnet.js";

/** Constants in whole numbers behind DequantizeLinear, which are held to half a step of the checkpoint's. */

const checkpoint = tinyCheckpoint("block");
const reference = openReference(checkpoint);

/** A constant as int8, with one step for all or one for each row. */
function dequantised(wanted: RegExp, stepOf: (row: Float32Array) => number, byRow = false): OnnxEdit {
  return (model) => {
    const initializers = new Map(model.graph.initializers);
    const nodes = [...model.graph.nodes];
    for (const [name, tensor] of model.graph.initializers) {
      if (!wanted.test(name) || tensor.dtype !== "float32" || tensor.shape.length < 2) continue;
      const values = tensor.data as Float32Array;
      const rows = byRow ? (tensor.shape[0] ?? 1) : 1;
      const size = values.length / rows;
      const steps = Float32Array.from({ length: rows }, (_, row) =>
        stepOf(values.subarray(row * size, (row + 1) * size)),
      );
      const stepAt = (index: number): number => steps[Math.floor(index / size)] ?? 1;
      initializers.delete(name);
      const whole: Tensor = {
        dtype: "int8",
        shape: tensor.shape,
        data: Int8Array.from(values, (value, index) => Math.round(value / stepAt(index))),
      };
      initializers.set(`${name}.whole`, whole);
      initializers.set(`${name}.step`, { dtype: "float32", shape: byRow ? [rows] : [], data: steps });
      nodes.unshift(
        onnxNode(name, "DequantizeLinear", [`${name}.whole`, `${name}.step`], byRow ? { axis: int(0) } : {}),
      );
    }
    return { ...model, graph: { ...model.graph, nodes, initializers } };
  };
}

async function judged(edit: OnnxEdit, isNamed: boolean, network = checkpoint): Promise<ParityReport> {
  const bytes = rewriteOnnx(convert(network, { opset: 17 }), edit);
  const file = { name: "m.onnx", bytes: isNamed ? bytes : rewriteOnnx(bytes, withoutNames) };
  const against = network === checkpoint ? reference : openReference(network);
  return verify(await openVerification(file, against, { size: SMALL }));
}

const largest = (row: Float32Array): number =>
  row.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const fair = (row: Float32Array): number => largest(row) / 127;
const gate = /^conv2\.0\.gate\.fc2\.weight$/;

describe.each([true, false])("weights after DequantizeLinear, names kept: %s", (isNamed) => {
  it.each([false, true])(
    "in steps that eight bits need are within half of one, by row: %s",
    async (byRow) => {
      const { weights, faults } = await judged(dequantised(gate, fair, byRow), isNamed);
      expect(weights?.quantised).toBe(3);
      // The layer computes with other numbers than the checkpoint's.
      expect(faults.map(({ kind }) => kind)).not.toContain("structure");
      expect(JSON.stringify(faults)).not.toContain("steps");
    },
  );

  it.each([
    ["a thousand", () => 1000],
    ["three times as wide", (row: Float32Array) => 3 * fair(row)],
  ])("in steps of %s are other weights, once", async (_, stepOf) => {
    // By row where names are kept, and as a whole where not; a thousand the other way round.
    const byRow = isNamed === stepOf.length > 0;
    const { passed, faults } = await judged(dequantised(gate, stepOf, byRow), isNamed);
    expect(passed).toBe(false);
    expect(faults).toMatchObject([
      {
        kind: "weights",
        explanation: expect.stringContaining("steps that are larger than its range requires"),
      },
    ]);
  });

  it.runIf(isNamed)("in steps of a thousand are other weights where each row is one number", async () => {
    const network = openFixture();
    expect(network.stateDict.get("conv2.0.gate.fc2.weight")?.shape).toEqual([16, 1, 1, 1]);
    const { faults } = await judged(
      dequantised(gate, () => 1000, true),
      isNamed,
      network,
    );
    expect(faults[0]?.explanation).toContain("steps that are larger than its range requires");
    const right = await judged(dequantised(gate, fair, true), isNamed, network);
    expect(JSON.stringify(right.faults)).not.toContain("steps");
  });

  it("are the fault of a layer that alone has them", async () => {
    const { faults } = await judged(dequantised(/^conv2\.0\.conv2a\.conv1\.weight$/, fair), isNamed);
    expect(faults).toMatchObject([
      { layer: "conv2.0.conv2a.conv1", kind: "weights", explanation: expect.stringContaining("quantised") },
    ]);
  });

  it("are one fault where all of them are in whole numbers", async () => {
    const { passed, faults } = await judged(dequantised(/weight$/, fair), isNamed);
    expect(passed).toBe(false);
    expect(faults).toMatchObject([
      { kind: "numeric", explanation: expect.stringContaining("are quantised") },
    ]);
  });
});
