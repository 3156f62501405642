import type { PickleValue } from "../pickle/values.js";

/** What a container holds: the pickled object, its storages still where they are. */
export interface Unpickled {
  /** `pickle` is a bare one, with its arrays inside. */
  readonly container: "zip" | "torchscript" | "legacy" | "tar" | "pickle";
  readonly root: PickleValue;
}
