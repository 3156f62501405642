import { type Identified, identify, isVariantName, type OsnetSpec, variant } from "../arch/index.js";
import { InputError } from "../errors.js";
import type { StateDict } from "../state-dict.js";
import type { Tensor } from "../tensor.js";
import { toReal } from "../tensor-cast.js";
import { type DecodedCheckpoint, decodePth } from "./formats/pth/index.js";

/** A checkpoint of a known network, every key accounted for. */
export interface Checkpoint extends Identified {
  readonly stateDict: StateDict;
  readonly decoded: Omit<DecodedCheckpoint, "stateDict">;
}

export interface CheckpointOptions {
  /** What messages call the file. */
  readonly subject: string;
  /** Path of the state dict inside the file, such as `model.ema`, where there is a choice. */
  readonly key?: string;
  /** The architecture, where names and shapes do not tell it: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
}

/**
 * Reads a PyTorch checkpoint and identifies its network.
 *
 * @throws InputError if the file is no checkpoint (`format`, `unsupported`), its state dict no complete OSNet
 * (`state-dict`), or a weight is NaN, infinite or a negative variance
 */
export function openCheckpoint(bytes: Uint8Array, { subject, key, arch }: CheckpointOptions): Checkpoint {
  const { stateDict, ...decoded } = decodePth(bytes, { subject, ...(key === undefined ? {} : { key }) });
  const spec = typeof arch === "string" ? namedSpec(arch) : arch;
  const identified = identify(stateDict, { subject, ...(spec ? { spec } : {}) });
  refuseBadNumbers(stateDict, subject);
  return { ...identified, stateDict, decoded };
}

function namedSpec(name: string): OsnetSpec {
  if (isVariantName(name)) return variant(name);
  throw new InputError({
    code: "argument",
    subject: "--arch",
    found: JSON.stringify(name),
    expected: "a variant such as osnet_x1_0 or a spec.json",
    remedy: "see docs/cli.md for the list",
  });
}

/** A single NaN makes every embedding NaN; a negative variance makes its layer so. */
function refuseBadNumbers(stateDict: StateDict, subject: string): void {
  const problems: string[] = [];
  for (const [path, tensor] of stateDict) {
    if (path.endsWith(".num_batches_tracked")) continue;
    const nonFinite = countWhere(tensor, path, (value) => !Number.isFinite(value));
    if (nonFinite > 0) problems.push(`${path}: ${nonFinite} NaN or infinite`);
    else if (path.endsWith(".running_var")) {
      const negative = countWhere(tensor, path, (value) => value < 0);
      if (negative > 0) problems.push(`${path}: ${negative} negative`);
    }
  }
  if (problems.length === 0) return;
  throw new InputError({
    code: "state-dict",
    subject,
    found: `numbers no trained network has in ${problems.length} ${problems.length === 1 ? "tensor" : "tensors"}`,
    expected: "finite weights and variances that are not negative",
    remedy: "use a checkpoint from before the training diverged",
    details: problems,
  });
}

function countWhere(tensor: Tensor, path: string, bad: (value: number) => boolean): number {
  let count = 0;
  for (const value of toReal(tensor, path).data) if (bad(value)) count++;
  return count;
}
