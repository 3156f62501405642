import { RESULT_KINDS, type ResultKind } from "../export/results.js";
import type { GraphMatch } from "./match.js";

/** What a model's file gives its users, as far as another file can give it too, and what is left out then. */
export interface FileOutputs {
  /** Results of the network, in the file's order. */
  readonly results: readonly { readonly kind: ResultKind; readonly name: string }[];
  /** Whether the gate vectors of all streams are outputs too. */
  readonly hasGates: boolean;
  /** What is neither, in the file's order. */
  readonly beyond: readonly BeyondNetwork[];
}

/** What a file computes beyond its network's results. */
export interface BeyondNetwork {
  /** `tail`: what changes a result behind its layer; `output`: a value that is no result. */
  readonly kind: "tail" | "output";
  /** The output's name in the file. */
  readonly output: string;
  readonly description: string;
  /** Whether it is a division by the L2 norm and nothing else, which leaves the embedding's direction. */
  readonly isL2?: true;
}

/** @param names the outputs that the file declares, in order */
export function fileOutputs({ graph, outputs }: GraphMatch, names: readonly string[]): FileOutputs {
  const matched = new Map(outputs.map((output) => [output.name, output]));
  const tailOf = (name: string): readonly string[] => matched.get(name)?.tail ?? [];
  const gates = new Set(graph.gates.map(({ layer }) => layer));
  const direct = new Set(outputs.flatMap(({ layer, tail }) => (tail.length === 0 ? layer : [])));
  const hasGates = gates.size > 0 && [...gates].every((gate) => direct.has(gate));
  const kindOf = (name: string): ResultKind | undefined =>
    RESULT_KINDS.find((kind) => graph.outputs[kind] === matched.get(name)?.layer);
  // Of a result that the file gives twice, the one that is not changed.
  const chosen = new Map<ResultKind, string>();
  for (const name of [...names].sort((a, b) => tailOf(a).length - tailOf(b).length)) {
    const kind = kindOf(name);
    if (kind !== undefined && !chosen.has(kind)) chosen.set(kind, name);
  }
  const beyond = names.flatMap((output): readonly BeyondNetwork[] => {
    const match = matched.get(output);
    if (!match) return [{ kind: "output", output, description: "which no layer of the network leads to" }];
    const { layer, tail } = match;
    const kind = kindOf(output);
    if (tail.length > 0) {
      const isL2 = kind !== undefined && String(tail) === "l2Normalize";
      return [
        { kind: "tail", output, description: `${tail.join(", ")} after ${layer}`, ...(isL2 ? { isL2 } : {}) },
      ];
    }
    if ((hasGates && gates.has(layer)) || (kind !== undefined && chosen.get(kind) === output)) return [];
    const description = kind === undefined ? `the layer ${layer}` : `${layer} a second time`;
    return [{ kind: "output", output, description }];
  });
  const results = names.flatMap((name) => {
    const kind = kindOf(name);
    return kind !== undefined && chosen.get(kind) === name ? [{ kind, name }] : [];
  });
  return { results, hasGates, beyond };
}
