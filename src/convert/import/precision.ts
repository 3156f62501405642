import type { DType, Tensor } from "../../core/tensor.js";
import { codeToDType, type OnnxGraph } from "../formats/onnx/model.js";
import { int } from "./operators/site.js";

/**
 * Decided by the elements of tensors that the outputs depend on and that are not vectors: networks in half precision may
 * have wider scales and statistics.
 */
export function isHalfPrecision(graph: OnnxGraph): boolean {
  const { initializers, nodes, outputs } = graph;
  const needed = new Set(outputs.map(({ name }) => name));
  for (const node of nodes.toReversed())
    if (node.outputs.some((name) => needed.has(name))) for (const name of node.inputs) needed.add(name);
  const weights = [...initializers].flatMap(([name, tensor]) => (needed.has(name) ? [tensor] : []));
  return isMostlyHalf(weights, "float16", weightsOfHalf(graph));
}

/**
 * Whether most elements of weights are in a type of half precision, or are multiplied with values that were.
 *
 * @param tensors vectors among them do not count
 */
export function isMostlyHalf(
  tensors: readonly Tensor[],
  narrow: DType,
  ofHalf: ReadonlySet<Tensor> = new Set(),
): boolean {
  let [half, all] = [0, 0];
  for (const tensor of tensors) {
    if (tensor.shape.length < 2) continue;
    all += tensor.data.length;
    if (tensor.dtype === narrow || ofHalf.has(tensor)) half += tensor.data.length;
  }
  return 2 * half > all;
}

const PRODUCTS: ReadonlySet<string> = new Set(["Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul"]);

/**
 * The weights that are multiplied with values cast from float16 and used for nothing else, as converters leave the
 * products that they keep in float32: all that goes into these was rounded.
 */
export function weightsOfHalf({ inputs, initializers, nodes }: OnnxGraph): ReadonlySet<Tensor> {
  const types = new Map<string, DType | undefined>(inputs.map(({ name, dtype }) => [name, dtype]));
  for (const [name, { dtype }] of initializers) types.set(name, dtype);
  const widened = new Set<string>();
  const found = new Set<Tensor>();
  const others = new Set<Tensor>();
  for (const node of nodes) {
    const [input = ""] = node.inputs;
    const isCast = node.opType === "Cast";
    const type = isCast ? codeToDType(int(node, "to", 0)) : types.get(input);
    for (const output of node.outputs) types.set(output, type);
    if (isCast && (types.get(input) === "float16" || widened.has(input))) widened.add(node.outputs[0] ?? "");
    const isProduct = PRODUCTS.has(node.opType) && widened.has(input);
    for (const [index, name] of node.inputs.entries()) {
      const tensor = initializers.get(name);
      if (tensor) (isProduct && index === 1 ? found : others).add(tensor);
    }
  }
  return new Set([...found].filter((tensor) => !others.has(tensor)));
}
