import { InputError } from "../../../errors.js";

/** The operator set of files written by default: the oldest with `LayerNormalization`, taken by every runtime of today. */
export const DEFAULT_OPSET = 17;

/**
 * The lowest IR version that may carry each operator set, so that the oldest readers accept the file
 * (https://github.com/onnx/onnx/blob/main/docs/Versioning.md, "Released Versions"). 11 is the oldest set in which
 * every operator that we emit has its present meaning; 26 the newest that onnxruntime 1.30 loads.
 */
const IR_VERSIONS: ReadonlyMap<number, number> = new Map([
  [11, 6],
  [12, 7],
  [13, 7],
  [14, 7],
  [15, 8],
  [16, 8],
  [17, 8],
  [18, 8],
  [19, 9],
  [20, 9],
  [21, 10],
  [22, 10],
  [23, 11],
  [24, 12],
  [25, 13],
  [26, 13],
]);

/** The operator sets that files can be written for, oldest and newest. */
export const OPSET_RANGE: readonly [oldest: number, newest: number] = [
  Math.min(...IR_VERSIONS.keys()),
  Math.max(...IR_VERSIONS.keys()),
];

/**
 * The lowest IR version for an operator set.
 *
 * @throws InputError (`argument`) if the operator set is outside `OPSET_RANGE`.
 */
export function irVersionFor(opset: number): number {
  const irVersion = IR_VERSIONS.get(opset);
  if (irVersion === undefined)
    throw new InputError({
      code: "argument",
      subject: "opset",
      found: String(opset),
      expected: `a whole number from ${OPSET_RANGE[0]} to ${OPSET_RANGE[1]}`,
      remedy: `leave it out for opset ${DEFAULT_OPSET}`,
    });
  return irVersion;
}
