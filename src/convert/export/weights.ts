import type { FoldedBatchNorm, LayerNode, Op, ParameterRole } from "../../arch/graph.js";
import { PARAMETER_SHAPES } from "../../arch/parameters.js";
import { InputError } from "../../core/errors.js";
import type { StateDict } from "../../core/tensor.js";
import { elementCount, formatShape, type Shape, sameShape, type Tensor } from "../../core/tensor.js";
import { toFloat32, toReal } from "../../core/tensor-cast.js";

/** One constant of a converted network: what it is called in the files we write, and its values. */
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
  // The folded node's op has the bias that folding gives it; its layer may have had none.
  const shapes = parameterShapes(node.op);
  const real = (path: string, shape: Shape) => toReal(parameter(stateDict, path, shape), path).data;
  const weightShape = shapes.weight ?? [];
  const channelShape = [weightShape[0] ?? 0];
  const weight = real(node.parameters.weight ?? "", weightShape);
  const bias = node.parameters.bias === undefined ? undefined : real(node.parameters.bias, channelShape);
  const [gamma, beta, mean, variance] = ROLES.map((role) => real(norm.parameters[role], channelShape));
  const foldedWeight = new Float32Array(weight.length);
  const foldedBias = new Float32Array(channelShape[0] ?? 0);
  const rowLength = elementCount(weightShape.slice(1));
  for (let channel = 0; channel < foldedBias.length; channel++) {
    const scale = (gamma?.[channel] ?? 0) / Math.sqrt((variance?.[channel] ?? 0) + norm.epsilon);
    foldedBias[channel] = ((bias?.[channel] ?? 0) - (mean?.[channel] ?? 0)) * scale + (beta?.[channel] ?? 0);
    scaleRange(weight, scale, channel * rowLength, (channel + 1) * rowLength, foldedWeight);
  }
  const prefix = `${norm.parameters.weight.replace(/\.weight$/, "")}.folded`;
  return {
    weight: {
      name: `${prefix}.weight`,
      tensor: { dtype: "float32", shape: weightShape, data: foldedWeight },
    },
    bias: { name: `${prefix}.bias`, tensor: { dtype: "float32", shape: channelShape, data: foldedBias } },
  };
}

/**
 * The one loop over all weights of the network, apart from what surrounds it: inside, every layer that differs from
 * those before (a linear one, one with a bias) would send the whole loop back to the interpreter.
 */
function scaleRange(
  source: Float32Array | Float64Array,
  scale: number,
  start: number,
  end: number,
  target: Float32Array,
): void {
  for (let index = start; index < end; index++) target[index] = (source[index] ?? 0) * scale;
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
    remedy: "convert with the spec that identify finds for the state dict",
  });
}
