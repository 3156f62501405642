import { ancestors, type LayerGraph } from "../../arch/index.js";
import type { PixelOrder } from "../../convert/export/preprocess.js";
import type { ValueNames } from "../../convert/export/results.js";
import type { GraphMatch } from "../../convert/import/match.js";
import { layerFault } from "../faults.js";
import { inOrder } from "../inputs/images.js";
import type { Fault } from "../report.js";
import type { Candidate } from "./candidate.js";
import { type InterfaceOptions, inputFaults, outputFaults, structureFaults } from "./interface.js";
import type { AccountedOutputs } from "./outputs.js";
import { fedWith } from "./pixels.js";

/** The layers that results are computed from, each with the name of its value in a file of ours. */
export function neededValues(
  graph: LayerGraph,
  results: readonly string[],
  names: ValueNames,
): ReadonlyMap<string, string> {
  const needed = ancestors(graph, ...results);
  return new Map(
    graph.nodes
      .filter(({ name }) => needed.has(name))
      .map(({ name, op }) => [name, op.kind === "input" ? names.normalized : names.of(name)]),
  );
}

/** What the structure of a file says whose layers are found by names. */
export interface Structure {
  /** Where it has each layer, if it is this network's. */
  readonly match?: GraphMatch | undefined;
  /** Why it is not, if it is not. */
  readonly unmatched?: string | undefined;
}

/** A graph that is not the network's, though its values may be, is a fault of the file's result. */
function unlike({ outputs }: AccountedOutputs, found: string): Fault {
  const layer = outputs[0]?.layer ?? "";
  const explanation = `found ${found}, though the file has the network's names, expected the network's operators`;
  return layerFault({ name: layer }, "structure", null, explanation);
}

interface StatedInterface extends InterfaceOptions, Pick<Structure, "unmatched"> {
  /** The order of raw pixels that the file says it takes. */
  readonly declared: PixelOrder | undefined;
}

/**
 * A candidate found by names, with the faults of its input and outputs that the structure shows, and the layers at which the
 * structure is another. Normalised images are fed in the order that users state.
 */
export function ownCandidate(
  candidate: Candidate,
  accounted: AccountedOutputs,
  match: GraphMatch | undefined,
  { inputOrder, declared, unmatched }: StatedInterface,
): Candidate {
  const order = inputOrder ?? declared ?? "rgb";
  const structure = [...(match ? inputFaults(match, order) : []), ...outputFaults(accounted, match)];
  const fed =
    declared === undefined && order === "bgr"
      ? fedWith(candidate, (images) => inOrder(images, order))
      : candidate;
  const departures = match
    ? structureFaults(match)
    : unmatched === undefined
      ? []
      : [unlike(accounted, unmatched)];
  return {
    ...fed,
    ...(structure.length > 0 ? { structure } : {}),
    ...(departures.length > 0 ? { departures } : {}),
  };
}
