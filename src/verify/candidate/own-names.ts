import { ancestors, type LayerGraph } from "../../arch/index.js";
import type { ValueNames } from "../../convert/export/results.js";
import { InputError } from "../../core/errors.js";
import type { Party } from "../report.js";

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

/** None of a file's outputs is a result of the network. */
export function refuseOutputs(
  party: Party,
  outputs: readonly string[],
  expected: string,
  command: string,
): InputError {
  return new InputError({
    code: "unsupported",
    subject: party.name,
    found: `outputs ${outputs.join(", ") || "without names"}, none of them a layer of the network`,
    expected,
    remedy: `convert the checkpoint with osnet-convert ${command}`,
  });
}
