import { type BeyondNetwork, withoutNorms } from "../convert/import/file-outputs.js";
import { InputError } from "../core/errors.js";
import type { Source } from "./sinks/sink.js";

/** What a conversion leaves out of a model: said where the user agreed to it, refused otherwise. */

interface BeyondOptions {
  readonly dropExtra?: boolean;
}

/**
 * What of a model's file the result does not have, one clause each.
 *
 * Weights hold no operators: of a file that gives embeddings of length 1 they are the network's all the same, and outputs
 * that are layers of the network lose nothing.
 *
 * @param target what is written: weights alone, a model, or one of a writer without an L2 norm
 * @throws InputError (`unsupported`) if something is left out that changes what users get, without `--drop-extra`
 */
export function leftOut(
  { name, checkpoint }: Source,
  target: "weights" | "model" | "model without norms",
  { dropExtra = false }: BeyondOptions,
): readonly string[] {
  if (!checkpoint.outputs) return [];
  const toModel = target !== "weights";
  const outputs = target === "model" ? checkpoint.outputs : withoutNorms(checkpoint.outputs);
  const beyond = outputs.beyond.filter(({ kind }) => toModel || kind === "tail");
  const refused = dropExtra ? [] : beyond.filter(({ isL2 }) => toModel || !isL2);
  if (refused.length > 0)
    throw new InputError({
      code: "unsupported",
      subject: name,
      found: `${refused.length === 1 ? "an output" : `${refused.length} outputs`} with more than the network: ${refused.map(clause).join("; ")}`,
      expected: "the network's own results",
      remedy: "leave it out with --drop-extra",
    });
  return beyond.map((item) => `left out: ${clause(item)}`);
}

function clause({ kind, output, description }: BeyondNetwork): string {
  return kind === "tail" ? `${description}, as ${output}` : `${output}, ${description}`;
}
