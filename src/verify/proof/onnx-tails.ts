import { intOf, type OnnxDocument } from "./onnx-document.js";

/** What may stand behind a result [N, D]: an operation that is named in the report, exactly. */
export interface Tail {
  /** What the operation is of. */
  readonly value: string;
  readonly tail: string;
}

/** A norm's least value is there against a division by zero, and is no norm's value. */
const LARGEST_EPSILON = 1e-6;

/** What an output may be a function of. */
export function tailsOf(document: OnnxDocument, output: string): readonly Tail[] {
  const { node: nodeOf, origin, axes, constant, opset } = document;
  const node = nodeOf(origin(output));
  const [value = ""] = node?.inputs ?? [];
  if (!node) return [];
  if (node.opType === "LpNormalization") return [{ value, tail: "L2-normalised" }];
  // Of two axes, the last one is the default of every operator set.
  if (node.opType === "Softmax") return [{ value, tail: "through a softmax" }];
  if (node.opType === "Sigmoid") return [{ value, tail: "through a sigmoid" }];
  if (node.opType !== "Div") return [];
  // torch.nn.functional.normalize: x / max(‖x‖, ε), the norm repeated over the features.
  let norm = nodeOf(origin(node.inputs[1] ?? ""));
  if (norm?.opType === "Expand") {
    const shape = nodeOf(norm.inputs[1] ?? "");
    if (shape?.opType !== "Shape" || origin(shape.inputs[0] ?? "") !== origin(value)) return [];
    norm = nodeOf(origin(norm.inputs[0] ?? ""));
  }
  let epsilon: number | undefined;
  if (norm?.opType === "Clip") {
    const least = norm.attributes.get("min");
    const tensor = opset < 11 ? undefined : constant(norm.inputs[1]);
    epsilon = opset < 11 && least?.type === "float" ? least.value : Number(tensor?.data[0] ?? Number.NaN);
    if (norm.attributes.has("max") || norm.inputs.length > 2 || !(epsilon > 0 && epsilon <= LARGEST_EPSILON))
      return [];
    norm = nodeOf(origin(norm.inputs[0] ?? ""));
  }
  const isNorm =
    norm?.opType === "ReduceL2" && intOf(norm, "keepdims", 1) === 1 && String(axes(norm, 2)) === "1";
  if (!norm || !isNorm || origin(norm.inputs[0] ?? "") !== origin(value)) return [];
  return [
    { value, tail: `L2-normalised${epsilon === undefined ? "" : `, by at least ${epsilon.toPrecision(2)}`}` },
  ];
}
