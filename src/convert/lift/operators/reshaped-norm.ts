import type { Tensor } from "../../../tensor.js";
import { type ForeignNode, isKind, type Value } from "../foreign.js";
import { nodeValue, numbers } from "./site.js";

/**
 * How PyTorch computes an instance norm, and its dynamo exporter of 2.1 writes it: [N, C, H, W] as [1, N·C, H, W], a batch
 * norm by the statistics of that, its weights N times one after the other, and [N, C, H, W] again. Behind it, the
 * exporter reshapes to and fro what a ReLU did in place.
 */

/** What a reshaping to `target`, the shape before an earlier reshaping, makes: undefined where it is none such. */
export function reshapedBack(
  input: ForeignNode,
  target: readonly number[],
  output: string,
): Value | undefined {
  const merged = isKind(input, "trainingNorm") ? input.inputs[0] : input;
  const x =
    merged && isKind(merged, "other") && merged.op.opType === "Reshape" ? merged.inputs[0] : undefined;
  const { channels, size } = x?.form ?? {};
  if (!merged || !isKind(merged, "other") || !x || !channels || !size) return undefined;
  // Of as many elements: with these the batch is the same.
  const [batch = 0] = target;
  if (String(target) !== String([batch, channels, ...size])) return undefined;
  if (!isKind(input, "trainingNorm")) return { kind: "node", node: x };
  const between = numbers(merged.op.operands[1]);
  return String(between) === String([1, batch * channels, ...size])
    ? instanceNorm(x, input, channels, output)
    : undefined;
}

function instanceNorm(
  x: ForeignNode,
  norm: ForeignNode<"trainingNorm">,
  channels: number,
  output: string,
): Value | undefined {
  const [weight, bias] = [once(norm.constants.weight, channels), once(norm.constants.bias, channels)];
  if (!weight || !bias) return undefined;
  const { epsilon } = norm.op;
  return nodeValue({ kind: "instanceNorm", epsilon }, [x], x.form, output, { weight, bias });
}

/** The vector that a longer one repeats throughout. */
function once(tensor: Tensor | undefined, length: number): Tensor | undefined {
  const { data } = tensor ?? {};
  if (!tensor || !data || data.length % length !== 0) return undefined;
  for (let index = length; index < data.length; index++)
    if (!Object.is(data[index], data[index - length])) return undefined;
  return { ...tensor, shape: [length], data: data.subarray(0, length) } as Tensor;
}
