import { float, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import { type Mutation, type Operator, readersBehind, spread } from "../mutation.js";
import type { Network } from "../network.js";
import { operator, replaced } from "../onnx-edits.js";
import { first, mapped } from "../tensors.js";

const OPERATION = ["structure", "numeric"] as const;

function instead(network: Network, name: string, f: (x: number) => number): Mutation["network"] {
  return { ...network, instead: new Map([[name, (inputs) => mapped(first(inputs), f)]]) };
}

/** ReLUs that are missing, clipped or leak. */
export const relus: Operator = (network) =>
  spread(network, "relu", 3).flatMap((node): Mutation[] => {
    const at = { layers: [node.name], kinds: OPERATION, causes: ["relu-missing", "relu-other"] } as const;
    return [
      {
        ...at,
        operator: "ReLU missing",
        says: `${node.name} missing`,
        network: instead(network, node.name, (x) => x),
        onnx: operator(node.name, "Identity"),
      },
      {
        ...at,
        operator: "leaky ReLU",
        says: `${node.name} leaks`,
        network: instead(network, node.name, (x) => (x < 0 ? 0.01 * x : x)),
        onnx: operator(node.name, "LeakyRelu", { alpha: float(0.01) }),
      },
    ];
  });

/** ReLUs where there are none: after a block's last convolution, its shortcut, a gate's. */
export const surplusRelus: Operator = (network) =>
  network.graph.nodes
    .filter(({ name }) => /^conv2\.0\.(conv3\.(bn|conv)|downsample\.bn|gate\[1\]\.fc2)$/.test(name))
    .filter(
      ({ name }) =>
        name !== "conv2.0.conv3.conv" || !network.graph.nodes.some((n) => n.name === "conv2.0.conv3.bn"),
    )
    .map(
      ({ name }): Mutation => ({
        operator: "ReLU extra",
        says: `a ReLU after ${name}`,
        // Found by structure, it is before the layer that reads it.
        layers: [name, ...readersBehind(network, name)],
        causes: ["relu-extra"],
        kinds: OPERATION,
        network: {
          ...network,
          instead: new Map([[name, (inputs, own) => mapped(own(inputs), (y) => Math.max(y, 0))]]),
        },
        onnx: replaced(name, (own) => [
          { ...own, name: `${name}.before`, outputs: [`${name}.before`] },
          onnxNode(name, "Relu", [`${name}.before`]),
        ]),
      }),
    );

const SIGMOIDS = [
  { says: "HardSigmoid of slope 1/5", alpha: 0.2, cause: "hard-sigmoid" },
  { says: "HardSigmoid of slope 1/6", alpha: 1 / 6, cause: "hard-sigmoid" },
  { says: "sigmoid missing", alpha: undefined, cause: "sigmoid-missing" },
] as const;

/** Gates of another activation. */
export const sigmoids: Operator = (network) =>
  spread(network, "sigmoid", 2).flatMap((node) =>
    SIGMOIDS.map(
      ({ says, alpha, cause }): Mutation => ({
        operator: says,
        says: `${node.name}: ${says}`,
        layers: [node.name],
        causes: [cause],
        kinds: OPERATION,
        network: instead(network, node.name, (x) =>
          alpha === undefined ? x : Math.min(Math.max(alpha * x + 0.5, 0), 1),
        ),
        onnx:
          alpha === undefined
            ? operator(node.name, "Identity")
            : operator(node.name, "HardSigmoid", { alpha: float(alpha), beta: float(0.5) }),
      }),
    ),
  );
