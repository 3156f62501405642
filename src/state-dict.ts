import type { Tensor } from "./tensor.js";

/**
 * PyTorch's `state_dict()`: parameter and buffer paths to tensors, in the order of the file.
 * A `Map`, so that a key called `__proto__` is a key like any other.
 */
export type StateDict = ReadonlyMap<string, Tensor>;
