import { foldedNode } from "../../arch/batch-norm.js";
import { INPUT_NAME, type LayerGraph, type LayerNode, type OpKind } from "../../arch/index.js";
import { elementCount, type RealTensor, type Shape, type Tensor } from "../../core/tensor.js";
import type { Elements } from "../reference/elements.js";
import {
  evaluateLayer,
  type ParameterSource,
  Workspace,
  workspaceSize,
} from "../reference/evaluate-layer.js";
import type { Arithmetic, Bound, BoundCall, ErrorBound, RoundingBound } from "./bound.js";
import { dotProductBound, termsOf } from "./dot-product.js";
import { batchNormBound, instanceNormBound, layerNormBound } from "./norms.js";
import { addBound, averageBound, exactBound, maximumBound, scaleBound, sigmoidBound } from "./pointwise.js";

/** The rounding bound of each operation. An operation without a bound does not compile. */
export const BOUNDS: { readonly [K in OpKind]: Bound<K> } = {
  input: exactBound,
  conv: dotProductBound,
  linear: dotProductBound,
  batchNorm: batchNormBound,
  instanceNorm: instanceNormBound,
  layerNorm: layerNormBound,
  relu: exactBound,
  sigmoid: sigmoidBound,
  maxPool: maximumBound,
  avgPool: averageBound,
  globalAvgPool: averageBound,
  globalMaxPool: maximumBound,
  flatten: exactBound,
  scale: scaleBound,
  add: addBound,
};

/** A layer with a value in the candidate, and how to recompute it from the nearest layers with values. */
export interface LayerGroup {
  readonly layer: LayerNode;
  /** In order of computation, `layer` last; those before it have no values in the candidate. */
  readonly nodes: readonly LayerNode[];
  /** Names of the layers with values that the group reads. */
  readonly sources: readonly string[];
  /** Names of the layers without values in between. */
  readonly hidden: readonly string[];
}

/**
 * Cuts a network at the layers with values in a candidate: each with the hidden layers that feed it. A batch norm after
 * a hidden convolution or linear layer is one step with it, since a file without the product has folded the two.
 *
 * @param shown names of layers with values; the images always have one
 */
export function layerGroups(graph: LayerGraph, shown: ReadonlySet<string>): readonly LayerGroup[] {
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const isShown = (name: string): boolean => name === INPUT_NAME || shown.has(name);
  return graph.nodes.flatMap((layer) => {
    if (!shown.has(layer.name) || layer.op.kind === "input") return [];
    const members: LayerNode[] = [];
    const sources = new Set<string>();
    const visit = (node: LayerNode): void => {
      const step = foldedStep(node, nodes, isShown);
      for (const name of step.inputs) {
        const source = nodes.get(name);
        if (isShown(name)) sources.add(name);
        else if (source && !members.some((member) => member.name === name)) visit(source);
      }
      members.push(step);
    };
    visit(layer);
    const hidden = members.flatMap(({ name, foldedBatchNorm }) => [
      ...(foldedBatchNorm ? [foldedBatchNorm.from] : []),
      ...(name === layer.name ? [] : [name]),
    ]);
    return [{ layer, nodes: members, sources: [...sources], hidden }];
  });
}

function foldedStep(
  norm: LayerNode,
  nodes: ReadonlyMap<string, LayerNode>,
  isShown: (name: string) => boolean,
): LayerNode {
  const product = nodes.get(norm.inputs[0] ?? "");
  if (norm.op.kind !== "batchNorm" || !product || isShown(product.name)) return norm;
  if (product.op.kind !== "conv" && product.op.kind !== "linear") return norm;
  return foldedNode(product, norm, norm.op.epsilon);
}

/** What a group reads, and what its source is computed from: a faulty layer may have skipped its source. */
export function neededBy(
  { sources }: LayerGroup,
  groups: ReadonlyMap<string, LayerGroup>,
): ReadonlySet<string> {
  return new Set([...sources, ...(groups.get(sources[0] ?? "")?.sources ?? [])]);
}

/** The layers of blocks that could be confused with others: the ends of their streams, their gates, sums and terms. */
export function mistakable(graph: LayerGraph): readonly string[] {
  return graph.nodes.flatMap(({ name, op, inputs }) =>
    op.kind === "scale" ? inputs : op.kind === "add" ? [...inputs, name] : [],
  );
}

/** A group of layers in float64 on a candidate's values, with the rounding bound of the candidate's result. */
export interface Recomputed {
  readonly output: Tensor<"float64">;
  readonly bound: RoundingBound;
  /** Loops over memory that contains both. */
  readonly loops: Elements;
}

/** Where groups are recomputed, one after another. */
interface Recomputer {
  /** Elements of memory that a group needs. */
  sizeOf(group: LayerGroup): number;
  /** The result is valid until the next group is recomputed. */
  recompute(group: LayerGroup, source: (name: string) => RealTensor): Recomputed;
}

/**
 * @param graph the network of the groups
 * @param shapes of every layer, as returned by `outputShapes`
 * @param parameters the checkpoint's; the candidate's constants are compared with it elsewhere
 * @param most elements that any group will need, if not all groups will come
 * @param onRelease called when memory has become garbage, since later layers need less
 */
export function recomputer(
  graph: LayerGraph,
  shapes: ReadonlyMap<string, Shape>,
  parameters: ParameterSource,
  arithmetic: Arithmetic,
  most: number = Infinity,
  onRelease: () => void = () => undefined,
): Recomputer {
  const shapeOf = (name: string): Shape => shapes.get(name) ?? [];
  // A layer's values are kept while its bound is computed.
  const sizeOf = (node: LayerNode): number =>
    elementCount(shapeOf(node.name)) + workspaceSize(node, node.inputs.map(shapeOf), shapeOf(node.name));
  /** What the largest layer needs, from each on: the first layers need most. */
  const largestFrom = new Map<string, number>();
  graph.nodes.reduceRight((largest, node) => {
    const larger = Math.max(largest, Math.min(most, sizeOf(node)));
    largestFrom.set(node.name, larger);
    return larger;
  }, 0);
  const values = new Workspace();
  return {
    sizeOf: ({ nodes }) => Math.max(...nodes.map(sizeOf)),
    recompute({ nodes }, source) {
      const known = new Map<string, { readonly output: RealTensor; readonly error: ErrorBound }>();
      const read = (name: string): { readonly output: RealTensor; readonly error: ErrorBound } =>
        known.get(name) ?? { output: source(name), error: 0 };
      let result: Recomputed | undefined;
      const [first] = nodes;
      const left = largestFrom.get(first?.foldedBatchNorm?.from ?? first?.name ?? "") ?? 0;
      if (values.expect(left)) onRelease();
      for (const [index, node] of nodes.entries()) {
        const inputs = node.inputs.map(read);
        const tensors = inputs.map(({ output }) => output);
        const output = evaluateLayer(node, tensors, parameters, shapes.get(node.name) ?? [], values);
        const call = {
          node,
          inputs: tensors,
          inputErrors: inputs.map(({ error }) => error),
          accumulated: Math.max(0, ...node.inputs.map((name) => productsOf(nodes, name))),
          output,
          parameters,
          arithmetic,
          workspace: new Workspace(0, { workspace: values, start: output.data.length }),
        };
        const bound = boundOf(node)(call);
        result = { output, bound, loops: values.loops };
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

/** The number of products, and the bias, that a hidden layer adds up: 0 for other layers. */
function productsOf(hidden: readonly LayerNode[], name: string): number {
  const op = hidden.find((node) => node.name === name)?.op;
  return op?.kind === "conv" || op?.kind === "linear" ? termsOf(op) + 1 : 0;
}

function own(bound: ErrorBound): ErrorBound {
  return typeof bound === "number" ? bound : bound.slice();
}

/**
 * Over several layers worst cases multiply, until anything would pass: this is the limit, relative to the largest
 * value. Correct files are below a tenth of it over whole networks.
 */
const GROUP_TOLERANCE = 1e-4;

function capped({ output, bound }: Recomputed): RoundingBound {
  let largest = 0;
  for (const value of output.data) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value));
  const cap = GROUP_TOLERANCE * largest;
  // No bound is NaN: an instance norm has no bound if the worst case of its input is wider than its variance.
  const narrow = (bound: number): number => (Number.isNaN(bound) ? cap : Math.min(bound, cap));
  const { elements } = bound;
  return { elements: typeof elements === "number" ? narrow(elements) : elements.map(narrow) };
}

function boundOf({ op }: LayerNode): (call: BoundCall) => RoundingBound {
  // The graph guarantees that inputs and parameters are those of the kind: the table pairs each kind with its bound.
  return BOUNDS[op.kind] as (call: BoundCall) => RoundingBound;
}
