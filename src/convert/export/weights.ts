import { batchNormAffine, foldedBias, foldedNode, scaleRows } from "../../arch/batch-norm.js";
import type { FoldedBatchNorm, LayerGraph, LayerNode, Op, ParameterRole } from "../../arch/graph.js";
import { PARAMETER_SHAPES } from "../../arch/parameters.js";
import { ancestors } from "../../arch/shapes.js";
import { InputError } from "../../core/errors.js";
import { formatShape, type Shape, type StateDict, sameShape, type Tensor } from "../../core/tensor.js";
import { castFloat, FLOAT_DTYPES, type FloatDType, toFloat32, toReal } from "../../core/tensor-cast.js";
import { plural } from "../../core/text.js";

/** The layers that the results need, with batch norms folded if requested. */
export function neededNetwork(
  graph: LayerGraph,
  fold: boolean,
  results: readonly { readonly layer: string }[],
): LayerGraph {
  const whole = fold ? foldBatchNorm(graph) : graph;
  const needed = ancestors(whole, ...results.map(({ layer }) => layer));
  return { ...whole, nodes: whole.nodes.filter(({ name }) => needed.has(name)) };
}

/** The operations whose weights can absorb a batch norm: each output channel has its own weights. */
type Foldable = LayerNode<Op<"conv" | "linear">>;

/**
 * The same network with every batch norm merged into the convolution or linear layer before it, if nothing else reads
 * that layer. The merged node has the batch norm's position and name, because it computes its output; it has a bias,
 * the layer's own parameters, and the batch norm's under `foldedBatchNorm`. `nodeWeights` does the arithmetic. The
 * layer's own output no longer exists, and its aliases are dropped.
 *
 * A layer that is one of the network's results, or a gate vector, keeps its output and is not folded.
 */
export function foldBatchNorm(graph: LayerGraph): LayerGraph {
  const consumers = countConsumers(graph);
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const foldedInto = new Map<string, LayerNode>();
  const absorbed = new Set<string>();
  for (const norm of graph.nodes) {
    const layer = layers.get(norm.inputs[0] ?? "");
    if (norm.op.kind !== "batchNorm" || !layer || !isFoldable(layer) || consumers.get(layer.name) !== 1)
      continue;
    foldedInto.set(norm.name, foldedNode(layer, norm, norm.op.epsilon));
    absorbed.add(layer.name);
  }
  return {
    ...graph,
    nodes: graph.nodes
      .filter(({ name }) => !absorbed.has(name))
      .map((node) => foldedInto.get(node.name) ?? node),
    aliases: new Map([...graph.aliases].filter(([, layer]) => !absorbed.has(layer))),
  };
}

/** How often each layer's output is needed; a result of the network or a gate vector counts as a use. */
function countConsumers(graph: LayerGraph): ReadonlyMap<string, number> {
  const { features, logits, probabilities } = graph.outputs;
  const uses = [
    ...graph.nodes.flatMap(({ inputs }) => inputs),
    ...graph.gates.map(({ layer }) => layer),
    ...[features, logits, probabilities].filter((name) => name !== undefined),
  ];
  const counts = new Map<string, number>();
  for (const name of uses) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

function isFoldable(node: LayerNode): node is Foldable {
  return node.op.kind === "conv" || node.op.kind === "linear";
}

/** One constant of a converted network: its name in the files that are written, and its values. */
export interface NodeWeight {
  readonly name: string;
  readonly tensor: Tensor<"float32">;
}

/** A layer's constants by role, in the order in which operators take them: weight, bias, runningMean, runningVar. */
export type NodeWeights = Readonly<Partial<Record<ParameterRole, NodeWeight>>>;

const ROLES: readonly ParameterRole[] = ["weight", "bias", "runningMean", "runningVar"];

/**
 * The float32 constants of a layer: its parameters under their state-dict paths, bit for bit where they are float32
 * (streams that share a gate get the same names and tensors); or, where a batch norm is folded in, the products of
 * both under names that no state dict has: `conv1.bn.folded.weight` and `conv1.bn.folded.bias`.
 *
 * @throws InputError (`state-dict`, `tensor`) if a parameter is missing, of another shape or not floating point.
 */
export function nodeWeights(node: LayerNode, stateDict: StateDict): NodeWeights {
  if (node.foldedBatchNorm) return foldedWeights(node, node.foldedBatchNorm, stateDict);
  const shapes = parameterShapes(node.op);
  const weights: Partial<Record<ParameterRole, NodeWeight>> = {};
  for (const role of ROLES) {
    const path = node.parameters[role];
    if (path !== undefined)
      weights[role] = { name: path, tensor: toFloat32(parameter(stateDict, path, shapes[role] ?? []), path) };
  }
  return weights;
}

/**
 * Batch norm in evaluation mode is γ·(y − μ)/√(σ² + ε) + β of y = W·x + b, hence one affine map of x:
 * weight W·γ/√(σ² + ε) and bias (b − μ)·γ/√(σ² + ε) + β. Computed in float64 and rounded to float32 once.
 */
function foldedWeights(node: LayerNode, norm: FoldedBatchNorm, stateDict: StateDict): NodeWeights {
  // The folded node's op has the bias that results from folding; its layer may have had none.
  const shapes = parameterShapes(node.op);
  const real = (path: string, shape: Shape) => toReal(parameter(stateDict, path, shape), path).data;
  const weightShape = shapes.weight ?? [];
  const channelShape = [weightShape[0] ?? 0];
  const weight = real(node.parameters.weight ?? "", weightShape);
  const bias = node.parameters.bias === undefined ? undefined : real(node.parameters.bias, channelShape);
  const of = (role: ParameterRole) => real(norm.parameters[role], channelShape);
  const affine = batchNormAffine(
    { weight: of("weight"), bias: of("bias"), runningMean: of("runningMean"), runningVar: of("runningVar") },
    norm.epsilon,
  );
  const foldedWeight = scaleRows(weight, affine.scale, new Float32Array(weight.length));
  const prefix = `${norm.parameters.weight.replace(/\.weight$/, "")}.folded`;
  return {
    weight: {
      name: `${prefix}.weight`,
      tensor: { dtype: "float32", shape: weightShape, data: foldedWeight },
    },
    bias: {
      name: `${prefix}.bias`,
      tensor: { dtype: "float32", shape: channelShape, data: Float32Array.from(foldedBias(affine, bias)) },
    },
  };
}

/** One lookup over a union of operations: the table's type pairs each kind with its own function. */
function parameterShapes(op: Op): Readonly<Partial<Record<ParameterRole, Shape>>> {
  return (PARAMETER_SHAPES[op.kind] as (op: Op) => Readonly<Partial<Record<ParameterRole, Shape>>>)(op);
}

function parameter(stateDict: StateDict, path: string, shape: Shape): Tensor {
  const tensor = stateDict.get(path);
  if (tensor && sameShape(tensor.shape, shape)) return tensor;
  throw new InputError({
    code: "state-dict",
    subject: path,
    found: tensor ? `shape ${formatShape(tensor.shape)}` : "no such parameter",
    expected: `a tensor of shape ${formatShape(shape)}`,
    remedy: "use the spec that identify returns for this state dict",
  });
}

/**
 * The state dict with its floating-point tensors in another type, each value rounded at most once, to nearest even.
 * Integers (`num_batches_tracked`) are unchanged.
 *
 * @throws InputError (`tensor`) listing every tensor with a value that is too large for the type
 */
export function castStateDict(stateDict: StateDict, dtype: FloatDType, subject: string): StateDict {
  const overflows: string[] = [];
  const cast = [...stateDict].map(([path, tensor]): [string, Tensor] => {
    if (!FLOAT_DTYPES.some((float) => float === tensor.dtype)) return [path, tensor];
    const result = castFloat(tensor, dtype, path);
    if (result !== tensor) {
      const lost = overflowOf(tensor, result, path);
      if (lost !== undefined) overflows.push(`${path}: ${lost}`);
    }
    return [path, result];
  });
  if (overflows.length > 0)
    throw new InputError({
      code: "tensor",
      subject,
      found: `values that overflow ${dtype} in ${plural(overflows.length, "tensor")}`,
      expected: "weights within its range",
      remedy: `choose ${dtype === "float16" ? "bfloat16 or float32" : "float32 or float64"}`,
      details: overflows,
    });
  return new Map(cast);
}

/** The number of finite values that became infinite, and the largest of them; undefined if none did. */
function overflowOf(tensor: Tensor, cast: Tensor, path: string): string | undefined {
  const before = toReal(tensor, path).data;
  const after = toReal(cast, path).data;
  let count = 0;
  let largest = 0;
  for (let index = 0; index < before.length; index++) {
    const value = before[index] ?? 0;
    if (Math.abs(after[index] ?? 0) !== Infinity || Math.abs(value) === Infinity) continue;
    count++;
    if (Math.abs(value) > Math.abs(largest)) largest = value;
  }
  return count > 0 ? `${plural(count, "value")}, the largest ${largest}` : undefined;
}
