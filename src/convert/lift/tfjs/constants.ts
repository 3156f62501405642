import type { Tensor } from "../../../tensor.js";
import { addConstant, constantBehind, type Draft, wholeNumbers } from "./draft.js";

/** The numbers that operators take as constants beside their input: axes, paddings, shapes. */

/** The whole numbers of a constant; undefined for an activation, or one that is not whole. */
export function numbersOf(draft: Draft, name: string | undefined): readonly number[] | undefined {
  const tensor = name === undefined ? undefined : constantBehind(draft, name);
  return tensor && tensor.data.length <= MAX_NUMBERS ? Array.from(tensor.data, Number) : undefined;
}

/** Paddings of four axes are eight; a file may have any number in their place. */
const MAX_NUMBERS = 64;

/** [[before, after], …] as ONNX has it: all that goes before, then all that goes after. */
export function padsOf(draft: Draft, name: string | undefined): readonly number[] | undefined {
  const pairs = numbersOf(draft, name);
  return pairs && [0, 1].flatMap((end) => pairs.filter((_, index) => index % 2 === end));
}

/**
 * A shape put together while the graph runs, as a constant: what is not known beforehand, the size of the batch, is −1.
 * Undefined if that is more than one number.
 */
export function shapeOf(draft: Draft, parts: readonly string[], output: string): string | undefined {
  const known = parts.map((part) => numbersOf(draft, part));
  const isShape = known.filter((part) => !part).length <= 1 && known.flat().every(Number.isInteger);
  if (!isShape || known.every((part) => !part)) return undefined;
  return addConstant(draft, output, wholeNumbers(...known.flatMap((part) => part ?? [-1])));
}

/** A batch norm, with the names of its constants in ONNX's order. */
export interface WrittenBatchNorm {
  readonly inputs: readonly string[];
  readonly epsilon: number;
}

/**
 * (x − μ)·s + β or x·s + (β − μ·s), s = γ / √(σ² + ε) of constants, as a graph has it that nobody has computed beforehand:
 * then the four parameters are there, and not only what becomes of them.
 */
export function batchNormOf(draft: Draft, a: string, b: string): WrittenBatchNorm | undefined {
  return writtenBatchNorm(draft, a, b) ?? writtenBatchNorm(draft, b, a);
}

function writtenBatchNorm(draft: Draft, product: string, shift: string): WrittenBatchNorm | undefined {
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
  const tensor: Tensor | undefined = name === undefined ? undefined : constantBehind(draft, name);
  return tensor?.shape.length === 1;
}
