import onnxProto from "onnx-proto";
import { expand, parseSpec } from "../../../src/arch/index.js";
import { lowerToOnnx, type OnnxOptions } from "../../../src/convert/export/onnx.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import { seededStateDict } from "../../../src/convert/seeded-weights.js";
import { branched } from "../../convert/import/branched.js";
import type { Seed } from "../mutate/index.js";
import { TINY_SPEC } from "./pth.js";

/** ONNX models to start from. */

const { ModelProto } = onnxProto.onnx;

/** Every kind of attribute, tensor and value that the reader knows, and some that it refuses. */
const everything = ModelProto.encode({
  irVersion: 8,
  opsetImport: [
    { domain: "", version: 17 },
    { domain: "com.microsoft", version: 1 },
  ],
  producerName: "pytorch",
  metadataProps: [{ key: "osnet.spec", value: "{}" }],
  graph: {
    name: "main",
    input: [
      {
        name: "x",
        type: { tensorType: { elemType: 1, shape: { dim: [{ dimParam: "N" }, { dimValue: 3 }] } } },
      },
    ],
    output: [{ name: "y", type: { tensorType: { elemType: 1 } } }],
    initializer: [
      { name: "raw", dims: [2], dataType: 1, rawData: new Uint8Array(8) },
      { name: "typed", dims: [1, 2], dataType: 1, floatData: [1, 2] },
      { name: "ints", dims: [2], dataType: 7, int64Data: [1, -1] },
      { name: "half", dims: [2], dataType: 10, int32Data: [1, 2] },
      { name: "double", dims: [1], dataType: 11, doubleData: [1] },
      { name: "scalar", dims: [], dataType: 9, int32Data: [1] },
    ],
    node: [
      {
        name: "n",
        opType: "Conv",
        input: ["x", "raw"],
        output: ["y"],
        attribute: [
          { name: "f", type: 1, f: 1.5 },
          { name: "i", type: 2, i: 3 },
          { name: "s", type: 3, s: new TextEncoder().encode("SAME") },
          { name: "t", type: 4, t: { dims: [1], dataType: 1, floatData: [1] } },
          { name: "fs", type: 6, floats: [1, 2] },
          { name: "is", type: 7, ints: [1, 2] },
          { name: "ss", type: 8, strings: [new TextEncoder().encode("a")] },
        ],
      },
      {
        opType: "If",
        input: ["c"],
        output: ["z"],
        attribute: [
          {
            name: "then_branch",
            type: 5,
            g: { name: "inner", node: [{ opType: "Identity", input: ["x"], output: ["inside"] }] },
          },
        ],
      },
    ],
  },
}).finish();

const graph = expand(parseSpec(TINY_SPEC, "tiny.json"));
const weights = seededStateDict(graph, 1);

function encodeTiny(options: OnnxOptions): Uint8Array {
  return encodeOnnx(lowerToOnnx(graph, weights, options));
}

/** The same model with its first nodes in a function, branches among them. */
function inFunctions(bytes: Uint8Array): Uint8Array {
  const model = ModelProto.decode(bytes);
  const nodes = model.graph?.node ?? [];
  const body = nodes.slice(0, 12);
  const made = new Set(body.flatMap(({ output }) => output ?? []));
  const read = (list: typeof nodes): readonly string[] =>
    list.flatMap(({ input, attribute }) => [
      ...(input ?? []),
      ...(attribute ?? []).flatMap(({ g }) => (g ? read((g.node ?? []) as typeof nodes) : [])),
    ]);
  const input = [...new Set(read(body))].filter((name) => !made.has(name));
  const rest = nodes.slice(body.length);
  const output = [...new Set(read(rest))].filter((name) => made.has(name));
  return ModelProto.encode({
    ...model,
    opsetImport: [...model.opsetImport, { domain: "own", version: 1 }],
    graph: { ...model.graph, node: [{ opType: "Start", domain: "own", input, output }, ...rest] },
    functions: [{ name: "Start", domain: "own", input, output, node: body }],
  }).finish();
}

function onnxSeeds(
  models: readonly { readonly name: string; readonly bytes: Uint8Array }[],
): readonly Seed[] {
  return models.map(({ name, bytes }) => ({
    name,
    kind: "protobuf",
    parts: [{ kind: "protobuf", bytes }],
    assemble: ([model]) => model ?? new Uint8Array(0),
  }));
}

/** Networks as they are written and folded, in both precisions: to be taken apart again. */
export const LIFT_SEEDS: readonly Seed[] = onnxSeeds([
  { name: "folded", bytes: encodeTiny({}) },
  { name: "unfolded", bytes: encodeTiny({ fold: false }) },
  { name: "with gates", bytes: encodeTiny({ gates: true }) },
  { name: "in branches", bytes: encodeOnnx(branched(lowerToOnnx(graph, weights))) },
  { name: "in functions", bytes: inFunctions(encodeOnnx(branched(lowerToOnnx(graph, weights)))) },
]);

export const ONNX_SEEDS: readonly Seed[] = onnxSeeds([
  { name: "everything", bytes: everything },
  { name: "tiny", bytes: encodeTiny({ gates: true }) },
]);
