import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import type { Op } from "../../../src/arch/index.js";
import type { OnnxAttribute, OnnxModel } from "../../../src/convert/formats/onnx/index.js";
import { compareOps } from "../../../src/convert/lift/differences.js";
import type { ForeignNode } from "../../../src/convert/lift/foreign.js";
import { normalise } from "../../../src/convert/lift/normalise.js";
import type { RealTensor, Tensor } from "../../../src/tensor.js";
import { evaluateLayer } from "../../../src/verify/reference/evaluate-layer.js";
import { float64Parameters } from "../../../src/verify/reference/parameters.js";
import { readFixture } from "../../fixtures.js";

/** The ONNX project's own node tests: each is read as a layer, and the layer computed in float64. */

interface Stored {
  readonly dtype: "float32" | "int64";
  readonly shape: readonly number[];
  readonly data: string;
}
interface Case {
  readonly name: string;
  readonly opset: number;
  readonly opType: string;
  readonly inputs: readonly (number | null)[];
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
  readonly tensors: readonly Stored[];
  readonly expected: Stored;
}

const { cases } = JSON.parse(gunzipSync(readFixture("onnx-node-cases.json.gz")).toString()) as {
  readonly cases: readonly Case[];
};

function stored({ dtype, shape, data }: Stored): Tensor {
  const bytes = Uint8Array.from(Buffer.from(data, "base64")).buffer;
  return dtype === "float32"
    ? { dtype, shape, data: new Float32Array(bytes) }
    : { dtype, shape, data: new BigInt64Array(bytes) };
}

/** Operators between activations; of the others every input but the first is a constant, as in an OSNet. */
const JOINS: readonly string[] = ["Add", "Mul", "Sum"];

function modelOf({ opset, opType, inputs, attributes, tensors }: Case): OnnxModel {
  const isImage = (index: number): boolean => index === 0 || JOINS.includes(opType);
  const values = tensors.map((tensor, index) => ({ name: `x${index}`, ...stored(tensor) }));
  return {
    irVersion: 10,
    opset,
    customOpsets: new Map(),
    producer: { name: "", version: "" },
    metadata: new Map(),
    graph: {
      name: "",
      inputs: values
        .filter((_, index) => isImage(index))
        .map(({ name, dtype, shape }) => ({ name, dtype, shape })),
      initializers: new Map(
        values.filter((_, index) => !isImage(index)).map(({ name, ...tensor }) => [name, tensor]),
      ),
      nodes: [
        {
          name: "",
          opType,
          domain: "",
          inputs: inputs.map((index) => (index === null ? "" : `x${index}`)),
          outputs: ["y"],
          attributes: new Map(Object.entries(attributes)),
        },
      ],
      outputs: [{ name: "y" }],
    },
  };
}

/** The operation in `arch` that a node is, or undefined for what no layer of an OSNet may be. */
function layerOf({ op, form }: ForeignNode): Op | undefined {
  const channels = form.channels ?? 0;
  switch (op.kind) {
    case "conv":
    case "maxPool":
    case "avgPool": {
      const [top, left] = op.padding;
      const bias = false;
      const layer = { ...op, bias, padding: [top, left] } as Op;
      const node = { op, inputs: [], constants: {}, form, value: "y" };
      const departs = compareOps({ name: "", op: layer, inputs: [], parameters: {} }, node).length > 0;
      return departs || op.autoPad ? undefined : layer;
    }
    case "linear":
    case "relu":
    case "sigmoid":
    case "add":
    case "globalAvgPool":
    case "globalMaxPool":
      return op;
    case "batchNorm":
    case "instanceNorm":
      return { ...op, channels };
    default:
      return undefined;
  }
}

/** Four axes, as layers want them, unless they are [N, C]. */
const spread = (shape: readonly number[]): readonly number[] => (shape.length === 3 ? [1, ...shape] : shape);

/** What the case's result is by our reading; undefined where we read no layer. */
function evaluated(test: Case): Tensor<"float64"> | "input" | undefined {
  const node = normalise(modelOf(test), "case").outputs[0]?.node;
  if (node?.op.kind === "input") return "input";
  const op = node && layerOf(node);
  if (!op || !node.inputs.every((input) => input.op.kind === "input")) return undefined;
  const inputs = node.inputs.map((input): RealTensor => {
    const tensor = stored(test.tensors[Number(input.value?.slice(1))] as Stored) as Tensor<"float32">;
    return { ...tensor, shape: spread(tensor.shape) };
  });
  const constants = Object.entries(node.constants) as [string, Tensor][];
  const withBias = op.kind === "conv" ? { ...op, bias: "bias" in node.constants } : op;
  const parameters = Object.fromEntries(constants.map(([role]) => [role, role]));
  // A linear layer always has a bias in `arch`.
  const none = op.kind === "linear" && !("bias" in node.constants);
  if (none)
    constants.push([
      "bias",
      { dtype: "float32", shape: [op.outFeatures], data: new Float32Array(op.outFeatures) },
    ]);
  return evaluateLayer(
    { name: "y", op: withBias, inputs: [], parameters: none ? { ...parameters, bias: "bias" } : parameters },
    inputs,
    float64Parameters(new Map(constants)),
    spread(test.expected.shape),
  );
}

/** Uses of an operator that no layer of an OSNet has: they must not be taken for one. */
const REFUSED = [
  /^test_(average|max)pool_1d_/,
  /^test_averagepool_2d_(ceil|dilations|precomputed_pads|precomputed_same)/,
  /^test_batchnorm_.*training_mode$/,
  // With 0 as its lower bound alone it is a ReLU.
  /^test_clip(?!_default_min)/,
  /^test_flatten_/,
  /^test_gemm_(all_attributes|alpha|beta|default_matrix_bias|transposeA)$/,
  /^test_matmul_(?!2d)/,
  /^test_maxpool_2d_(ceil|dilations)/,
  // Two maps, of which neither is a gate.
  /^test_mul$/,
];

describe("ONNX's node tests", () => {
  it.each(cases.filter(({ name }) => !REFUSED.some((pattern) => pattern.test(name))))("$name", (test) => {
    const expected = stored(test.expected).data as Float32Array;
    const result = evaluated(test);
    if (result === "input") return expect(test.tensors[0]?.data).toBe(test.expected.data);
    const { data } = result ?? { data: new Float64Array() };
    expect(data.length).toBe(expected.length);
    const scale = Math.max(1, ...expected.map(Math.abs));
    for (const [index, value] of expected.entries())
      expect(Math.abs((data[index] as number) - value), `element ${index}`).toBeLessThan(1e-5 * scale);
  });

  it.each(cases.filter(({ name }) => REFUSED.some((pattern) => pattern.test(name))))(
    "$name is no layer of an OSNet",
    (test) => {
      expect(evaluated(test)).toBeUndefined();
    },
  );
});
