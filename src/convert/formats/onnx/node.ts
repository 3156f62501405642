import type { OnnxAttribute, OnnxNode } from "./model.js";

/** Nodes as code writes them down: with one output, named after it. */

export type OnnxAttributeRecord = Readonly<Record<string, OnnxAttribute>>;

export const int = (value: number): OnnxAttribute => ({ type: "int", value });
export const ints = (...value: readonly number[]): OnnxAttribute => ({ type: "ints", value });
export const float = (value: number): OnnxAttribute => ({ type: "float", value });
export const text = (value: string): OnnxAttribute => ({ type: "string", value });

/** A node, of the standard operators unless a domain is named. */
export function onnxNode(
  output: string,
  opType: string,
  inputs: readonly string[],
  attributes: OnnxAttributeRecord = {},
  domain = "",
): OnnxNode {
  return {
    name: output,
    opType,
    domain,
    inputs,
    outputs: [output],
    attributes: new Map(Object.entries(attributes)),
  };
}
