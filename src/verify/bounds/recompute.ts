import type { LayerGraph, LayerNode } from "../../arch/index.js";
import type { RealTensor, Shape, Tensor } from "../../tensor.js";
import { evaluateLayer, type ParameterSource, Workspace, workspaceSize } from "../reference/index.js";
import type { BoundCall, ErrorBound, RoundingBound } from "./bound.js";
import type { LayerGroup } from "./groups.js";
import type { Arithmetic } from "./rounding.js";
import { BOUNDS } from "./table.js";

/** What a group of layers gives in float64 on a candidate's values, and how far rounding may put the candidate's off. */
export interface Recomputed {
  readonly output: Tensor<"float64">;
  readonly bound: RoundingBound;
}

/** Where groups are recomputed, one after another. */
export interface Recomputer {
  /** The result is valid until the next group is recomputed. */
  recompute(group: LayerGroup, source: (name: string) => RealTensor): Recomputed;
}

/**
 * @param graph the network that the groups are of
 * @param shapes of every layer, as `outputShapes` gives them
 * @param parameters the checkpoint's: what the candidate holds is compared with it elsewhere
 */
export function recomputer(
  graph: LayerGraph,
  shapes: ReadonlyMap<string, Shape>,
  parameters: ParameterSource,
  arithmetic: Arithmetic,
): Recomputer {
  const shapeOf = (name: string): Shape => shapes.get(name) ?? [];
  const sizeOf = (node: LayerNode): number =>
    workspaceSize(node, node.inputs.map(shapeOf), shapeOf(node.name));
  const products = graph.nodes.filter(({ op }) => op.kind === "conv" || op.kind === "linear");
  const values = new Workspace(Math.max(...graph.nodes.map(sizeOf)));
  const bounds = new Workspace(Math.max(...products.map(sizeOf)));
  return {
    recompute({ nodes }, source) {
      const known = new Map<string, { readonly output: RealTensor; readonly error: ErrorBound }>();
      const read = (name: string): { readonly output: RealTensor; readonly error: ErrorBound } =>
        known.get(name) ?? { output: source(name), error: 0 };
      let result: Recomputed | undefined;
      for (const [index, node] of nodes.entries()) {
        const inputs = node.inputs.map(read);
        const tensors = inputs.map(({ output }) => output);
        const output = evaluateLayer(node, tensors, parameters, shapes.get(node.name) ?? [], values);
        const call = {
          node,
          inputs: tensors,
          inputErrors: inputs.map(({ error }) => error),
          output,
          parameters,
          arithmetic,
          workspace: bounds,
        };
        const bound = boundOf(node)(call);
        result = { output, bound };
        // The next layer's result is computed in this one's memory.
        if (index < nodes.length - 1)
          known.set(node.name, {
            output: { ...output, data: output.data.slice() },
            error: own(bound.elements),
          });
      }
      if (!result) throw new Error("a group without layers");
      return nodes.length === 1 ? result : { ...result, bound: capped(result) };
    },
  };
}

function own(bound: ErrorBound): ErrorBound {
  return typeof bound === "number" ? bound : bound.slice();
}

/**
 * Over several layers worst cases multiply, until anything passes: so far and no farther, as a part of the largest
 * value, which honest files stay a tenth below over whole networks.
 */
const GROUP_TOLERANCE = 1e-4;

function capped({ output, bound }: Recomputed): RoundingBound {
  const largest = output.data.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  const cap = GROUP_TOLERANCE * largest;
  const { elements } = bound;
  return {
    elements: typeof elements === "number" ? Math.min(elements, cap) : elements.map((e) => Math.min(e, cap)),
  };
}

function boundOf({ op }: LayerNode): (call: BoundCall) => RoundingBound {
  // The graph says that inputs and parameters are the kind's own: the table pairs each kind with its bound.
  return BOUNDS[op.kind] as (call: BoundCall) => RoundingBound;
}
