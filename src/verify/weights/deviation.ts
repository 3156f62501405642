import type { LayerGraph, LayerNode, ParameterRole } from "../../arch/index.js";
import type { StoredTensor } from "../../convert/formats/tfjs/model.js";
import type { Difference } from "../../convert/import/differences.js";
import type { StateDict } from "../../core/tensor.js";
import { toFloat32 } from "../../core/tensor-cast.js";
import type { Fault } from "../outcome/report.js";
import type { Expected } from "./constants.js";

/** A constant of a candidate that is not the checkpoint's. */
export interface Deviation {
  /** The layer that has it. */
  readonly node: LayerNode;
  /** The layer before it whose weights are in the same products. */
  readonly merged: LayerNode | undefined;
  /** Whether it is a product, of that layer and a batch norm or of a batch norm's own. */
  readonly isProduct: boolean;
  readonly role: ParameterRole;
  /** The number of constants that its layer has. */
  readonly roles: number;
  readonly expected: Expected;
  /** Undefined if the candidate has none. */
  readonly found: StoredTensor | undefined;
  /** As a clause. */
  readonly problem: string;
  /** Whether a constant, by default the candidate's, is this one within what exporters round. */
  readonly is: (expected: Expected | undefined, found?: StoredTensor) => boolean;
  /** What it would be with other parameters, or of other layers. */
  readonly with: (change: Change) => Expected | undefined;
}

interface Change {
  readonly stateDict?: StateDict;
  readonly node?: LayerNode;
  readonly merged?: LayerNode | undefined;
}

/** What constants were compared with. */
export interface ComparedConstants {
  readonly graph: LayerGraph;
  readonly stateDict: StateDict;
  /** How many constants were compared. */
  readonly compared: number;
  /** How many weights of convolutions and linear layers these are, also in products, and of how many batch norms. */
  readonly weights: number;
  readonly norms: number;
  /** The number of batch norms that are folded. */
  readonly folded: number;
  /** Of the structure: a batch norm that a file keeps may have the same ε as the folded ones. */
  readonly differences: readonly Pick<Difference, "layer" | "found">[];
}

/** What a constant may be instead of the checkpoint's, exactly or within rounding. */
export interface Relation {
  readonly cause?: NonNullable<Fault["cause"]>;
  /** As a clause, the same for constants with one cause; undefined if this one is something else. */
  readonly of: (deviation: Deviation) => string | undefined;
  /** Whether a single constant with it may have it by chance, so that it says something only of several. Default: never. */
  readonly isByChance?: (deviation: Deviation) => boolean;
}

/** Whether a constant is the weight of a convolution or linear layer, also in a product. */
export function isOfProducts({
  node: { op },
  merged,
  role,
}: Pick<Deviation, "node" | "merged" | "role">): boolean {
  return role === "weight" && (merged !== undefined || op.kind === "conv" || op.kind === "linear");
}

/** A candidate's constant as numbers; none if it has none. */
export function valuesOf(found: Deviation["found"]): Float32Array {
  return found ? toFloat32(found, "constant").data : new Float32Array();
}

export function areEqual(values: ArrayLike<number>): boolean {
  for (let index = 1; index < values.length; index++) if (values[index] !== values[0]) return false;
  return true;
}

/** Whether all values of a candidate's constant, several, are the same. */
export function isUniform({ found }: Deviation): boolean {
  return found !== undefined && found.data.length > 1 && areEqual(valuesOf(found));
}
