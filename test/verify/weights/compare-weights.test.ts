import { beforeAll, describe, expect, it } from "vitest";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import { liftCheckpoint } from "../../../src/convert/open/lift.js";
import { openModel } from "../../../src/convert/open/open-file.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { toFloat32, toFloat64 } from "../../../src/core/tensor-cast.js";
import { compareWeights, type WeightsComparison } from "../../../src/verify/weights/compare-weights.js";
import { locatedInCheckpoint } from "../../../src/verify/weights/located.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { convert, openFixture, withTensor, withValues } from "../../support/osnet.js";
import { changeTensor, compare } from "./compared.js";

let checkpoint: Checkpoint;
beforeAll(() => {
  checkpoint = openFixture();
});

/** A float32 that is some representable values farther from 0. */
function steps(value: number, count: number): number {
  const array = Float32Array.of(value);
  const bits = new Int32Array(array.buffer);
  bits[0] = (bits[0] ?? 0) + count;
  return array[0] ?? 0;
}

describe("weights that cannot be seen", () => {
  const PATH = "conv2.0.conv2b.1.conv1.weight";
  /** The fixture with a dead channel: its first 16 weights, of 256. */
  const dead = (): Checkpoint => ({
    ...checkpoint,
    stateDict: withTensor(checkpoint.stateDict, PATH, (tensor) => ({
      ...tensor,
      data: Float32Array.from(toFloat64(tensor, PATH).data, (value, index) => (index < 16 ? 1e-41 : value)),
    })),
  });

  it.each([true, false])("may be zeros, which count as the checkpoint's; folded %s", (fold) => {
    const { result, faults, withZeros } = compare(fold, undefined, dead());
    expect(faults).toEqual([]);
    expect(result.identical).toBe(result.compared);
    expect(result.zeroed?.count).toBe(16);
    expect(result.zeroed?.bound).toBeLessThan(2 ** -10);
    expect([...(withZeros?.get(PATH)?.data ?? [])].filter((value) => value === 0)).toHaveLength(16);
  });

  it("may stand as they are", () => {
    const { result, faults } = compare(true, undefined, dead(), { keepDenormals: true });
    expect(faults).toEqual([]);
    expect(result.zeroed).toBeUndefined();
  });

  it("may be zeros in the reference, too", () => {
    const { withZeros } = compare(true, undefined, dead());
    if (!withZeros) throw new Error("no zeros");
    const zeroed = { ...checkpoint, stateDict: withZeros };
    const { result, faults } = compare(true, undefined, zeroed, {}, dead());
    expect(faults).toEqual([]);
    expect(result).toMatchObject({ compared: 316, identical: 316 });
    const { graph, stateDict } = dead();
    const results = [graph.outputs.features];
    const against = (own: StateDict): WeightsComparison =>
      compareWeights(locatedInCheckpoint(graph, own, withZeros), withZeros, { results });
    expect(against(stateDict)).toMatchObject({ faults: [], isOfOwn: true });
    const seen = withTensor(stateDict, PATH, (tensor) => withValues(tensor, { 0: 1e-12 }));
    expect(against(seen).faults).toHaveLength(1);
  });

  it.each([
    ["conv1.bn.bias", 1e-39, 0],
    ["conv1.bn.bias", 1e-37, 1],
    ["conv1.bn.running_mean", 1e-41, 0],
    ["conv1.bn.running_var", 1e-45, 0],
  ])("%s may be 0 for a denormal number, as processors may read it: %s", (path, value, count) => {
    const { graph, stateDict } = checkpoint;
    const [tiny, zero] = [value, 0].map((each) =>
      withTensor(stateDict, path, (tensor) => withValues(tensor, { 2: each })),
    ) as [StateDict, StateDict];
    const results = [graph.outputs.features];
    for (const [own, other] of [
      [tiny, zero],
      [zero, tiny],
    ] as const)
      expect(compareWeights(locatedInCheckpoint(graph, own), other, { results }).faults).toHaveLength(count);
  });

  it("are no leave to set another to zero", () => {
    const { faults } = compare(
      true,
      changeTensor(PATH, (tensor) => withValues(tensor, { 16: 0 })),
      dead(),
    );
    expect(faults.map(({ layer, kind }) => [layer, kind])).toEqual([["conv2.0.conv2b.1.conv1", "weights"]]);
  });

  it("are found from the checkpoint, not from what the file says", () => {
    const zero = changeTensor(PATH, (tensor) => withValues(tensor, { 16: 0 }));
    const lie = (model: OnnxModel): OnnxModel => ({
      ...zero(model),
      metadata: new Map(model.metadata).set("osnet.zeroed", '{"count":1,"bound":0}'),
    });
    expect(compare(true, lie).faults).toHaveLength(1);
  });
});

describe("compareWeights", () => {
  it.each([
    [true, { compared: 316, identical: 316, folded: 80 }],
    [false, { compared: 557, identical: 557, folded: 0 }],
  ])("finds every constant of an honest file, folded %s", (fold, result) => {
    expect(compare(fold)).toEqual({ result, faults: [] });
  });

  it.each([
    [false, "conv1.conv.weight", "conv1.conv", 1, true],
    [false, "conv1.bn.running_var", "conv1.bn", 1, true],
    [true, "conv1.bn.folded.weight", "conv1.bn", 1, false],
    [true, "conv1.bn.folded.weight", "conv1.bn", 3, false],
    [true, "conv1.bn.folded.weight", "conv1.bn", 9, true],
    [true, "conv1.bn.folded.bias", "conv1.bn", 40, true],
  ])(
    "folded %s, %s of %s moved by %i in the last place: a fault is %s",
    (fold, name, layer, count, isFault) => {
      const { result, faults } = compare(
        fold,
        changeTensor(name, (tensor) => withValues(tensor, { 2: steps(Number(tensor.data[2]), count) })),
      );
      expect(result.compared - result.identical).toBe(isFault ? 1 : 0);
      expect(faults.map((fault) => [fault.layer, fault.kind])).toEqual(isFault ? [[layer, "weights"]] : []);
    },
  );

  it("names the parameter, and says how many values differ and by how much", () => {
    const { faults } = compare(
      false,
      changeTensor("fc.0.bias", (tensor) =>
        withValues(tensor, { 0: Number(tensor.data[0]) + 0.5, 9: Number(tensor.data[9]) - 0.25 }),
      ),
    );
    expect(faults.map(({ explanation }) => explanation)).toEqual([
      "fc.0.bias: 2 of 512 values differ from the checkpoint's, by up to 0.500",
    ]);
  });

  it.each([
    [0, "all are 0"],
    [-1, "all are -1 times"],
    [1.5, "all are 1.5 times"],
  ])("says what all values have in common: %s times as large", (factor, says) => {
    const { faults } = compare(
      false,
      changeTensor("conv1.bn.weight", ({ dtype, shape, data }) => ({
        dtype,
        shape,
        data: (data as Float32Array).map((value) => value * factor),
      })),
    );
    expect(faults).toHaveLength(1);
    expect(faults[0]?.explanation).toContain(says);
    expect(faults[0]?.cause).toBeUndefined();
  });

  it("finds a NaN, and zeros of the other sign", () => {
    for (const value of [Number.NaN, -0]) {
      const { faults } = compare(
        false,
        changeTensor("conv1.conv.weight", (tensor) => withValues(tensor, { 0: value })),
      );
      expect(faults).toHaveLength(1);
    }
  });

  it("finds a right tensor at the wrong layer", () => {
    const swap: Readonly<Record<string, string>> = {
      "conv3.0.conv2b.0.conv2.weight": "conv3.0.conv2b.1.conv2.weight",
      "conv3.0.conv2b.1.conv2.weight": "conv3.0.conv2b.0.conv2.weight",
    };
    const { faults } = compare(false, (model) => ({
      ...model,
      graph: {
        ...model.graph,
        nodes: model.graph.nodes.map((node) => ({
          ...node,
          inputs: node.inputs.map((input) => swap[input] ?? input),
        })),
      },
    }));
    expect(faults).toMatchObject([{ layer: "conv3.0.conv2b.0.conv2", cause: "weights-elsewhere" }]);
    expect(faults[0]?.explanation).toMatch(
      /conv2b\.0\.conv2 and conv3\.0\.conv2b\.1\.conv2 have each other's/,
    );
  });

  it("finds a constant that is not there, or of another length", () => {
    const bare = compare(false, (model) => {
      const initializers = new Map(model.graph.initializers);
      initializers.delete("fc.0.bias");
      return { ...model, graph: { ...model.graph, initializers } };
    });
    expect(bare.faults.map(({ explanation }) => explanation)).toContain("fc.0.bias: not in the candidate");
    const short = compare(
      false,
      changeTensor("fc.0.bias", () => ({ dtype: "float32", shape: [3], data: new Float32Array(3) })),
    );
    expect(short.faults.map(({ explanation }) => explanation)).toEqual(["fc.0.bias: 3 values, expected 512"]);
  });
});

describe("a checkpoint imported from a model with folded batch norms", () => {
  const tiny = tinyCheckpoint("block");
  const imported = liftCheckpoint(openModel("onnx", { name: "folded.onnx", bytes: convert(tiny) })).stateDict;
  const results = [tiny.graph.outputs.features];
  const against = (own: StateDict, other: StateDict) =>
    compareWeights(locatedInCheckpoint(tiny.graph, own, other), other, { results });

  it("has the weights of the one that the model was made from, whichever is the candidate", () => {
    for (const [own, other] of [
      [imported, tiny.stateDict],
      [tiny.stateDict, imported],
      [imported, imported],
    ] as const) {
      const { faults, result } = against(own, other);
      expect(faults).toEqual([]);
      expect(result).toMatchObject({ identical: result.compared, folded: expect.any(Number) });
      expect(result.folded).toBeGreaterThan(10);
    }
  });

  it.each(["conv2.0.conv2b.1.conv1.weight", "conv1.bn.bias"])("has one fault if %s is another", (path) => {
    const tensor = imported.get(path);
    if (!tensor) throw new Error(path);
    const { shape, data } = toFloat32(tensor, path);
    const wrong = new Map(imported).set(path, {
      dtype: "float32",
      shape,
      data: data.map((value, index) => (index === 3 ? value * (1 + 2 ** -16) + 2 ** -16 : value)),
    });
    expect(against(wrong, tiny.stateDict).faults).toHaveLength(1);
    expect(against(tiny.stateDict, wrong).faults).toHaveLength(1);
  });
});
