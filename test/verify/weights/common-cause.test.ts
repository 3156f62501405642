import { beforeAll, describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { chooseQuantization, roundToStored } from "../../../src/convert/formats/tfjs/manifest.js";
import { QUANTIZED_DTYPES, type QuantizedDType } from "../../../src/convert/formats/tfjs/model.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import type { SourceFile } from "../../../src/convert/open/open-file.js";
import type { StateDict, Tensor } from "../../../src/core/tensor.js";
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
    expect(faults.length).toBeGreaterThan(1);
    expect(faults.some(({ explanation }) => explanation.includes("8 bits"))).toBe(false);
  });
});
