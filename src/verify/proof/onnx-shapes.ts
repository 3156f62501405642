import type { OnnxNode } from "../../convert/formats/onnx/model.js";
import { intOf, type OnnxDocument } from "./onnx-document.js";

/** A size of a shape that a document computes: a number, or the number of images. */
type Size = number | "batch";

/** Whether a node makes [N, C] of [N, C, 1, 1], for every number of images that the document takes. */
export function flattens(node: OnnxNode, document: OnnxDocument, channels: number): boolean {
  const { opType, inputs } = node;
  const [value = "", target = ""] = inputs;
  // An axis of 1 is all that the proof knows: [N, C · 1 · 1].
  if (opType === "Flatten") return true;
  if (opType === "Squeeze") {
    const axes = document.axes(node, 4) ?? [];
    return axes.length === 2 && axes[0] === 2 && axes[1] === 3;
  }
  if (opType !== "Reshape") return false;
  const sizes = sizesOf(target, document, document.origin(value));
  const [rows, columns] = sizes ?? [];
  if (sizes?.length !== 2) return false;
  // 0 copies the size, unless the operator is asked to take it as it is.
  const copies = rows === 0 && intOf(node, "allowzero", 0) === 0;
  const isFixed = rows !== undefined && rows === document.batch;
  if (rows === "batch" || copies || isFixed) return columns === channels || columns === -1;
  return rows === -1 && columns === channels;
}

/** The sizes in a shape, of which the first of `image`'s is the number of images. */
function sizesOf(shape: string, document: OnnxDocument, image: string): readonly Size[] | undefined {
  const { integers, node: nodeOf, constant, origin } = document;
  const known = integers(shape);
  if (known) return constant(shape)?.shape.length === 1 ? known : undefined;
  const node = nodeOf(shape);
  if (node?.opType === "Concat") {
    const parts = node.inputs.map((part) => sizeOf(part));
    return parts.every((part) => part !== undefined) ? parts : undefined;
  }
  return undefined;

  /** A vector of one size. */
  function sizeOf(part: string): Size | undefined {
    const vector = integers(part);
    if (vector) return constant(part)?.shape.length === 1 && vector.length === 1 ? vector[0] : undefined;
    const unsqueeze = nodeOf(part);
    const axes = unsqueeze?.opType === "Unsqueeze" ? document.axes(unsqueeze, 1) : undefined;
    if (!unsqueeze || axes?.length !== 1 || axes[0] !== 0) return undefined;
    const [scalar = ""] = unsqueeze.inputs;
    const number = integers(scalar);
    if (number) return constant(scalar)?.shape.length === 0 ? number[0] : undefined;
    const gather = nodeOf(scalar);
    if (gather?.opType !== "Gather" || intOf(gather, "axis", 0) !== 0) return undefined;
    const [source = "", index = ""] = gather.inputs;
    const sizes = nodeOf(source);
    const isFirst = constant(index)?.shape.length === 0 && integers(index)?.[0] === 0;
    return isFirst && sizes?.opType === "Shape" && origin(sizes.inputs[0] ?? "") === image
      ? "batch"
      : undefined;
  }
}
