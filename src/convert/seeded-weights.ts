import { type LayerGraph, type LayerNode, type ParameterRole, parametersOf } from "../arch/index.js";
import { InputError } from "../core/errors.js";
import { filled, mulberry32 } from "../core/functions.js";
import type { StateDict } from "../core/tensor.js";
import { elementCount, type Tensor } from "../core/tensor.js";

/** Limit on weights: 256 MiB in float32, thirty times osnet_x1_0. */
const MAX_ELEMENTS = 2 ** 26;

/**
 * A complete state dict of seeded random weights, float32, for verifying a conversion without a trained checkpoint. The
 * same seed gives the same bits on every machine.
 *
 * Convolutions and linear layers: uniform in ±√(3g/n) with n inputs per output and g = 2 before a ReLU (possibly
 * through a norm), else 1, so that activations keep their variance (He et al., "Delving Deep into Rectifiers"); their
 * biases in ±0.5/√n. A gate's two layers have g = 6, so that its sigmoid is not always near 1/2, and the hidden one is
 * biased towards positive values (from −⅓ of the bound), so that a hidden layer of one channel is not dead. Norms:
 * weight in [0.75, 1.25), bias and running mean in ±0.2, running variance in [0.75, 1.5), so that none is the identity
 * and a wrong epsilon, order or permutation has an effect. torchreid's own initialisation has identity norms, and a
 * depthwise convolution that shrinks its input by the root of its channels.
 *
 * @throws InputError (`spec`) if the network has more than `MAX_ELEMENTS` weights
 */
export function seededStateDict(graph: LayerGraph, seed: number): StateDict {
  const elements = parametersOf(graph).reduce((sum, { shape }) => sum + elementCount(shape), 0);
  if (elements > MAX_ELEMENTS)
    throw new InputError({
      code: "spec",
      subject: "seeded weights",
      found: `an architecture of ${elements} weights`,
      expected: `at most ${MAX_ELEMENTS}`,
      remedy: "use a narrower network",
    });
  const random = mulberry32(seed);
  const within =
    (low: number, high: number): (() => number) =>
    () =>
      low + (high - low) * random();
  const rectified = new Set(
    graph.nodes.filter(({ op }) => op.kind === "relu").flatMap(({ inputs }) => inputs),
  );
  const users = new Map<string, { readonly node: LayerNode; readonly role: ParameterRole }>();
  for (const node of graph.nodes)
    for (const [role, path] of Object.entries(node.parameters) as [ParameterRole, string][])
      if (!users.has(path)) users.set(path, { node, role });
  /** Whether a layer is followed by a ReLU, directly or through a norm. */
  const feedsRelu = ({ name }: LayerNode): boolean =>
    rectified.has(name) ||
    graph.nodes.some(
      ({ name: next, op, inputs }) => /Norm$/.test(op.kind) && inputs.includes(name) && rectified.has(next),
    );
  const drawOf = (path: string): (() => number) => {
    const user = users.get(path);
    if (!user) return () => 0;
    const { node, role } = user;
    const { op } = node;
    if (op.kind !== "conv" && op.kind !== "linear")
      return role === "weight"
        ? within(0.75, 1.25)
        : role === "runningVar"
          ? within(0.75, 1.5)
          : within(-0.2, 0.2);
    const inputs =
      op.kind === "conv" ? (op.inChannels / op.groups) * op.kernel[0] * op.kernel[1] : op.inFeatures;
    if (role === "bias") return within(-0.5 / Math.sqrt(inputs), 0.5 / Math.sqrt(inputs));
    const gain = node.part === "gate" ? 6 : feedsRelu(node) ? 2 : 1;
    const bound = Math.sqrt((3 * gain) / inputs);
    if (node.part === "gate" && path.endsWith(".fc1.weight")) return within(-bound / 3, bound);
    return within(-bound, bound);
  };
  return new Map(
    parametersOf(graph).map(({ path, shape, dtype }): [string, Tensor] => {
      if (dtype === "int64") return [path, { dtype, shape, data: new BigInt64Array(1) }];
      return [path, { dtype, shape, data: filled(new Float32Array(elementCount(shape)), drawOf(path)) }];
    }),
  );
}
