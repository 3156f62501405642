import { describe, expect, it } from "vitest";
import { expand, type OsnetSpec, PARAMETER_SHAPES } from "../../../src/arch/index.js";
import { lowerToOnnx, type OnnxOptions, OPSET_RANGE } from "../../../src/convert/export/onnx.js";
import type { OnnxNode } from "../../../src/convert/formats/onnx/model.js";
import { NHWC_DOMAIN } from "../../../src/convert/import/operators/layouts.js";
import { DOMAINS } from "../../../src/convert/import/operators/readers.js";
import { parametersFor, SMALL_SPEC } from "../export/graphs.js";
import { NODE_CASES } from "./node-cases.js";
import { refusalOf } from "./node-refusals.js";

/** Every operator that we write or read has a case of which ONNX or onnxruntime computed the result. */

const OTHER_SPEC: OsnetSpec = {
  ...SMALL_SPEC,
  dialect: "osnet_ain",
  stem: { channels: 8, norm: "instance" },
  gate: { reduction: 4, activation: "sigmoid", layerNorm: true },
  pooling: "max",
  head: { classes: 5, loss: "sigmoid" },
};
const FAMILIES = [SMALL_SPEC, OTHER_SPEC].map(expand);

const OPTIONS: readonly OnnxOptions[] = [
  { fold: true },
  { fold: false, output: "both", gates: true },
  { preprocess: "rgb", size: "dynamic" },
  { preprocess: "bgr", ioDtype: "float16" },
  { dtype: "float16", preprocess: "bgr" },
  { dtype: "float16", ioDtype: "float16" },
];

const [oldest, newest] = OPSET_RANGE;
const OPSETS = Array.from({ length: newest - oldest + 1 }, (_, index) => oldest + index);

const nameOf = (opType: string, domain = ""): string => (domain === "" ? opType : `${domain}.${opType}`);

/** An operator as a node uses it: by its name, by how many inputs it has, by each attribute. */
function usesOf({ opType, domain, inputs, attributes }: OnnxNode): readonly string[] {
  const name = nameOf(opType, domain);
  return [name, `${name} of ${inputs.length}`, ...[...attributes.keys()].map((key) => `${name} with ${key}`)];
}

const covered = new Set(
  NODE_CASES.filter((test) => !refusalOf(test)).flatMap(({ model }) => model.graph.nodes.flatMap(usesOf)),
);

function written(): readonly string[] {
  const nodes = FAMILIES.flatMap((graph) => {
    const stateDict = parametersFor(graph);
    return OPSETS.flatMap((opset) =>
      OPTIONS.flatMap((options) => lowerToOnnx(graph, stateDict, { ...options, opset }).graph.nodes),
    );
  });
  return [...new Set(nodes.flatMap(usesOf))];
}

/** Operators that mean something only together (decompositions.ts, pieces.ts). */
const PARTS =
  "Abs Celu Clip Elu Equal Exp Expand Greater GreaterOrEqual LeakyRelu Less LessOrEqual Max Min Neg Not PRelu Pow Reciprocal ReduceL2 ReduceMean ReduceSum Resize Selu Softsign Split Sqrt Sub ThresholdedRelu Tile Upsample Where".split(
    " ",
  );

/** Operators with readers of their own, those that only mean something together, and the one that chooses. */
const READ = [
  ...new Set([
    "If",
    ...Object.entries(DOMAINS).flatMap(([domain, readers]) =>
      Object.entries(readers)
        .filter(([opType, reader]) => domain === "" || reader !== DOMAINS[""]?.[opType])
        .map(([opType]) => nameOf(opType, domain)),
    ),
    ...PARTS,
  ]),
];

/** Operators without a case, and why. */
const WITHOUT_A_CASE: Readonly<Record<string, string>> = {
  [nameOf("Conv", NHWC_DOMAIN)]:
    "no runtime executes this domain from a file; TensorFlow's graphs are read as it, and tested with TensorFlow.js",
  ...Object.fromEntries(
    "Celu Elu Greater GreaterOrEqual LeakyRelu Less LessOrEqual Min PRelu Resize Selu Split ThresholdedRelu Upsample Where"
      .split(" ")
      .map((opType) => [
        opType,
        "a ReLU, or nothing at all, by some of its numbers, and else no layer: verify/candidate/spellings-of-activations.test.ts runs it in onnxruntime",
      ]),
  ),
  Einsum:
    "other operators by its equation: verify/candidate/spellings-of-products.test.ts runs it in onnxruntime",
  Exp: "a part of a sigmoid that is spelled out: verify/one-finding.test.ts runs it in onnxruntime",
  ConvTranspose:
    "a convolution where it takes every pixel, and else no layer: verify/one-finding.test.ts runs it in onnxruntime",
  Softmax:
    "an operation behind the logits, which the verdict computes: verify/candidate/accounted.test.ts runs it in onnxruntime",
  Softsign: "a part of the instance norm of our own layers models, which are tested with TensorFlow.js",
};

describe("ONNX's node tests cover", () => {
  it("every kind of layer, in the networks that are written here", () => {
    const kinds = new Set(FAMILIES.flatMap(({ nodes }) => nodes.map(({ op }) => op.kind)));
    expect([...kinds].sort()).toEqual(Object.keys(PARAMETER_SHAPES).sort());
  });

  it("every operator that is written, with its inputs and attributes", () => {
    expect(written().filter((use) => !covered.has(use))).toEqual([]);
  });

  it("every operator that is read, but for those with a reason", () => {
    expect(READ.filter((name) => !covered.has(name)).sort()).toEqual(Object.keys(WITHOUT_A_CASE).sort());
  });
});
