import { type LayerGraph, layerMultiplyAdds, multiplyAdds } from "../../arch/index.js";
import { elementCount, type RealTensor, type Shape } from "../../core/tensor.js";
import { errorAt, localError } from "../bounds/index.js";
import { evaluateLayer, Workspace } from "../reference/index.js";
import { guessActivation } from "./activations.js";
import { guessChannels, guessFewChannels } from "./channels.js";
import { guessFit, guessSingleWeight } from "./fit.js";
import type { Cause, Effort, Evidence, Guess, Step } from "./hypothesis.js";
import { guessNorm } from "./norms.js";
import { guessPrecision, guessResidue } from "./residue.js";
import { guessWeights } from "./weights.js";
import { guessWindow } from "./windows.js";
import { guessWiring } from "./wiring.js";

export type { Cause, Evidence } from "./hypothesis.js";

/** Why a layer is wrong, as far as the data tell. */
export interface Explanation {
  readonly cause: Cause;
  /** What is the case instead, and what speaks for it. */
  readonly sentence: string;
}

/** In order of preference: of two guesses that explain all, the more particular one is named. */
const GUESSES: readonly Guess[] = [
  guessNorm,
  guessActivation,
  guessWindow,
  guessWiring,
  guessSingleWeight,
  guessWeights,
  guessResidue,
  guessChannels,
  guessFit,
  guessFewChannels,
  guessPrecision,
];

/** A guess holds if what is left of the error is near what rounding accounts for: it computes in another order. */
const EXPLAINED = 4;

/** And if it takes away nearly all of the error. */
const SHARE = 0.1;

/**
 * Finds out what a candidate computes in place of a layer, by computing each guess on the candidate's own inputs and
 * holding the result against the candidate's values. The first that explains them is named; undefined if none does.
 *
 * @param margin of the layer as it should be
 */
export function explain(evidence: Evidence, margin: number): Explanation | undefined {
  // One fault may not take what the others need.
  const share = { left: MOST_FOR_ONE * evidence.effort.left };
  evidence.effort.left -= share.left;
  const found = firstThatHolds({ ...evidence, effort: share }, margin);
  evidence.effort.left += share.left;
  return found;
}

function firstThatHolds(evidence: Evidence, margin: number): Explanation | undefined {
  const { actual, recomputed } = evidence;
  const leftOf = (expected: RealTensor): number =>
    localError(actual, expected, { elements: boundOn(expected, recomputed) }).margin;
  const holds = (left: number): boolean => left <= EXPLAINED && left <= SHARE * margin;
  // Held to such a bound even the layer as it should be passes: then nothing that does speaks for a guess.
  if (holds(leftOf(recomputed.output))) return undefined;
  for (const { step, finish } of stepsOf(evidence))
    for (const guess of GUESSES) {
      const holding = guess(step, evidence).flatMap(({ cause, says, output, plausible, work = 1 }) => {
        if (plausible?.() === false) return [];
        if (!spend(evidence.effort, work * workOf(step))) return [];
        const guessed = output();
        if (guessed?.data.length !== elementCount(step.shape)) return [];
        const left = leftOf(finish(guessed));
        return holds(left) ? [{ cause, says, left }] : [];
      });
      const [best] = holding.sort((a, b) => a.left - b.left);
      if (!best) continue;
      const where = step.node.name === evidence.group.layer.name ? "" : `at ${step.node.name}, `;
      const fall = `from ${count(margin)} to ${count(best.left)} bounds`;
      return { cause: best.cause, sentence: `${where}${best.says}: recomputed so, the error falls ${fall}` };
    }
  return undefined;
}

/** How often the whole network may be computed to explain faults: a candidate with more of them is another network. */
const EFFORT = 8;

export function effortFor(graph: LayerGraph, images: Shape): Effort {
  return { left: EFFORT * multiplyAdds(graph, images) };
}

/** The share of what is left that one fault may take. */
const MOST_FOR_ONE = 0.75;

/** A layer without products still reads and writes. */
const WORK_PER_ELEMENT = 8;

function workOf({ node, shape }: Step): number {
  return layerMultiplyAdds(node, shape) + WORK_PER_ELEMENT * elementCount(shape);
}

function spend(effort: Effort, work: number): boolean {
  if (work > effort.left) return false;
  effort.left -= work;
  return true;
}

/** Roundings of a value that is another than the one that the bound was made for. */
const OTHER_ROUNDINGS = 8 * 2 ** -24;

/**
 * The bound on other values than those it was made for: of about its mean, where it has 0 for values that were 0; and in
 * proportion, where all are larger, since the terms that are rounded are then.
 */
function boundOn(
  expected: RealTensor,
  { output, bound: { elements } }: Evidence["recomputed"],
): Float64Array {
  const mean =
    typeof elements === "number"
      ? elements
      : elements.reduce((sum, bound) => sum + bound, 0) / elements.length;
  const own = largest(output);
  const growth = own > 0 ? Math.max(1, largest(expected) / own) : 1;
  return Float64Array.from(
    expected.data as Float64Array,
    (value, i) => growth * Math.max(errorAt(elements, i), mean) + OTHER_ROUNDINGS * Math.abs(value),
  );
}

function largest({ data }: RealTensor): number {
  let most = 0;
  for (let i = 0; i < data.length; i++) most = Math.max(most, Math.abs(data[i] as number));
  return most;
}

function count(bounds: number): string {
  return Number.isFinite(bounds) ? String(Number(bounds.toPrecision(2))) : "∞";
}

interface OpenStep {
  readonly step: Step;
  /** What the group gives when the step gives this. */
  readonly finish: (output: RealTensor) => RealTensor;
}

/** The steps of a group, the last first: most groups have one. */
function stepsOf({ group, source, shapes, parameters }: Evidence): readonly OpenStep[] {
  const workspace = new Workspace();
  const shapeOf = (name: string): readonly number[] => shapes.get(name) ?? [];
  const values = new Map<string, RealTensor>();
  const read = (name: string): RealTensor => values.get(name) ?? source(name);
  const steps: OpenStep[] = [];
  for (const [index, node] of group.nodes.entries()) {
    const inputs = node.inputs.map(read);
    const compute: Step["compute"] = (change = {}) => {
      const used = change.node ?? node;
      const result = evaluateLayer(
        used,
        change.inputs ?? inputs,
        change.parameters ?? parameters,
        change.shape ?? shapeOf(node.name),
        workspace,
      );
      return { ...result, data: result.data.slice() };
    };
    const rest = group.nodes.slice(index + 1);
    const finish = (output: RealTensor): RealTensor => {
      const later = new Map<string, RealTensor>([[node.name, output]]);
      for (const next of rest) {
        const result = evaluateLayer(
          next,
          next.inputs.map((name) => later.get(name) ?? read(name)),
          parameters,
          shapeOf(next.name),
          workspace,
        );
        later.set(next.name, { ...result, data: result.data.slice() });
      }
      return later.get(group.layer.name) ?? output;
    };
    steps.unshift({ step: { node, inputs, shape: shapeOf(node.name), compute }, finish });
    if (rest.length > 0) values.set(node.name, compute());
  }
  return steps;
}
