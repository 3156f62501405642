import { InputError } from "../../../errors.js";
import type { DType } from "../../../tensor.js";
import type { OnnxDimension, OnnxModel, OnnxValue } from "../../formats/onnx/index.js";
import { nodeOf, type TfjsGraphModel, type TfjsNode, type TfjsShape } from "../../formats/tfjs/index.js";
import { createDraft, modelOf } from "./draft.js";
import { translateNode, valueName } from "./operators/index.js";
import { inOrder } from "./order.js";
import { aboutTfjs } from "./producer.js";

/**
 * A TensorFlow graph in ONNX's words, for matching: values are called as its nodes.
 *
 * @throws InputError (`format`) if the graph has a circle, or a constant without its numbers
 */
export function translateGraph(model: TfjsGraphModel, subject: string): OnnxModel {
  const { nodes, weights, signature } = model;
  const draft = createDraft();
  for (const [name, { tensor, stored }] of weights)
    draft.constants.set(name, stored ? { ...tensor, stored } : tensor);
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const later = laterOutputs(nodes);
  const inputs: OnnxValue[] = [];
  for (const node of inOrder(byName, ({ inputs }) => inputs.map(nodeOf), subject)) {
    if (node.op === "Const") expectNumbers(node, weights, subject);
    else if (node.op === "Placeholder") inputs.push(inputValue(node, signature));
    else translateNode(draft, node, later.get(node.name) ?? []);
  }
  const declared = [...signature.outputs.values()].map(({ name }) => valueName(name));
  return modelOf(draft, inputs, declared.length > 0 ? declared : unread(nodes), aboutTfjs(model));
}

/** By node, those of its outputs behind the first that anybody reads, as these are called. */
function laterOutputs(nodes: readonly TfjsNode[]): ReadonlyMap<string, readonly string[]> {
  const read = new Set(nodes.flatMap(({ inputs }) => inputs.filter((input) => /:0*[1-9]\d*$/.test(input))));
  const later = new Map<string, string[]>();
  for (const output of read) {
    const known = later.get(nodeOf(output));
    if (known) known.push(output);
    else later.set(nodeOf(output), [output]);
  }
  return later;
}

/** What no other node reads. */
function unread(nodes: readonly TfjsNode[]): readonly string[] {
  const read = new Set(nodes.flatMap(({ inputs }) => inputs.map(nodeOf)));
  return nodes.filter(({ name, op }) => !read.has(name) && op !== "NoOp").map(({ name }) => name);
}

function expectNumbers({ name }: TfjsNode, weights: TfjsGraphModel["weights"], subject: string): void {
  if (weights.has(name)) return;
  throw new InputError({
    code: "format",
    subject,
    found: `a constant ${JSON.stringify(name.slice(0, 80))} without numbers`,
    expected: "a weight of its name in the weights manifest",
    remedy: "convert the model again",
  });
}

const DTYPES: Readonly<Record<string, DType>> = {
  DT_FLOAT: "float32",
  DT_DOUBLE: "float64",
  DT_HALF: "float16",
  DT_UINT8: "uint8",
  DT_INT8: "int8",
  DT_INT32: "int32",
};

function inputValue({ name, attributes }: TfjsNode, { inputs }: TfjsGraphModel["signature"]): OnnxValue {
  const declared = [...inputs.values()].find((info) => nodeOf(info.name) === name);
  const [shape, type] = [attributes.get("shape"), attributes.get("dtype")];
  const dtype = DTYPES[declared?.dtype ?? (type?.type === "dtype" ? type.value : "")];
  const sizes = declared?.shape ?? (shape?.type === "shape" ? shape.value : null);
  return { name, ...(dtype ? { dtype } : {}), ...(sizes ? { shape: dimensions(sizes) } : {}) };
}

function dimensions(shape: NonNullable<TfjsShape>): readonly OnnxDimension[] {
  return shape.map((size) => (size < 0 ? null : size));
}
