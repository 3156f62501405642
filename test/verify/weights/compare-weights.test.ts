import { beforeAll, describe, expect, it } from "vitest";
import type { OnnxOptions } from "../../../src/convert/export/onnx.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { chooseQuantization, roundToStored } from "../../../src/convert/formats/tfjs/manifest.js";
import { QUANTIZED_DTYPES, type QuantizedDType } from "../../../src/convert/formats/tfjs/model.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import { liftCheckpoint } from "../../../src/convert/open/lift.js";
import { openModel, type SourceFile } from "../../../src/convert/open/open-file.js";
import type { Shape, StateDict, Tensor } from "../../../src/core/tensor.js";
import { castFloat, isDType, toFloat32, toFloat64 } from "../../../src/core/tensor-cast.js";
import { openVerification } from "../../../src/verify/open.js";
import { verify } from "../../../src/verify/verify.js";
import { compareWeights, type WeightsComparison } from "../../../src/verify/weights/compare-weights.js";
import { locatedInCheckpoint } from "../../../src/verify/weights/located.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { onnxCandidate } from "../../support/candidates.js";
import { convert, openFixture, openReference, SMALL, withTensor, withValues } from "../../support/osnet.js";

let checkpoint: Checkpoint;
beforeAll(() => {
  checkpoint = openFixture();
});

function compare(
  fold: boolean,
  change: (model: OnnxModel) => OnnxModel = (model) => model,
  of: Checkpoint = checkpoint,
  options: OnnxOptions = {},
): WeightsComparison {
  const { graph, stateDict } = of;
  const bytes = convert(of, { fold, ...options });
  const model = change(decodeOnnx(bytes, { subject: "model.onnx" }));
  const { located, results } = onnxCandidate(bytes, model, graph);
  if (!located) throw new Error("a model's layers are located");
  return compareWeights(located, stateDict, { results });
}

const changeTensor =
  (name: string, change: (tensor: Tensor) => Tensor) =>
  (model: OnnxModel): OnnxModel => ({
    ...model,
    graph: { ...model.graph, initializers: withTensor(model.graph.initializers, name, change) },
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

describe("all weights rounded to 16 bits, in float32", () => {
  const tiny = tinyCheckpoint("block");
  const back = (tensor: Tensor, dtype: "float16" | "bfloat16"): Tensor =>
    tensor.dtype === "float32" ? toFloat32(castFloat(tensor, dtype, "w"), "w") : tensor;
  const all = (tensors: ReadonlyMap<string, Tensor>, dtype: "float16" | "bfloat16"): Map<string, Tensor> =>
    new Map([...tensors].map(([name, tensor]) => [name, back(tensor, dtype)]));
  const inFile =
    (dtype: "float16" | "bfloat16") =>
    (model: OnnxModel): OnnxModel => ({
      ...model,
      graph: { ...model.graph, initializers: all(model.graph.initializers, dtype) },
    });

  it.each([
    [true, "float16"],
    [false, "float16"],
    [true, "bfloat16"],
    [false, "bfloat16"],
  ] as const)("is one fault, folded %s: %s", (fold, dtype) => {
    const { faults, ofOneCause } = compare(fold, inFile(dtype), tiny);
    expect(ofOneCause).toBeDefined();
    expect(faults).toHaveLength(1);
    expect(faults[0]?.explanation).toMatch(new RegExp(`rounded to ${dtype}: `));
  });

  it("is one fault if it came before folding, of weights alone too", () => {
    const trainable = (path: string): boolean => !/running/.test(path);
    for (const isRounded of [() => true, trainable, (_: string, { shape }: Tensor) => shape.length > 1]) {
      const stateDict = new Map(
        [...tiny.stateDict].map(([path, tensor]) => [
          path,
          isRounded(path, tensor) ? back(tensor, "float16") : tensor,
        ]),
      );
      const { initializers } = decodeOnnx(convert({ ...tiny, stateDict }), { subject: "m.onnx" }).graph;
      const { faults } = compare(
        true,
        (model) => ({ ...model, graph: { ...model.graph, initializers } }),
        tiny,
      );
      expect(faults).toHaveLength(1);
      expect(faults[0]?.explanation).toContain("float16, before batch norms were folded");
    }
  });

  it("does not hide another wrong constant", () => {
    const { faults } = compare(
      false,
      (model) =>
        changeTensor("conv2.0.conv1.bn.bias", (tensor) => withValues(tensor, { 1: 3 }))(
          inFile("float16")(model),
        ),
      tiny,
    );
    expect(faults.map(({ layer }) => layer)).toEqual(["conv1.conv", "conv2.0.conv1.bn"]);
  });
});

/** The faults of a file with changed weights. */
function faultsOf(
  own: Checkpoint,
  fold: boolean,
  change: (values: Float32Array, path: string, shape: Shape) => Float32Array | undefined,
): WeightsComparison["faults"] {
  const stateDict = new Map(
    [...own.stateDict].map(([path, tensor]): [string, Tensor] => {
      const data = isDType(tensor, "float32") ? change(tensor.data, path, tensor.shape) : undefined;
      return [path, data ? ({ ...tensor, data } as Tensor) : tensor];
    }),
  );
  const { initializers } = decodeOnnx(convert({ ...own, stateDict }, { fold }), { subject: "m.onnx" }).graph;
  return compare(fold, (model) => ({ ...model, graph: { ...model.graph, initializers } }), own).faults;
}

/** Changes every value by a share of the values' size, differently. */
function moved(values: Float32Array, share: number): Float32Array {
  const size = Math.max(...values.map(Math.abs));
  return values.map((value, at) => value + share * size * Math.sin(7 * at + values.length));
}

describe("a cause that constants have in common", () => {
  const tiny = tinyCheckpoint("block");
  const WRONG = "conv2.0.conv2b.1.bn";
  const CAUSES: readonly (readonly [string, RegExp, Parameters<typeof faultsOf>[2]])[] = [
    [
      "statistics of another epoch",
      /^the running statistics of all batch norms/,
      (values, path) =>
        /running_/.test(path) ? values.map((value, at) => 1.1 * value + 0.01 * at + 0.1) : undefined,
    ],
    [
      "new statistics",
      /those of a new batch norm/,
      (values, path) =>
        /running_/.test(path) ? values.map(() => (path.endsWith("var") ? 1 : 0)) : undefined,
    ],
    [
      "another epoch",
      /as after further training/,
      (values, path) => moved(values, /running_/.test(path) ? 0.03 : 1e-3),
    ],
    [
      "8 bits",
      /rounded to 8 bits/,
      (values, _, { length }) => {
        const step = Math.max(...values.map(Math.abs)) / 127;
        return length > 1 ? values.map((value) => step * Math.round(value / step)) : undefined;
      },
    ],
    [
      "pruned weights",
      /^values are 0 that are not in the checkpoint/,
      (values, _, { length }) => {
        const least = values.map(Math.abs).toSorted((a, b) => a - b)[Math.floor(values.length / 3)] ?? 0;
        return length > 1 ? values.map((value) => (Math.abs(value) < least ? 0 : value)) : undefined;
      },
    ],
    [
      "transposed kernels",
      /height and width of the kernel are swapped/,
      (values, _, [, , height = 1, width = 1]) =>
        height > 1
          ? values.map((_, at) => {
              const tap = at % (height * width);
              return values[at - tap + (tap % width) * width + Math.floor(tap / width)] as number;
            })
          : undefined,
    ],
  ];

  it.each(
    CAUSES.flatMap(([name, says, change]) =>
      [true, false].map((fold) => [name, fold, says, change] as const),
    ),
  )("is one fault, and hides no other: %s, folded %s", (_, fold, says, change) => {
    const alone = faultsOf(tiny, fold, change);
    expect(alone).toMatchObject([{ explanation: expect.stringMatching(says) }]);
    const faults = faultsOf(tiny, fold, (values, path, shape) => {
      const all = change(values, path, shape) ?? values;
      return path === `${WRONG}.bias` ? all.map((value) => -value) : all;
    });
    expect(faults).toMatchObject([{ explanation: expect.stringMatching(says) }, { layer: WRONG }]);
  });

  it.each([true, false])("is one fault where nothing explains many layers, folded %s", (fold) => {
    const faults = faultsOf(checkpoint, fold, (values, path, { length }) =>
      length > 1 && path.startsWith("conv4.1.")
        ? values.map((value, at) => (at % 2 ? value : -3 * value))
        : undefined,
    );
    expect(faults).toMatchObject([{ explanation: expect.stringMatching(/in \d+ layers from conv4\.1\./) }]);
  });

  it.each([true, false])("may be an exchange of modules, folded %s", (fold) => {
    const [one, other] = ["conv2.0.conv2b.0", "conv2.0.conv2c.1"];
    const faults = faultsOf(tiny, fold, (_, path) => {
      const from = [
        [one, other],
        [other, one],
      ].find(([to]) => path.startsWith(`${to}.`));
      return from && (tiny.stateDict.get(path.replace(from[0] ?? "", from[1] ?? ""))?.data as Float32Array);
    });
    expect(faults).toMatchObject([{ layer: `${one}.conv1`, cause: "weights-elsewhere" }]);
    expect(faults[0]?.explanation).toContain(`${one} and ${other} have each other's parameters`);
  });

  it("names channels in another order, without the values", () => {
    const faults = faultsOf(tiny, false, (values, path, [rows = 1]) => {
      const size = values.length / rows;
      if (path !== "conv2.0.conv2a.conv1.weight") return undefined;
      return values.map((_, at) => values[(rows - 1 - Math.floor(at / size)) * size + (at % size)] as number);
    });
    expect(faults).toMatchObject([
      { cause: "layout", explanation: expect.stringContaining("reverse order") },
    ]);
  });

  it("is not that a checkpoint of float64 is compared with its copy in float32", async () => {
    const wide = new Map<string, Tensor>();
    for (const [path, tensor] of tiny.stateDict) {
      if (!isDType(tensor, "float32")) continue;
      const { shape, data } = toFloat64(tensor, path);
      wide.set(path, { dtype: "float64", shape, data: data.map((value) => value * (1 + 2 ** -30)) });
    }
    const narrow = new Map([...wide].map(([path, tensor]) => [path, toFloat32(tensor, path)]));
    const results = [tiny.graph.outputs.features];
    const compared = (own: StateDict): WeightsComparison =>
      compareWeights(locatedInCheckpoint(tiny.graph, own), wide, { results });
    expect(compared(narrow)).toMatchObject({ faults: [], isOfSingles: true });
    expect(compared(wide)).toMatchObject({
      faults: [],
      result: { identical: compared(wide).result.compared },
    });
    const file = (stateDict: StateDict): SourceFile => openReference({ ...tiny, stateDict });
    const images = { size: SMALL };
    for (const [own, other] of [
      [narrow, wide],
      [wide, narrow],
    ] as const)
      expect((await verify(await openVerification(file(own), file(other), images))).faults).toEqual([]);
  });
});

describe("a checkpoint against its copy in fewer bits is one fault", () => {
  /** As float16 has all numbers, and tfjs stores weights; some of the fixture's biases are single numbers. */
  const rounded = (dtype: QuantizedDType): StateDict =>
    new Map(
      [...checkpoint.stateDict].map(([path, tensor]) => {
        const isRounded = isDType(tensor, "float32") && (dtype === "float16" || tensor.shape.length > 1);
        return [path, isRounded ? roundToStored(tensor, chooseQuantization(tensor, dtype)) : tensor];
      }),
    );
  const explained = (own: StateDict, other: StateDict): readonly string[] => {
    const { graph } = checkpoint;
    const results = [graph.outputs.features];
    return compareWeights(locatedInCheckpoint(graph, own), other, { results }).faults.map(
      ({ cause, explanation }) => `${cause}: ${explanation.replace(/:.*/, "")}`,
    );
  };

  it.each(QUANTIZED_DTYPES)("%s, of the reference", (dtype) => {
    expect(explained(checkpoint.stateDict, rounded(dtype))).toEqual([
      `weights-rounded: the reference's weights are the candidate's, rounded to ${dtype}`,
    ]);
  });

  it("uint16, of the candidate", () => {
    expect(explained(rounded("uint16"), checkpoint.stateDict)).toEqual([
      "weights-rounded: the weights are rounded to uint16",
    ]);
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

describe("all weights rounded to 8 bits, in float32", () => {
  /** Every weight as the nearest of 255 multiples of a step, of each row or of all; a share of the step more or less. */
  const rounded =
    (of: "row" | "all", off = 0) =>
    (model: OnnxModel): OnnxModel => {
      const initializers = [...model.graph.initializers].map(([name, tensor]) => {
        if (tensor.dtype !== "float32" || tensor.shape.length < 2) return [name, tensor] as const;
        const data = Float32Array.from(tensor.data as Float32Array);
        const size = of === "row" ? data.length / (tensor.shape[0] ?? 1) : data.length;
        for (let start = 0; start < data.length; start += size) {
          const row = data.subarray(start, start + size);
          const step = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
          row.set(row.map((value) => step * (Math.round(value / step) + off)));
        }
        return [name, { ...tensor, data }] as const;
      });
      return { ...model, graph: { ...model.graph, initializers: new Map(initializers) } };
    };

  it.each(["row", "all"] as const)("is one fault: a step for each %s", (of) => {
    const { faults } = compare(false, rounded(of));
    expect(faults).toHaveLength(1);
    expect(faults[0]?.explanation).toContain("rounded to 8 bits");
  });

  it("is not said of weights between the steps", () => {
    const { faults } = compare(false, rounded("all", 0.25));
    expect(faults.length).toBeGreaterThan(1);
    expect(faults.some(({ explanation }) => explanation.includes("8 bits"))).toBe(false);
  });
});
