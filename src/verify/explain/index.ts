import { type LayerGraph, layerMultiplyAdds, multiplyAdds } from "../../arch/index.js";
import { largestMagnitude } from "../../core/functions.js";
import { elementCount, type RealTensor, type Shape } from "../../core/tensor.js";
import { errorAt } from "../bounds/bound.js";
import { evaluateLayer, Workspace } from "../reference/evaluate-layer.js";
import { guessActivation } from "./activations.js";
import {
  guessChannels,
  guessFewChannels,
  guessFit,
  guessPrecision,
  guessResidue,
  guessSingleWeight,
} from "./fit.js";
import type { Cause, Effort, Evidence, Guess, Hypothesis, Step } from "./hypothesis.js";
import { guessNorm } from "./norms.js";
import { guessWeights } from "./weights.js";
import { guessWindow } from "./windows.js";
import { guessWiring } from "./wiring.js";

export type { Cause, Evidence } from "./hypothesis.js";

/** Why a layer's values are wrong. */
export interface Explanation {
  readonly cause: Cause;
  /** What the candidate computes instead. */
  readonly says: string;
  /** The same with its evidence. */
  readonly sentence: string;
}

/**
 * Hypotheses without a fitted number, or with one that is checked on many values: if two are confirmed, both are named.
 */
const PARTICULAR: readonly Guess[] = [
  guessNorm,
  guessActivation,
  guessWindow,
  guessWiring,
  guessSingleWeight,
  guessWeights,
];

/**
 * Hypotheses with numbers fitted to the values, fewer first: tried if no particular one is confirmed, in this order.
 */
const FITTED: readonly Guess[] = [guessResidue, guessChannels, guessFit, guessFewChannels, guessPrecision];

/** A hypothesis is confirmed if the remaining error is within the bound, */
const EXPLAINED = 1;

/** and takes away nearly all of the error, */
const SHARE = 0.1;

/** and if that bound is at most this many times the layer's own. */
const WIDEST = 4;

/**
 * Finds out what a candidate computes instead of a layer, by computing each hypothesis from the candidate's own inputs
 * and comparing the result with the candidate's values. Returns the first that explains them; undefined if none does.
 *
 * @param margin of the correct layer
 */
export function explain(evidence: Evidence, margin: number): Explanation | undefined {
  // A single fault may not use up the effort for the others.
  const share = { left: MAX_FOR_ONE * evidence.effort.left };
  evidence.effort.left -= share.left;
  const found = firstConfirmed({ ...evidence, effort: share }, margin);
  evidence.effort.left += share.left;
  return found;
}

interface Confirmed {
  readonly cause: Cause;
  readonly says: string;
  readonly left: number;
}

function firstConfirmed(evidence: Evidence, margin: number): Explanation | undefined {
  const { recomputed } = evidence;
  const leftOf = remainder(evidence);
  const holds = (left: number): boolean => left <= EXPLAINED && left <= SHARE * margin;
  // If even the correct layer passes with such a bound, a hypothesis that passes means nothing.
  if (holds(leftOf(recomputed.output))) return undefined;
  const confirmedAt = ({ step, finish }: OpenStep, guess: Guess): Confirmed[] =>
    guess(step, evidence).flatMap(({ cause, says, output, plausible, rounding, work = 1 }) => {
      if (plausible?.() === false) return [];
      if (!spend(evidence.effort, work * workOf(step))) return [];
      const guessed = output();
      if (guessed?.data.length !== elementCount(step.shape)) return [];
      const allowed = step.node.name === evidence.group.layer.name ? rounding : undefined;
      const left = leftOf(finish(guessed), allowed);
      // If the error is this small, another function is no more likely than the layer itself.
      if (allowed && cause !== "precision" && holds(leftOf(recomputed.output, allowed))) return [];
      return holds(left) ? [{ cause, says: `${placeOf(step, evidence)}${says}`, left }] : [];
    });
  const steps = stepsOf(evidence);
  const particular: Confirmed[] = [];
  for (const step of steps) {
    particular.push(...PARTICULAR.flatMap((guess) => confirmedAt(step, guess)));
    // Another stream's gate is the same as a gate that another stream is read for.
    if (step.step.node.op.kind === "scale" && particular.length > 0) break;
  }
  if (particular.length > 0) return explanationOf(particular, margin);
  for (const step of steps)
    for (const guess of FITTED) {
      const [best] = confirmedAt(step, guess).sort((a, b) => a.left - b.left);
      if (best) return explanationOf([best], margin);
    }
  return undefined;
}

function placeOf({ node }: Step, { group }: Evidence): string {
  return node.name === group.layer.name ? "" : `at ${node.name}, `;
}

/**
 * The hypothesis with the smallest remaining error, and the best of each other kind, which the values do not rule out.
 */
function explanationOf(confirmed: readonly Confirmed[], margin: number): Explanation | undefined {
  const ordered = confirmed.toSorted((a, b) => a.left - b.left);
  const [best] = ordered;
  if (!best) return undefined;
  const kinds = ordered.filter(
    ({ cause }, index) => ordered.findIndex((other) => other.cause === cause) === index,
  );
  // If more kinds are confirmed, they are not informative.
  if (kinds.length > MAX_KINDS) return undefined;
  const from = margin < MOST_BOUNDS ? `from ${count(margin)} ` : "";
  const fall = `${from}to ${count(best.left)} times the bound`;
  const says = kinds.map((kind) => kind.says).join(", or ");
  return { cause: best.cause, says, sentence: `${says}: recomputed this way, the error falls ${fall}` };
}

const MAX_KINDS = 2;

/** A larger error means that the layer's own bound is about 0, as a ReLU's is: how many of these it is says nothing. */
const MOST_BOUNDS = 1e12;

/**
 * Total effort, as a multiple of the network's: a candidate with more faults than that is another network.
 */
const EFFORT = 8;

export function effortFor(graph: LayerGraph, images: Shape): Effort {
  return { left: EFFORT * multiplyAdds(graph, images) };
}

/** The maximum share of the remaining error for a single fault. */
const MAX_FOR_ONE = 0.75;

/** Work per element of a layer without products, which still reads and writes. */
const WORK_PER_ELEMENT = 8;

function workOf({ node, shape }: Step): number {
  return layerMultiplyAdds(node, shape) + WORK_PER_ELEMENT * elementCount(shape);
}

function spend(effort: Effort, work: number): boolean {
  if (work > effort.left) return false;
  effort.left -= work;
  return true;
}

/** Additional roundings for values other than those that the bound was derived for. */
const OTHER_ROUNDINGS = 8 * 2 ** -24;

/**
 * What a guess leaves of a layer's error, in bounds; infinite as soon as it leaves more than one, or makes NaN or infinite
 * what the layer itself does not.
 *
 * The bound on other values than those it was made for is about its mean, where it has 0 for values that were 0; and in
 * proportion, up to four times as wide, where all are larger, since the terms that are rounded are then.
 */
function remainder({
  actual,
  recomputed: { output, bound },
}: Evidence): (expected: RealTensor, rounding?: Hypothesis["rounding"]) => number {
  const { elements } = bound;
  const mean =
    typeof elements === "number"
      ? elements
      : elements.reduce((sum, each) => sum + (Number.isFinite(each) ? each : 0), 0) / elements.length;
  const own = largestMagnitude(output.data);
  return (expected, rounding) => {
    const growth = own > 0 ? Math.min(WIDEST, Math.max(1, largestMagnitude(expected.data) / own)) : 1;
    let left = 0;
    for (let i = 0; i < expected.data.length; i++) {
      const value = expected.data[i] as number;
      const difference = Math.abs((actual.data[i] as number) - value);
      if (difference <= left * mean) continue;
      if (!Number.isFinite(difference)) {
        if (!Number.isFinite(output.data[i])) continue;
        return Infinity;
      }
      const allowed =
        growth * Math.max(errorAt(elements, i), mean) +
        OTHER_ROUNDINGS * Math.abs(value) +
        (rounding?.(i) ?? 0);
      const ratio = difference / allowed;
      if (ratio > EXPLAINED) return Infinity;
      if (ratio > left) left = ratio;
    }
    return left;
  };
}

function count(bounds: number): string {
  return Number.isFinite(bounds) ? String(Number(bounds.toPrecision(2))) : "∞";
}

interface OpenStep {
  readonly step: Step;
  /** The group's output for a given output of the step. */
  readonly finish: (output: RealTensor) => RealTensor;
}

/** The steps of a group, last one first; most groups have one. */
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
