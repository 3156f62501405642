import { chooseEntries, type PlannedEntry, shardEntries } from "../../verify/suite/plan.js";
import type { Shard } from "../../verify/suite/report.js";
import { badArgument } from "../options.js";

/** The entries of a plan that this run makes, and the ids of those that are its own to make and are left out. */
export interface Selection {
  readonly entries: readonly PlannedEntry[];
  readonly leftOut: readonly string[];
}

/**
 * Narrows a plan by `--only`, then to a shard; what another shard runs is not this one's to leave out.
 *
 * @throws InputError (`argument`) if no entry's name holds what `only` asks for
 */
export function selectEntries(
  planned: readonly PlannedEntry[],
  only: readonly string[],
  shard: Shard | undefined,
): Selection {
  const chosen = chooseEntries(planned, only);
  if (chosen.length === 0)
    throw badArgument(
      "--only",
      only.join(", "),
      "a part of an entry's name",
      `choose among ${planned
        .slice(0, 5)
        .map(({ id }) => id)
        .join("; ")}`,
    );
  if (!shard) return { entries: chosen, leftOut: idsWithout(planned, chosen) };
  return {
    entries: shardEntries(chosen, shard),
    leftOut: idsWithout(shardEntries(planned, shard), chosen),
  };
}

function idsWithout(all: readonly PlannedEntry[], chosen: readonly PlannedEntry[]): readonly string[] {
  const ids = new Set(chosen.map(({ id }) => id));
  return all.map(({ id }) => id).filter((id) => !ids.has(id));
}

/** `--shard 2/4`. */
export function parseShard(text: string | undefined): Shard | undefined {
  if (text === undefined) return undefined;
  const [, index = 0, total = 0] = /^(\d{1,4})\/(\d{1,4})$/.exec(text)?.map(Number) ?? [];
  if (index >= 1 && index <= total) return { index, total };
  throw badArgument("--shard", JSON.stringify(text), "INDEX/TOTAL such as 2/4", "count from 1");
}
