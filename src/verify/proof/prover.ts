import type { LayerGraph, LayerNode } from "../../arch/index.js";
import type { PixelOrder } from "../../convert/export/options.js";

/**
 * What must be true for a value of a document to be a layer's output: other values are other layers' outputs. Each
 * format has one function that gives the step for a value and a layer; the prover does not depend on operators.
 */
export type Step =
  /** The value is the layer if each of these values is the layer named with it. */
  | { readonly goals: readonly Goal[] }
  /**
   * The value is the layer if these values are the layer's inputs, in any order: a sum's terms, a product's factors. `parts`
   * gives the terms of a term that is a sum of the same kind.
   */
  | { readonly terms: readonly string[]; readonly parts?: (term: string) => readonly string[] | undefined }
  /** The value is not known to be the layer: a clause that names node and operator. */
  | { readonly refused: string };

/** The form of a document's input, wherever the network reads its images. */
export type InputForm = "normalised" | PixelOrder;

export type Goal = readonly [value: string, layer: string];

/** How a document computes a value, as far as one layer of the network. */
export type StepOf = (value: string, layer: LayerNode) => Step;

/** The reason why a value is not proven to be a layer. */
export interface Refusal {
  readonly layer: string;
  readonly why: string;
  /** The number of correct layers between it and the goal. */
  readonly depth: number;
  /**
   * The number of correct inputs of sums and products in between: among several values, the intended one has the
   * most.
   */
  readonly alike: number;
}

/** Maximum depth, larger than any network's, so that the call stack does not overflow. */
const MAX_DEPTH = 1000;

/** Maximum number of terms in a sum, more than any network has; a document may nest any number of sums. */
const MAX_TERMS = 64;

/**
 * Proves that values of a document are layers of a network, backwards: a value is a layer if the operator that computes
 * it is the layer's and its inputs are the layer's inputs, down to the images. Every input of every operator is either
 * a goal or a constant that the step compares, so everything that the value depends on is covered.
 *
 * @returns undefined if the value is the layer's output for every input; else the refusal that is farthest from it
 */
export function prover(
  graph: LayerGraph,
  stepOf: StepOf,
): (value: string, layer: string) => Refusal | undefined {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const known = new Map<string, Refusal | undefined>();

  const prove = (value: string, name: string, depth: number): Refusal | undefined => {
    const key = `${name}\n${value}`;
    if (known.has(key)) return known.get(key);
    // A value that depends on itself is refused: until it is proven, it counts as such.
    known.set(key, { layer: name, why: "it depends on itself", depth, alike: 0 });
    const refusal = attempt(value, name, depth);
    known.set(key, refusal);
    return refusal;
  };

  const attempt = (value: string, name: string, depth: number): Refusal | undefined => {
    const layer = layers.get(name);
    if (!layer || depth > MAX_DEPTH) return { layer: name, why: "too many layers in a row", depth, alike: 0 };
    const step = stepOf(value, layer);
    if ("refused" in step) return { layer: name, why: step.refused, depth, alike: 0 };
    if ("terms" in step) return pair(step, layer, depth + 1);
    for (const [input, source] of step.goals) {
      const refusal = prove(input, source, depth + 1);
      if (refusal) return refusal;
    }
    return undefined;
  };

  /**
   * Each term must be a different input of the layer, or a sum of such; a value that occurs twice is two terms. The
   * refusal reported is that of the input and term that have most in common.
   */
  const pair = (
    { terms, parts }: Extract<Step, { readonly terms: readonly string[] }>,
    { name, inputs }: LayerNode,
    depth: number,
  ): Refusal | undefined => {
    const open = [...inputs];
    const unmatched: string[] = [];
    const left = terms.toReversed();
    for (let term = left.pop(), count = 0; term !== undefined; term = left.pop()) {
      const own = term;
      const found = open.findIndex((input) => !prove(own, input, depth));
      const inner = found < 0 && count++ < MAX_TERMS ? parts?.(term) : undefined;
      if (found >= 0) open.splice(found, 1);
      else if (inner) left.push(...inner.toReversed());
      else unmatched.push(term);
    }
    if (open.length !== unmatched.length) {
      const count = inputs.length - open.length + unmatched.length;
      return { layer: name, why: `${count} terms instead of ${inputs.length}`, depth, alike: 0 };
    }
    const refusals = open.flatMap((input) => unmatched.flatMap((term) => prove(term, input, depth) ?? []));
    const [nearest] = refusals.sort((a, b) => b.alike - a.alike || b.depth - a.depth);
    return nearest && { ...nearest, alike: nearest.alike + inputs.length - open.length };
  };

  return (value, layer) => prove(value, layer, 0);
}
