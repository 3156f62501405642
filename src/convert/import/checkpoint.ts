import {
  type Identified,
  identify,
  isVariantName,
  type LayerGraph,
  type OsnetSpec,
  parametersOf,
  variant,
} from "../../arch/index.js";
import type { Bytes } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import type { WeightsFormat } from "../formats/sniff.js";
import { type DecodedWeights, decodeWeights } from "./decode-weights.js";

/** A checkpoint of a known network, every key accounted for. */
export interface Checkpoint extends Identified {
  /** In the order of torchreid's `state_dict()`, whatever the file's. */
  readonly stateDict: StateDict;
  readonly decoded: Omit<DecodedWeights, "stateDict">;
}

export interface CheckpointOptions {
  /** What messages call the file. */
  readonly subject: string;
  /** Path of the state dict inside the file, such as `model.ema`, where there is a choice. */
  readonly key?: string;
  /** The architecture, where names and shapes do not tell it: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
  /** The format that the file must have; found by content otherwise. */
  readonly format?: WeightsFormat;
}

/**
 * Reads a PyTorch checkpoint, or weights in safetensors or .npz, and identifies their network.
 *
 * @throws InputError if the file is no checkpoint (`format`, `unsupported`), its state dict no complete OSNet
 * (`state-dict`), or a weight is NaN, infinite or a negative variance
 */
export function openCheckpoint(bytes: Bytes, options: CheckpointOptions): Checkpoint {
  const checkpoint = identifyCheckpoint(bytes, options);
  refuseBadNumbers(checkpoint, options.subject);
  return checkpoint;
}

/** As `openCheckpoint`, whatever the numbers are: for those who look at a checkpoint and do not use it. */
export function identifyCheckpoint(bytes: Bytes, { arch, ...options }: CheckpointOptions): Checkpoint {
  const { subject } = options;
  const { stateDict, ...decoded } = decodeWeights(bytes, options);
  const spec = typeof arch === "string" ? namedSpec(arch) : arch;
  const identified = identify(stateDict, { subject, ...(spec ? { spec } : {}) });
  const notes = [...decoded.notes, ...extraNotes(identified.extra)];
  return {
    ...identified,
    stateDict: inNetworkOrder(stateDict, identified.graph),
    decoded: { ...decoded, notes },
  };
}

/** safetensors files are sorted by name. What is no part of the network keeps its place among its like, at the end. */
function inNetworkOrder(stateDict: StateDict, graph: LayerGraph): StateDict {
  const ordered = new Map<string, Tensor>();
  for (const path of [...parametersOf(graph).map(({ path }) => path), ...stateDict.keys()]) {
    const tensor = stateDict.get(path);
    if (tensor) ordered.set(path, tensor);
  }
  return ordered;
}

/** A norm between the pooled map and the classifier, of which FastReID's evaluation takes the result. */
const NECK = /^(heads\.)?bottleneck\./;

/** Says which modules the network does not have, and that nobody knows what the checkpoint's own model does with them. */
function extraNotes(extra: readonly string[]): string[] {
  if (extra.length === 0) return [];
  const modules = [...new Set(extra.map((path) => path.split(".", 1)[0] ?? path))];
  const named = modules.slice(0, 8).join(", ");
  const more = modules.length > 8 ? ` and ${modules.length - 8} more` : "";
  return [
    `${extra.length} ${extra.length === 1 ? "tensor" : "tensors"} of extra heads, no part of the network: ${named}${more}`,
    ...(extra.some((path) => NECK.test(path))
      ? ["its bottleneck is left out: the features are those before it, as FastReID's NECK_FEAT before"]
      : []),
  ];
}

/** @throws InputError (`argument`) if no variant has the name */
export function namedSpec(name: string): OsnetSpec {
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
export function refuseBadNumbers({ graph, stateDict }: Checkpoint, subject: string): void {
  const problems: string[] = [];
  for (const { path, optional } of parametersOf(graph)) {
    const tensor = stateDict.get(path);
    if (!tensor || optional) continue;
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
