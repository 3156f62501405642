import { type LayerNode, PARAMETER_SHAPES, type ParameterRole, parametersOf } from "../../arch/index.js";
import { InputError } from "../../core/errors.js";
import type { StateDict } from "../../core/tensor.js";
import { elementCount, formatShape, type Shape, type Tensor } from "../../core/tensor.js";
import type { GraphMatch } from "./match.js";

/**
 * A state dict from a matched ONNX file. What the exporter left alone comes back bit for bit. A batch norm that it
 * folded into the convolution before cannot be told apart from it any more: the convolution keeps the product, and the
 * batch norm becomes one that adds the folded bias and does nothing else.
 *
 * That batch norm has γ = 1, β = the bias, μ = 0 and σ² = 1 − ε in float32. In float32, as PyTorch runs it, σ² + ε is
 * exactly 1 and so is the scale. In float64 the scale is 1 + 7e-9, less than half of float32's last place: folding the
 * state dict again gives the file's own bits back.
 */

export interface LiftedStateDict {
  /** Every parameter and buffer of `match.graph`, in torchreid's order. */
  readonly stateDict: StateDict;
  /** Paths whose values are not the trained ones, though the network computes the same. */
  readonly reparameterised: readonly string[];
}

/** Parameters of one layer, by role; those marked are made up so that the layer computes the same. */
interface Lifted {
  readonly tensors: Readonly<Partial<Record<ParameterRole, Tensor>>>;
  readonly reparameterised: readonly ParameterRole[];
}

const NORM_ROLES: readonly ParameterRole[] = ["weight", "bias", "runningMean", "runningVar"];

/**
 * The state dict of a matched file.
 *
 * @throws InputError (`state-dict`) if the file departs from the architecture: nothing is lifted in part
 */
export function liftStateDict(match: GraphMatch, { subject }: { readonly subject: string }): LiftedStateDict {
  const { graph, differences } = match;
  // What a departing file lacks besides follows from how it departs.
  if (differences.length > 0)
    throw incomplete(
      subject,
      differences.map(({ layer, found, expected }) => `${layer}: found ${found}, expected ${expected}`),
    );
  const problems: string[] = [];
  const lifted = new Map<string, Tensor>();
  const reparameterised = new Set<string>();
  const foldedInputs = new Map(graph.nodes.map((layer) => [layer.name, layer.inputs[0] ?? ""]));
  const absorbing = new Set(
    graph.nodes.flatMap(({ name, op }) =>
      op.kind === "batchNorm" && match.absorbed.has(foldedInputs.get(name) ?? "") ? [name] : [],
    ),
  );
  for (const layer of graph.nodes) {
    const { tensors, reparameterised: roles } = liftLayer(layer, match, absorbing.has(layer.name));
    for (const [role, path] of Object.entries(layer.parameters) as [ParameterRole, string][]) {
      const tensor = tensors[role];
      // The gate's layers lift their shared weights once per stream, and `matchGraph` has seen that they agree.
      if (tensor && !lifted.has(path)) lifted.set(path, tensor);
      if (roles.includes(role)) reparameterised.add(path);
    }
  }
  const stateDict = new Map<string, Tensor>();
  for (const { path, shape, dtype } of parametersOf(graph)) {
    const tensor = dtype === "int64" ? { dtype, shape: [], data: new BigInt64Array(1) } : lifted.get(path);
    if (tensor && tensor.data.length === elementCount(shape))
      stateDict.set(path, { dtype: tensor.dtype, shape, data: tensor.data });
    else
      problems.push(
        `${path}: found ${tensor ? formatShape(tensor.shape) : "nothing"}, expected ${formatShape(shape)}`,
      );
  }
  if (problems.length > 0) throw incomplete(subject, problems);
  return { stateDict, reparameterised: [...stateDict.keys()].filter((path) => reparameterised.has(path)) };
}

function liftLayer(layer: LayerNode, { constants, absorbed, affine }: GraphMatch, absorbs: boolean): Lifted {
  const own = constants.get(layer.name) ?? {};
  const shapes = (PARAMETER_SHAPES[layer.op.kind] as (op: unknown) => Partial<Record<ParameterRole, Shape>>)(
    layer.op,
  );
  const channels = shapes.bias ?? shapes.weight?.slice(0, 1) ?? [];
  if (absorbs) return { tensors: neutralNorm(layer, channels, own.bias), reparameterised: NORM_ROLES };
  if (affine.has(layer.name))
    return { tensors: neutralNorm(layer, channels, own.bias, own.weight), reparameterised: NORM_ROLES };
  if (absorbed.has(layer.name) && layer.op.kind === "linear")
    // The bias is the batch norm's now; a linear layer always has one of its own.
    return { tensors: { ...own, bias: filled(channels, 0) }, reparameterised: ["weight", "bias"] };
  if (absorbed.has(layer.name)) return { tensors: own, reparameterised: ["weight"] };
  if (layer.op.kind === "instanceNorm" || layer.op.kind === "layerNorm")
    // A norm that is written without a weight or a bias multiplies by 1, or adds 0.
    return {
      tensors: { weight: filled(channels, 1), bias: filled(channels, 0), ...own },
      reparameterised: [],
    };
  return { tensors: own, reparameterised: [] };
}

/** A batch norm that is weight · x + bias: without running statistics to speak of. */
function neutralNorm(layer: LayerNode, channels: Shape, bias?: Tensor, weight?: Tensor): Lifted["tensors"] {
  const epsilon = layer.op.kind === "batchNorm" ? layer.op.epsilon : 0;
  return {
    weight: weight ?? filled(channels, 1),
    bias: bias ?? filled(channels, 0),
    runningMean: filled(channels, 0),
    runningVar: filled(channels, 1 - epsilon),
  };
}

function filled(shape: Shape, value: number): Tensor<"float32"> {
  return { dtype: "float32", shape, data: new Float32Array(elementCount(shape)).fill(value) };
}

function incomplete(subject: string, problems: readonly string[]): InputError {
  return new InputError({
    code: "state-dict",
    subject,
    found: `${problems.length} ${problems.length === 1 ? "difference" : "differences"} from an OSNet`,
    expected: "a graph from which every parameter can be read",
    remedy: "repair the export; a network is never converted in part",
    details: problems,
  });
}
