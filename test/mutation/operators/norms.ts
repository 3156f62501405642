import type { LayerNode } from "../../../src/arch/index.js";
import { int, ints, type OnnxNode, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import { planeOf } from "../families.js";
import { type Mutation, type Operator, readersBehind, spread } from "../mutation.js";
import { type Instead, parameterOf, withNode } from "../network.js";
import { operator, replaced, scalar, wholes } from "../onnx-edits.js";
import { channelOf, first, mapped, normalised } from "../tensors.js";

const EPSILONS = [1e-3, 1e-6] as const;

/** Another epsilon in one layer, the embedding's batch norm among them. */
export const epsilons: Operator = (network) =>
  (["batchNorm", "instanceNorm", "layerNorm"] as const).flatMap((kind) =>
    [...spread(network, kind, 2), ...spread(network, kind, 1, ({ name }) => name.startsWith("fc."))].flatMap(
      (node) =>
        EPSILONS.map(
          (epsilon): Mutation => ({
            operator: `${kind}, ε ${epsilon.toExponential()}`,
            says: `${node.name} of ε ${epsilon}`,
            layers: [node.name],
            causes: ["epsilon"],
            // Folded, it is in the weights.
            ...(node.stream !== undefined && kind === "layerNorm" ? { notInLayers: true as const } : {}),
            kinds: kind === "batchNorm" ? ["numeric", "weights", "structure"] : ["numeric", "structure"],
            network: withNode(network, node.name, (each) => ({
              ...each,
              op: { ...each.op, epsilon } as LayerNode["op"],
            })),
          }),
        ),
    ),
  );

/** The unbiased variance of an instance norm: divided by n − 1. */
export const bessel: Operator = (network) =>
  spread(network, "instanceNorm", 2).map((node): Mutation => {
    const affine = affineOf(network, node);
    const size = planeOf(network, node.name);
    const instead: Instead = (inputs) => normalised(first(inputs), (i) => Math.floor(i / size), affine, 1);
    return {
      operator: "unbiased variance",
      says: `${node.name} with the unbiased variance`,
      layers: [node.name],
      causes: ["unbiased-variance"],
      kinds: ["numeric", "structure"],
      network: { ...network, instead: new Map([[node.name, instead]]) },
      onnx: spelledOut(node.name, [2, 3], affine.epsilon, size / (size - 1)),
    };
  });

/** A batch norm that normalises by its batch, is not there, or is there twice. */
export const batchNorms: Operator = (network) =>
  spread(network, "batchNorm", 2).flatMap((node): Mutation[] => {
    const at = { layers: [node.name], kinds: ["numeric", "structure"], unfolded: true } as const;
    const faulty = (instead: Instead): Mutation["network"] => ({
      ...network,
      instead: new Map([[node.name, instead]]),
    });
    const affine = affineOf(network, node);
    return [
      {
        ...at,
        operator: "batch norm missing",
        says: `${node.name} left out`,
        causes: ["batch-norm-missing"],
        network: faulty((inputs) => mapped(first(inputs), (x) => x)),
        onnx: operator(node.name, "Identity"),
      },
      {
        ...at,
        operator: "batch norm twice",
        says: `${node.name} applied twice`,
        // Found by structure, it is before the layer that reads it.
        layers: [node.name, ...readersBehind(network, node.name)],
        causes: ["batch-norm-twice"],
        network: faulty((inputs, own) => own([own(inputs)])),
        onnx: replaced(node.name, (own) => [
          { ...own, name: `${own.name}.once`, outputs: [`${node.name}.once`] },
          { ...own, inputs: [`${node.name}.once`, ...own.inputs.slice(1)] },
        ]),
      },
      {
        ...at,
        operator: "batch norm in training mode",
        says: `${node.name} in training mode`,
        causes: ["training-mode"],
        network: faulty((inputs) => normalised(first(inputs), channelOf(first(inputs)), affine)),
        onnx: spelledOut(node.name, [0, 2, 3], affine.epsilon, 1),
      },
    ];
  });

function affineOf(
  network: Parameters<Operator>[0],
  { op, parameters }: LayerNode,
): Parameters<typeof normalised>[2] {
  return {
    weight: parameterOf(network, parameters.weight ?? ""),
    bias: parameterOf(network, parameters.bias ?? ""),
    epsilon: "epsilon" in op ? op.epsilon : 0,
  };
}

/** A norm over axes of NCHW in single operators, its variance multiplied by a factor. */
function spelledOut(
  value: string,
  axes: readonly number[],
  epsilon: number,
  factor: number,
): NonNullable<Mutation["onnx"]> {
  const part = (suffix: string): string => `${value}.${suffix}`;
  const over = { axes: ints(...axes), keepdims: int(1) };
  const nodes = ({ inputs: [input = "", weight = "", bias = ""] }: OnnxNode): OnnxNode[] => [
    onnxNode(part("mean"), "ReduceMean", [input], over),
    onnxNode(part("centred"), "Sub", [input, part("mean")]),
    onnxNode(part("squares"), "Mul", [part("centred"), part("centred")]),
    onnxNode(part("biased"), "ReduceMean", [part("squares")], over),
    onnxNode(part("variance"), "Mul", [part("biased"), part("factor")]),
    onnxNode(part("stable"), "Add", [part("variance"), part("epsilon")]),
    onnxNode(part("deviation"), "Sqrt", [part("stable")]),
    onnxNode(part("normal"), "Div", [part("centred"), part("deviation")]),
    onnxNode(part("weight-column"), "Unsqueeze", [weight, part("axes")]),
    onnxNode(part("bias-column"), "Unsqueeze", [bias, part("axes")]),
    onnxNode(part("scaled"), "Mul", [part("normal"), part("weight-column")]),
    onnxNode(value, "Add", [part("scaled"), part("bias-column")]),
  ];
  return replaced(value, nodes, {
    [part("factor")]: scalar(factor),
    [part("epsilon")]: scalar(epsilon),
    [part("axes")]: wholes(1, 2),
  });
}
