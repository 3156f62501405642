import { beforeAll, describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { chooseQuantization, roundToStored } from "../../../src/convert/formats/tfjs/manifest.js";
import { QUANTIZED_DTYPES, type QuantizedDType } from "../../../src/convert/formats/tfjs/model.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import type { SourceFile } from "../../../src/convert/open/open-file.js";
import type { Shape, StateDict, Tensor } from "../../../src/core/tensor.js";
import { castFloat, isDType, toFloat32, toFloat64 } from "../../../src/core/tensor-cast.js";
import { openVerification } from "../../../src/verify/open.js";
import { verify } from "../../../src/verify/verify.js";
import { compareWeights, type WeightsComparison } from "../../../src/verify/weights/compare-weights.js";
import { locatedInCheckpoint } from "../../../src/verify/weights/located.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { convert, openFixture, openReference, SMALL, withValues } from "../../support/osnet.js";
import { changeTensor, compare, faultsOf, moved } from "./compared.js";

let checkpoint: Checkpoint;
beforeAll(() => {
  checkpoint = openFixture();
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
    const faults = faultsOf(tinyCheckpoint("osnet"), fold, (values, path, { length }) =>
      length > 1 && path.startsWith("conv2.1.")
        ? values.map((value, at) => (at % 2 ? value : -3 * value))
        : undefined,
    );
    expect(faults).toMatchObject([{ explanation: expect.stringMatching(/in \d+ layers from conv2\.1\./) }]);
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
    expect(compared(narrow)).toMatchObject({ faults: [], isOfOwn: true });
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

/** A network in which every fourth channel has died in training, with numbers down to denormal ones. */
const withDead = (of: Checkpoint): Checkpoint => ({
  ...of,
  stateDict: new Map(
    [...of.stateDict].map(([path, tensor]): [string, Tensor] => {
      if (!isDType(tensor, "float32")) return [path, tensor];
      const { data, shape } = tensor;
      const row = data.length / (shape[0] ?? 1);
      const size = shape.length > 1 ? 1e-39 : /running_/.test(path) ? 1e-44 : 1e-30;
      return [
        path,
        { ...tensor, data: data.map((value, at) => (Math.floor(at / row) % 4 === 3 ? size * value : value)) },
      ];
    }),
  ),
});

/** Each value as the nearest multiple of a power of two that is the number's own, or of one that all have in common. */
const inBits =
  (bits: number, least = 2 ** -149) =>
  (values: Float32Array): Float32Array =>
    values.map((value) => {
      const step = Math.max(least, 2 ** (Math.floor(Math.log2(Math.abs(value))) + 1 - bits));
      return value === 0 ? 0 : step * Math.round(value / step);
    });

describe("a cause in a network with dead channels", () => {
  const trained = withDead(tinyCheckpoint("block"));
  const isWeight = ({ length }: Shape): boolean => length > 1;
  /** Noise of a share of the values' size. */
  const noise =
    (share: number) =>
    (values: Float32Array): Float32Array => {
      const mean = values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length;
      return values.map((value, at) => value + share * mean * Math.sin(7 * at + values.length));
    };
  const CAUSES: readonly (readonly [string, RegExp, Parameters<typeof faultsOf>[2]])[] = [
    ["TF32", /rounded to (11 significant bits|TF32|float16)/, inBits(11)],
    ["bfloat16", /rounded to (bfloat16|8 significant bits)/, inBits(8)],
    [
      "8-bit floats",
      /rounded to 4 significant bits/,
      (values, _, shape) => (isWeight(shape) ? inBits(4, 2 ** -9)(values) : undefined),
    ],
    [
      "three decimals",
      /rounded to 3 decimals/,
      (values, _, shape) =>
        isWeight(shape) ? values.map((value) => Math.round(value * 1000) / 1000) : undefined,
    ],
    [
      "another factor",
      /all are 0\.999 times/,
      (values, _, shape) => (isWeight(shape) ? values.map((value) => value * 0.999) : undefined),
    ],
    [
      "clipped values",
      /clipped to/,
      (values, _, shape) =>
        isWeight(shape) ? values.map((value) => Math.max(-0.1, Math.min(0.1, value))) : undefined,
    ],
    [
      "noise",
      /last digits|throughout/,
      (values, _, shape) => (isWeight(shape) ? noise(1e-5)(values) : undefined),
    ],
    [
      "little noise",
      /last digits/,
      (values, _, shape) => (isWeight(shape) ? noise(1e-6)(values) : undefined),
    ],
    ["the last digits", /last digits/, (values) => values.map((value) => (value / 3) * 3 * (1 + 2 ** -22))],
    [
      "means of 0",
      /running means are 0|all are 0 in the running means/,
      (values, path) => (path.endsWith("running_mean") ? values.map(() => 0) : undefined),
    ],
    [
      "variances of 1",
      /running variances are 1|all are 1 in the running variances/,
      (values, path) => (path.endsWith("running_var") ? values.map(() => 1) : undefined),
    ],
    [
      "other statistics and one value that nobody sees",
      /^the running statistics of all batch norms/,
      (values, path) =>
        /running_/.test(path)
          ? values.map((value, at) => 1.1 * value + 0.01 * at + 0.1)
          : path === "conv2.0.conv2a.conv1.weight"
            ? values.with(values.length - 1, 1e-29)
            : undefined,
    ],
  ];

  it.each(
    CAUSES.flatMap(([name, says, change]) =>
      [true, false].map((fold) => [name, fold, says, change] as const),
    ),
  )("is one fault, and hides no other: %s, folded %s", (_, fold, says, change) => {
    expect(faultsOf(trained, fold, change)).toMatchObject([{ explanation: expect.stringMatching(says) }]);
    const faults = faultsOf(trained, fold, (values, path, shape) => {
      const all = change(values, path, shape) ?? values;
      return path === "conv2.0.conv2b.1.conv1.weight" ? all.with(5, 3) : all;
    });
    expect(faults.map(({ layer }) => layer)).toContain("conv2.0.conv2b.1.conv1");
    expect(faults).toHaveLength(2);
  });
});

describe("a mistake beside one of many layers stays a fault of its own", () => {
  const tiny = tinyCheckpoint("osnet");
  type Change = Parameters<typeof faultsOf>[2];
  const all: Change = (values) => values.map((value) => value * 0.999);
  const epoch: Change = (values, path) => moved(values, /running_/.test(path) ? 0.03 : 1e-3);
  const block: Change = (values, path, { length }) =>
    length > 1 && path.startsWith("conv2.1.")
      ? values.map((value, at) => (at % 2 ? value : -3 * value))
      : undefined;
  const stem = (values: Float32Array): Float32Array => values.map((value) => 255 * value);
  const one = (values: Float32Array): Float32Array => values.with(7, 0.5 + (values[7] ?? 0));

  it.each<readonly [string, string, Change, (values: Float32Array) => Float32Array]>([
    ["a factor of all", "conv1.conv.weight", all, stem],
    ["a factor of all", "conv2.1.conv2b.0.conv1.weight", all, one],
    ["a later epoch", "conv2.1.conv2b.0.conv1.weight", epoch, one],
    ["a later epoch", "fc.0.weight", epoch, (values) => values.toReversed()],
    ["another block", "conv1.conv.weight", block, stem],
    ["another block", "fc.1.bias", block, (values) => values.map((value) => value + 0.5)],
  ])("%s, and one in %s", (_, other, change, mistake) => {
    const faults = faultsOf(tiny, false, (values, path, shape) => {
      const changed = change(values, path, shape) ?? values;
      return path === other ? mistake(changed) : changed;
    });
    expect(faults).toHaveLength(2);
    expect(faults.map(({ layer }) => `${layer}.`)).toContain(other.replace(/(weight|bias)$/, ""));
  });

  it("zeros of all means are not pruned weights", () => {
    const faults = faultsOf(tiny, false, (values, path, { length }) =>
      path.endsWith("running_mean")
        ? values.map(() => 0)
        : length > 1
          ? values.map((value, at) => (at % 3 ? value : 0))
          : undefined,
    );
    expect(faults.map(({ explanation }) => explanation.replace(/:.*/, ""))).toEqual([
      "values are 0 that are not in the checkpoint",
      "all are 0 in the running means",
    ]);
  });

  it.each([true, false])("layers that follow each other are one, folded %s", (fold) => {
    const faults = faultsOf(tiny, fold, (values, path) =>
      path.startsWith("fc.") && !path.endsWith("running_var") ? moved(values, 0.05) : undefined,
    );
    expect(faults).toHaveLength(1);
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
    expect(faults).toHaveLength(1);
    expect(faults[0]?.explanation).not.toContain("8 bits");
  });
});
