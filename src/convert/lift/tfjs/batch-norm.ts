import { float, type OnnxAttributeRecord } from "../../formats/onnx/index.js";
import { numbersOf } from "./constants.js";
import { add, constantBehind, type Draft, domainOf } from "./draft.js";

/** A batch norm, with the names of its input and its constants in ONNX's order. */
export interface BatchNorm {
  readonly inputs: readonly string[];
  readonly epsilon: number;
}

export function addBatchNorm(
  draft: Draft,
  { inputs, epsilon }: BatchNorm,
  output: string,
  channelsFirst: boolean,
  attributes: OnnxAttributeRecord = {},
): string {
  const all = { epsilon: float(epsilon), ...attributes };
  return add(draft, "BatchNormalization", inputs, output, all, domainOf(channelsFirst));
}

/**
 * (x − μ)·s + β or x·s + (β − μ·s), s = γ / √(σ² + ε) of constants, as a graph has it that nobody has computed beforehand:
 * then the four parameters are there, and not only what becomes of them.
 */
export function batchNormOf(draft: Draft, a: string, b: string): BatchNorm | undefined {
  return writtenBatchNorm(draft, a, b) ?? writtenBatchNorm(draft, b, a);
}

function writtenBatchNorm(draft: Draft, product: string, shift: string): BatchNorm | undefined {
  for (const [value, factor] of pairsOf(draft, product, "Mul")) {
    const scale = scaleOf(draft, factor);
    if (!scale) continue;
    const { weight, variance, epsilon } = scale;
    const [x, mean] = operands(draft, value, "Sub");
    if (x && isVector(draft, mean) && isVector(draft, shift))
      return { inputs: [x, weight, shift, mean, variance], epsilon };
    const [offset, moved] = operands(draft, shift, "Sub");
    const [by] =
      moved === undefined ? [] : pairsOf(draft, moved, "Mul").filter(([, other]) => other === factor);
    if (isVector(draft, offset) && by && isVector(draft, by[0]))
      return { inputs: [value, weight, offset, by[0], variance], epsilon };
  }
  return undefined;
}

/** γ · (1 / √(σ² + ε)). */
function scaleOf(
  draft: Draft,
  name: string,
): { readonly weight: string; readonly variance: string; readonly epsilon: number } | undefined {
  for (const [inverse, weight] of pairsOf(draft, name, "Mul")) {
    const [root] = operands(draft, inverse, "Reciprocal");
    const [sum] = root === undefined ? [] : operands(draft, root, "Sqrt");
    for (const [variance, stabilizer] of sum === undefined ? [] : pairsOf(draft, sum, "Add")) {
      const [epsilon, ...others] = numbersOf(draft, stabilizer) ?? [];
      if (epsilon === undefined || others.length > 0) continue;
      if (isVector(draft, weight) && isVector(draft, variance)) return { weight, variance, epsilon };
    }
  }
  return undefined;
}

/** The operands of an operator of two, either way round; of none, if the value is another's. */
function pairsOf(draft: Draft, name: string, opType: string): readonly (readonly [string, string])[] {
  const [a, b] = operands(draft, name, opType);
  if (a === undefined || b === undefined) return [];
  return [
    [a, b],
    [b, a],
  ];
}

function operands({ writers }: Draft, name: string, opType: string): readonly string[] {
  const writer = writers.get(name);
  return writer?.opType === opType ? writer.inputs : [];
}

function isVector(draft: Draft, name: string | undefined): name is string {
  return name !== undefined && constantBehind(draft, name)?.shape.length === 1;
}
