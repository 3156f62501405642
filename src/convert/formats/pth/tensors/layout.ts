import type { DType, Shape } from "../../../../tensor.js";
import type { PickleValue, Storage } from "../pickle/values.js";

/** Where a tensor's elements are: element `i` is at `offset + Σ iₐ·strideₐ` elements into the storage. */
export interface TensorRef {
  readonly dtype: DType;
  readonly elementBytes: number;
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: Shape;
  readonly strides: readonly number[];
}

/** Why a tensor cannot be used, as the end of a sentence about it; `format` when no honest writer makes it. */
export interface TensorProblem {
  readonly code: "format" | "unsupported";
  readonly text: string;
}

/** No network's tensors have more than 5 dimensions. With `MAX_SIZE` it keeps products of sizes finite. */
const MAX_RANK = 16;
const MAX_SIZE = 2 ** 48;

/** Whether a value is a list of sizes or strides. */
export function isSizes(value: PickleValue | undefined): value is number[] {
  return Array.isArray(value) && value.length <= MAX_RANK && value.every(isSize);
}

/** Whether a value can be a size, a stride or an offset. */
export function isSize(value: PickleValue | undefined): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < MAX_SIZE;
}

/** A problem that no honest writer causes. */
export function malformed(text: string): TensorProblem {
  return { code: "format", text };
}
