import { InputError } from "../../core/errors.js";
import {
  type NormFloor,
  RESULT_KINDS,
  type ResultKind,
  type ResultOptions,
  type WantedResult,
} from "../export/options.js";
import type { GraphMatch, MatchedOutput } from "./match.js";

/** What a model's file gives its users, as far as another file can give it too, and what is left out then. */
export interface FileOutputs {
  /** Results of the network, plain or divided by their L2 norm, in the file's order and under its names. */
  readonly results: readonly WantedResult[];
  /** Whether the gate vectors of all streams are outputs too. */
  readonly hasGates: boolean;
  /** What is neither, in the file's order. */
  readonly beyond: readonly BeyondNetwork[];
}

/** What a file computes beyond its network's results. */
interface BeyondNetwork {
  /** `tail`: what changes a result behind its layer; `output`: a value that is no result. */
  readonly kind: "tail" | "output";
  /** The output's name in the file. */
  readonly output: string;
  /** What it is, as a noun phrase for messages. */
  readonly description: string;
  /** Whether it is a division by the L2 norm and nothing else, which leaves the embedding's direction. */
  readonly isL2?: boolean;
}

/** @param names the outputs that the file declares, in order */
export function fileOutputs(
  { graph, outputs }: Pick<GraphMatch, "graph" | "outputs">,
  names: readonly string[],
): FileOutputs {
  const matched = new Map(outputs.map((output) => [output.name, output]));
  const gates = new Set(graph.gates.map(({ layer }) => layer));
  const direct = new Set(outputs.flatMap(({ layer, tail }) => (tail.length === 0 ? layer : [])));
  const hasGates = gates.size > 0 && [...gates].every((gate) => direct.has(gate));
  const results: WantedResult[] = [];
  const beyond: BeyondNetwork[] = [];
  /** Results that some output stands for, though it is changed. */
  const changed: { readonly kind: ResultKind; readonly name: string }[] = [];
  for (const output of names) {
    const match = matched.get(output);
    if (!match) {
      beyond.push({
        kind: "output",
        output,
        description: "which is not computed from a layer of the network",
      });
      continue;
    }
    const { layer, tail } = match;
    const kind = RESULT_KINDS.find((candidate) => graph.outputs[candidate] === layer);
    const floors = kind && l2Of(match);
    const isPlain = tail.length === 0;
    const isNew = !results.some(
      (result) => result.kind === kind && (result.floors === undefined) === isPlain,
    );
    if (kind && isNew && (isPlain || floors)) {
      results.push({ kind, name: output, ...(isPlain || !floors ? {} : { floors }) });
    } else if (!isPlain) {
      const isL2 = kind !== undefined && String(tail) === "l2Normalize";
      beyond.push({ kind: "tail", output, description: `${tail.join(", ")} after ${layer}`, isL2 });
      if (kind) changed.push({ kind, name: output });
    } else if (!hasGates || !gates.has(layer)) {
      const description = kind === undefined ? `the layer ${layer}` : `${layer} a second time`;
      beyond.push({ kind: "output", output, description });
    }
  }
  const left = changed.filter(({ kind }) => !results.some((result) => result.kind === kind));
  return { results: results.length > 0 ? results : left.slice(0, 1), hasGates, beyond };
}

/** What keeps the L2 norm from being zero by which an output is divided; undefined if something else is behind its layer. */
function l2Of({ tail, operations }: MatchedOutput): readonly NormFloor[] | undefined {
  const [operation, ...others] = (operations ?? []).filter(({ kind }) => kind !== "flatten");
  return tail.length > 0 && operation?.kind === "l2Normalize" && others.length === 0
    ? operation.floors
    : undefined;
}

/** The same, of a file that is written by a writer without an L2 norm. */
export function withoutNorms({ results, hasGates, beyond }: FileOutputs): FileOutputs {
  const plain = results.filter(({ floors }) => !floors);
  const lost = results.filter(({ floors }) => floors);
  const others = lost.filter(({ kind }) => !plain.some((result) => result.kind === kind));
  return {
    results: [...plain, ...others.map(({ kind, name }) => ({ kind, name }))],
    hasGates,
    beyond: [
      ...beyond,
      ...lost.map(
        ({ kind, name }): BeyondNetwork => ({
          kind: "tail",
          output: name,
          description: `l2Normalize after the ${kind}`,
          isL2: true,
        }),
      ),
    ],
  };
}

/** A model's own results, which a rewritten one has too unless the user says otherwise: by their kinds, named as ever. */
export function keptResults(outputs: FileOutputs | undefined): ResultOptions {
  if (!outputs || outputs.results.length === 0) return {};
  return {
    output: outputs.results.map(({ kind, name, floors }, index) => {
      const isFirst = outputs.results.findIndex((result) => result.kind === kind) === index;
      return { kind, name: isFirst ? kind : name, ...(floors ? { floors } : {}) };
    }),
    ...(outputs.hasGates ? { gates: true } : {}),
  };
}

/**
 * What of a model's file the result does not have, one clause each.
 *
 * Weights hold no operators: of a file that gives embeddings of length 1 they are the network's all the same, and outputs
 * that are layers of the network lose nothing.
 *
 * @param given what the file computes; undefined for a file of weights
 * @param target what is written: weights alone, a model, or one of a writer without an L2 norm
 * @throws InputError (`unsupported`) if something is left out that changes what users get, without `--drop-extra`
 */
export function leftOut(
  subject: string,
  given: FileOutputs | undefined,
  target: "weights" | "model" | "model without norms",
  { dropExtra = false }: { readonly dropExtra?: boolean },
): readonly string[] {
  if (!given) return [];
  const toModel = target !== "weights";
  const outputs = target === "model" ? given : withoutNorms(given);
  const beyond = outputs.beyond.filter(({ kind }) => toModel || kind === "tail");
  const refused = dropExtra ? [] : beyond.filter(({ isL2 }) => toModel || !isL2);
  if (refused.length > 0)
    throw new InputError({
      code: "unsupported",
      subject,
      found: `${refused.length === 1 ? "an output" : `${refused.length} outputs`} that the network does not have: ${refused.map(clause).join("; ")}`,
      expected: "the network's own outputs",
      remedy: "drop it with --drop-extra",
    });
  return beyond.map((item) => `dropped: ${clause(item)}`);
}

function clause({ kind, output, description }: BeyondNetwork): string {
  return kind === "tail" ? `${description}, as ${output}` : `${output}, ${description}`;
}
