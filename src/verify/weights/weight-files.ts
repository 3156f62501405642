import type { LayerNode } from "../../arch/index.js";
import { someOf } from "../../core/text.js";
import { type Fault, layerFault } from "../outcome/report.js";

/** A compared constant of a model whose weights are in several files. */
export interface FiledConstant {
  readonly node: LayerNode;
  /** The files that it is in: one that begins in one may end in the next. */
  readonly files: readonly string[];
  readonly differs: boolean;
}

/** The share of a file's constants that differ if it is another: few of two trained networks are the same. */
const MOST = 0.9;

/** Minimum number of constants that differ: two may be those of one layer. */
const MIN_CONSTANTS = 3;

/**
 * The fault of weight files that are not the checkpoint's, such as one that a browser has from an earlier version: nearly all
 * constants in these files differ, and none in the others. Undefined for any other difference.
 */
export function faultOfFiles(constants: readonly FiledConstant[]): Fault | undefined {
  const differing = constants.filter(({ differs }) => differs);
  const [first] = differing;
  const all = [...new Set(constants.flatMap(({ files }) => files))];
  const unlike = all.filter((file) => {
    const inside = constants.filter(({ files }) => files.includes(file));
    return inside.filter(({ differs }) => differs).length >= MOST * inside.length;
  });
  const wrong: string[] = [];
  // A constant that is in two files is explained by the one that explains more.
  let left = differing;
  while (left.length > 0) {
    const [most, ...others] = unlike
      .map((file) => ({ file, count: left.filter(({ files }) => files.includes(file)).length }))
      .filter(({ count }) => count > 0)
      .toSorted((a, b) => b.count - a.count);
    if (!most) return undefined;
    // One constant alone may be a mistake in its layer, or be in other files as well.
    if (most.count < 2 && (wrong.length === 0 || others.length > 0)) return undefined;
    wrong.push(most.file);
    left = left.filter(({ files }) => !files.includes(most.file));
  }
  if (!first || differing.length < MIN_CONSTANTS || wrong.length === all.length) return undefined;
  const inside = constants.filter(({ files }) => files.some((file) => wrong.includes(file)));
  const [which, are] =
    wrong.length === 1
      ? ["file", "it is stale, damaged or another model's"]
      : ["files", "they are stale, exchanged, damaged or another model's"];
  const explanation = `${differing.length} of ${inside.length} constants in the weight ${which} ${someOf(wrong)} differ from the checkpoint's, and none in the ${all.length - wrong.length} other files: ${are}`;
  return layerFault(first.node, "weights", null, explanation);
}
