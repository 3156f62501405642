import type { Random } from "../random.js";
import { type Mutator, mutateBytes } from "./bytes.js";
import { mutateJson } from "./json.js";
import { mutateNpy } from "./npy.js";
import { mutatePickle } from "./pickle.js";
import { mutateProtobuf } from "./protobuf.js";
import { mutateZip } from "./zip.js";

/** What bytes are, which tells how to mutate them so that readers get past the first check. */
export type Kind = "bytes" | "pickle" | "zip" | "json" | "npy" | "protobuf";

const MUTATORS: Readonly<Record<Kind, Mutator>> = {
  bytes: mutateBytes,
  pickle: mutatePickle,
  zip: mutateZip,
  json: mutateJson,
  npy: mutateNpy,
  protobuf: mutateProtobuf,
};

/**
 * A valid file to start from, in parts: a part is mutated as what it is, and the file around it put together again, so
 * that lengths and offsets hold and the lie reaches the code that should see it.
 */
export interface Seed {
  readonly name: string;
  readonly parts: readonly { readonly kind: Kind; readonly bytes: Uint8Array }[];
  /** What the whole is. */
  readonly kind: Kind;
  readonly assemble: (parts: readonly Uint8Array[]) => Uint8Array;
}

/** Inputs do not grow beyond this: bombs of megabytes have tests of their own. */
const MAX_BYTES = 1 << 17;

/** A seed with one to six mutations: of parts, of the whole, or both. */
export function mutant(seed: Seed, random: Random): Uint8Array {
  const parts = seed.parts.map(({ bytes }) => bytes);
  const inside = random.chance(0.7) && parts.length > 0 ? 1 + random.below(random.chance(0.5) ? 1 : 4) : 0;
  for (let count = 0; count < inside; count++) {
    const at = random.below(parts.length);
    const mutate = random.chance(0.1) ? mutateBytes : MUTATORS[seed.parts[at]?.kind ?? "bytes"];
    parts[at] = mutate(parts[at] ?? new Uint8Array(0), random).subarray(0, MAX_BYTES);
  }
  let whole = seed.assemble(parts);
  const outside = inside === 0 || random.chance(0.15) ? 1 + random.below(3) : 0;
  for (let count = 0; count < outside; count++)
    whole = (random.chance(0.2) ? mutateBytes : MUTATORS[seed.kind])(whole, random).subarray(0, MAX_BYTES);
  return whole;
}
