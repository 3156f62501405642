import { wholeNumbers } from "../whole-numbers.js";
import { addConstant, constantBehind, type Draft } from "./draft.js";

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
  return addConstant(draft, output, wholeNumbers(known.flatMap((part) => part ?? [-1])));
}
