import { ints, type OnnxNode, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { RealTensor, Tensor } from "../../../src/core/tensor.js";
import { type Mutation, type Operator, readersBehind, spread } from "../mutation.js";
import { blocksAmong, type Network } from "../network.js";
import {
  followed,
  gelu,
  generalisedMean,
  multiplied,
  type OnnxEdit,
  replaced,
  scalar,
  silu,
  squared,
  tempered,
  wholes,
} from "../onnx-edits.js";
import { first, mapped } from "../tensors.js";

/** What other people's exports and training code put in the place of a layer, or behind the last. */

const OTHER = ["structure", "numeric"] as const;

type Instead = (inputs: readonly RealTensor[], own: () => Tensor<"float64">) => Tensor<"float64">;

function at(network: Network, name: string, instead: Instead): Mutation["network"] {
  return { ...network, instead: new Map([[name, (inputs, own) => instead(inputs, () => own(inputs))]]) };
}

/** The mean of a block's streams in place of their sum; the residual taken away in place of added. */
export const sums: Operator = (network) =>
  blocksAmong(network, ["conv2.1", "conv3.0"]).flatMap((block): Mutation[] => {
    const aggregate = network.graph.nodes.find(({ name }) => name === `${block}.aggregate`);
    const streams = aggregate?.inputs.length ?? 1;
    const add = `${block}.add`;
    return [
      {
        operator: "streams averaged",
        says: `${block}: the mean of its streams`,
        layers: [`${block}.aggregate`],
        causes: ["terms-weighted"],
        kinds: OTHER,
        network: at(network, `${block}.aggregate`, (_, own) => mapped(own(), (x) => x / streams)),
        onnx: multiplied(`${block}.aggregate`, 1 / streams),
      },
      {
        operator: "residual subtracted",
        says: `${add} subtracts the identity`,
        // A recording has no sums: there the layer after reads what should have been added.
        layers: [add],
        causes: ["terms-weighted", "term-missing", "layer-bypassed"],
        kinds: OTHER,
        network: at(network, add, ([a, b]) =>
          mapped(first(a ? [a] : []), (x, i) => x - ((b?.data[i] as number | undefined) ?? 0)),
        ),
        onnx: replaced(add, (own) => [{ ...own, opType: "Sub" }]),
      },
    ];
  });

/** Error function, to 1.2e-7 (Numerical Recipes, erfc by a Chebyshev fit): what float32 shows. */
function erf(x: number): number {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const series = [
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
    -0.82215223, 0.17087277,
  ].reduceRight((sum, c) => c + t * sum, 0);
  const complement = t * Math.exp(-x * x + series);
  return x >= 0 ? 1 - complement : complement - 1;
}

/** Squared ReLUs, and GELU or SiLU at the end. */
export const activations: Operator = (network) => {
  const relus = network.graph.nodes.filter(({ op }) => op.kind === "relu");
  const last = relus.at(-1)?.name ?? "";
  const instead = (name: string, f: (x: number) => number, onnx: OnnxEdit, what: string): Mutation => ({
    operator: what,
    says: `${name}: ${what}`,
    // Found by structure, it may be before the layer that reads it.
    layers: [name, ...readersBehind(network, name)],
    causes: ["relu-other"],
    kinds: OTHER,
    network: at(network, name, (inputs) => mapped(first(inputs), f)),
    onnx,
  });
  return [
    ...spread(network, "relu", 2).map(({ name }) =>
      instead(name, (x) => Math.max(x, 0) ** 2, squared(name), "ReLU squared"),
    ),
    instead(last, (x) => (x * (1 + erf(x * Math.SQRT1_2))) / 2, gelu(last), "GELU at the end"),
    instead(last, (x) => x / (1 + Math.exp(-x)), silu(last), "SiLU at the end"),
  ];
};

/** Gates whose sigmoid has a temperature. */
export const temperatures: Operator = (network) =>
  spread(network, "sigmoid", 2, ({ name }) => name.includes(".gate[")).map(
    ({ name }): Mutation => ({
      operator: "gate of another temperature",
      says: `${name}: sigmoid(x / 2)`,
      layers: [name],
      causes: ["sigmoid-temperature"],
      kinds: OTHER,
      network: at(network, name, (inputs) => mapped(first(inputs), (x) => 1 / (1 + Math.exp(-x / 2)))),
      onnx: tempered(name, 2),
    }),
  );

/** A generalised mean of power 3 in place of the mean before the embedding. */
export const generalisedMeans: Operator = (network) =>
  network.graph.nodes
    .filter(({ name, op }) => op.kind === "globalAvgPool" && !name.includes(".gate["))
    .map(
      ({ name }): Mutation => ({
        operator: "GeM pool",
        says: `${name}: GeM of power 3`,
        layers: [name],
        causes: ["pooling"],
        kinds: OTHER,
        network: at(network, name, (inputs, own) => {
          const input = first(inputs);
          const mean = own();
          const size = input.data.length / mean.data.length;
          return mapped(mean, (_, i) => {
            let sum = 0;
            for (let k = 0; k < size; k++) sum += Math.max(input.data[i * size + k] as number, 1e-6) ** 3;
            return (sum / size) ** (1 / 3);
          });
        }),
        onnx: generalisedMean(name, 3),
      }),
    );

interface Tail {
  readonly operator: string;
  readonly f: (output: RealTensor) => Tensor<"float64">;
  readonly nodes: (before: string, after: string) => readonly OnnxNode[];
  readonly constants?: (after: string) => Readonly<Record<string, Tensor>>;
}

const TAILS: readonly Tail[] = [
  {
    operator: "output × 2",
    f: (output) => mapped(output, (x) => 2 * x),
    nodes: (before, after) => [onnxNode(after, "Mul", [before, `${after}.factor`])],
    constants: (after) => ({ [`${after}.factor`]: scalar(2) }),
  },
  {
    operator: "output reversed",
    f: (output) => {
      const width = output.shape.at(-1) ?? 1;
      return mapped(output, (_, i) => output.data[i - (i % width) + width - 1 - (i % width)] as number);
    },
    nodes: (before, after) => [
      onnxNode(after, "Slice", [before, `${after}.from`, `${after}.to`, `${after}.axis`, `${after}.step`]),
    ],
    constants: (after) => ({
      [`${after}.from`]: wholes(-1),
      [`${after}.to`]: wholes(-1_000_000),
      [`${after}.axis`]: wholes(1),
      [`${after}.step`]: wholes(-1),
    }),
  },
  {
    operator: "output less its mean over the batch",
    f: (output) => {
      const [images = 1, width = 1] = output.shape;
      return mapped(output, (x, i) => {
        let sum = 0;
        for (let image = 0; image < images; image++)
          sum += output.data[image * width + (i % width)] as number;
        return x - sum / images;
      });
    },
    nodes: (before, after) => [
      onnxNode(`${after}.mean`, "ReduceMean", [before], { axes: ints(0) }),
      onnxNode(after, "Sub", [before, `${after}.mean`]),
    ],
  },
];

/** Arithmetic behind the last layer. */
export const tails: Operator = (network) => {
  const { outputs } = network.graph;
  const result = outputs[outputs.evaluation] ?? outputs.features;
  return TAILS.map(
    ({ operator: name, f, nodes, constants }): Mutation => ({
      operator: name,
      says: `${name} behind ${result}`,
      layers: [result],
      causes: ["scaled", "relu-other", "layout", "terms-weighted", "weights-other", "weights-elsewhere"],
      kinds: OTHER,
      network: at(network, result, (_, own) => f(own())),
      onnx: (model) => {
        const after = model.graph.outputs[0]?.name ?? "";
        return followed(after, (before) => nodes(before, after), constants?.(after))(model);
      },
    }),
  );
};

/** The first output is what the last layer reads. */
export const otherOutput: Operator = (network) => {
  const { outputs } = network.graph;
  const result = outputs[outputs.evaluation] ?? outputs.features;
  const last = network.graph.nodes.find(({ name }) => name === result);
  const other = last?.inputs[0];
  // What a sigmoid at the end reads is a result too: logits, which the verdict names.
  if (other === undefined || last?.op.kind === "sigmoid") return [];
  return [
    {
      operator: "first output of another layer",
      says: `${other} in place of ${result}`,
      layers: [result],
      causes: ["relu-missing", "layer-bypassed"],
      kinds: ["structure", "missing", "numeric"],
      network: at(network, result, (inputs) => mapped(first(inputs), (x) => x)),
      onnx: (model) => ({
        ...model,
        graph: {
          ...model.graph,
          outputs: model.graph.outputs.map((output, i) => (i === 0 ? { ...output, name: other } : output)),
        },
      }),
    },
  ];
};
