import type { LayerNode } from "../../../src/arch/index.js";
import { seededStateDict } from "../../../src/convert/seeded-weights.js";
import { castFloat, isDType, toFloat32 } from "../../../src/core/tensor-cast.js";
import type { Cause } from "../../../src/verify/explain/index.js";
import { type Mutation, type Operator, readersOf, spread } from "../mutation.js";
import { type Network, withNode, withParameter } from "../network.js";

/** The seed of another checkpoint. */
const OTHER = 1000;

type Change = Parameters<typeof withParameter>[2];

function changed(
  network: Network,
  path: string,
  operator: string,
  causes: readonly Cause[],
  change: Change,
): Mutation {
  return {
    operator,
    says: `${path}: ${operator}`,
    layers: readersOf(network, path),
    causes,
    kinds: ["weights"],
    network: withParameter(network, path, change),
  };
}

/** One convolution of every kind: the stem's, pointwise, depthwise, a gate's, the embedding's. */
function products(network: Network): readonly LayerNode[] {
  const isDepthwise = ({ op }: LayerNode): boolean => op.kind === "conv" && op.groups > 1;
  const isGate = ({ name }: LayerNode): boolean => name.includes(".gate[");
  return [
    ...spread(network, "conv", 1),
    ...spread(
      network,
      "conv",
      2,
      (node) => !isDepthwise(node) && !isGate(node) && node.name !== "conv1.conv",
    ),
    ...spread(network, "conv", 1, isDepthwise),
    ...spread(network, "conv", 1, isGate),
    ...spread(network, "linear", 1, ({ name }) => name.startsWith("fc.")),
  ];
}

/** A single number that is off. */
export const singleNumbers: Operator = (network) => [
  ...products(network).map(({ parameters: { weight = "" } }) =>
    changed(network, weight, "one weight + 1 %", ["weights-other"], (values) => {
      // Of middle size: 1 % of the smallest is less than rounding, and no mistake.
      const sizes = [...values.keys()].sort((a, b) => Math.abs(values[a] ?? 0) - Math.abs(values[b] ?? 0));
      const at = sizes[Math.floor(sizes.length / 2)] ?? 0;
      values[at] = (values[at] as number) * 1.01;
      return values;
    }),
  ),
  ...network.graph.nodes
    .filter(({ name }) => /^conv2\.[01]\.gate\[1\]\.fc[12]$/.test(name))
    .map(({ parameters: { bias = "" } }) =>
      changed(network, bias, "one gate bias + 0.001", ["bias"], (values) => {
        values[values.length - 1] = (values.at(-1) as number) + 0.001;
        return values;
      }),
    ),
];

const ROUNDINGS: readonly (readonly [name: string, change: Change])[] = [
  ["float16", (values, shape) => cast(values, shape, "float16")],
  ["bfloat16", (values, shape) => cast(values, shape, "bfloat16")],
  ["int8", (values) => int8(values, values.length)],
  ["int8 by channel", (values, [outputs = 1]) => int8(values, values.length / outputs)],
];

function cast(values: Float32Array, shape: readonly number[], dtype: "float16" | "bfloat16"): Float32Array {
  const narrow = castFloat({ dtype: "float32", shape, data: values }, dtype, "weight");
  return toFloat32(narrow, "weight").data;
}

/** Multiples of max|w| / 127, one scale to each run of weights. */
function int8(values: Float32Array, run: number): Float32Array {
  return values.map((value, i) => {
    const from = i - (i % run);
    const largest = values.subarray(from, from + run).reduce((max, w) => Math.max(max, Math.abs(w)), 0);
    return Math.round((value / largest) * 127) * (largest / 127);
  });
}

export const roundings: Operator = (network) =>
  products(network).flatMap(({ parameters: { weight = "" } }) =>
    ROUNDINGS.map(([name, change]) =>
      changed(network, weight, `weights in ${name}`, ["weights-rounded"], change),
    ),
  );

/** Kernels transposed, H↔W and O↔I. */
export const transposed: Operator = (network) =>
  products(network).flatMap(({ op, parameters: { weight = "" } }) => {
    const mutations: Mutation[] = [];
    const cause = ["kernel-transposed"] as const;
    if (op.kind === "conv" && op.kernel[0] > 1) {
      const [size] = op.kernel;
      const exchange: Change = (values) =>
        values.map((_, i) => {
          const tap = i % (size * size);
          return values[i - tap + (tap % size) * size + Math.floor(tap / size)] as number;
        });
      mutations.push(changed(network, weight, "kernel H↔W", cause, exchange));
    }
    const [outputs, inputs] =
      op.kind === "conv"
        ? [op.outChannels, op.inChannels / op.groups]
        : op.kind === "linear"
          ? [op.outFeatures, op.inFeatures]
          : [1, 1];
    if (outputs > 1 && inputs > 1) {
      const taps = op.kind === "conv" ? op.kernel[0] * op.kernel[1] : 1;
      const exchange: Change = (values) =>
        values.map((_, i) => {
          const pair = Math.floor(i / taps);
          const other = (pair % outputs) * inputs + Math.floor(pair / outputs);
          return values[other * taps + (i % taps)] as number;
        });
      if (taps === 1) mutations.push(changed(network, weight, "kernel O↔I", cause, exchange));
    }
    return mutations;
  });

/** A tensor of another checkpoint, of another layer, or read one element or byte too far on. */
export const misplaced: Operator = (network) => {
  const others = seededStateDict(network.graph, OTHER);
  const [, pointwise, , depthwise, gate] = products(network);
  const norm = spread(network, "batchNorm", 2)[1];
  const paths = [
    pointwise?.parameters.weight,
    depthwise?.parameters.weight,
    gate?.parameters.weight,
    norm?.parameters.weight,
    norm?.parameters.runningMean,
    norm?.parameters.runningVar,
  ].filter((path) => path !== undefined);
  return [
    ...paths.map((path) =>
      changed(network, path, "tensor of another checkpoint", STALE, () => {
        const tensor = others.get(path);
        if (!tensor || !isDType(tensor, "float32")) throw new Error(`no ${path}`);
        return tensor.data;
      }),
    ),
    ...paths.slice(0, 3).flatMap((path) => [
      changed(network, path, "tensor one element on", ["bytes-shifted"], (values) =>
        values.map((_, i) => values[(i + 1) % values.length] as number),
      ),
      changed(network, path, "tensor one byte on", STALE, (values) => {
        const bytes = new Uint8Array(values.slice().buffer);
        const shifted = new Float32Array(bytes.map((_, i) => bytes[(i + 1) % bytes.length] as number).buffer);
        // A byte of the mantissa as the exponent gives anything: what a runtime can compute with is kept.
        return shifted.map((value) => (Math.abs(value) > 1e-30 && Math.abs(value) < 1e6 ? value : 0));
      }),
    ]),
    ...elsewhere(network),
  ];
};

const STALE = ["weights-other", "weights-elsewhere", "bias", "scaled"] as const;

/** Another block's gate, or another layer's module, in a layer's place. */
function elsewhere(network: Network): Mutation[] {
  const from = /^conv2\.1\.gate\[[0-9]\]\.fc([12])$/;
  const gates = network.graph.nodes.filter(({ name }) => from.test(name));
  const first = gates.filter(({ stream }) => stream === 1);
  return [
    ...first.map((node): Mutation => {
      const fc = node.name.slice(-3);
      const exchange = (path: string): string => path.replace("conv2.1.gate", "conv2.0.gate");
      const readers = gates.filter(({ name }) => name.endsWith(fc));
      return {
        operator: "another block's gate",
        says: `conv2.1.gate.${fc} is conv2.0.gate.${fc}`,
        layers: readers.map(({ name }) => name),
        causes: ["weights-elsewhere"],
        kinds: ["weights"],
        network: readers.reduce(
          (faulty, { name }) =>
            withNode(faulty, name, (each) => ({
              ...each,
              parameters: Object.fromEntries(
                Object.entries(each.parameters).map(([role, path]) => [role, exchange(path)]),
              ),
            })),
          network,
        ),
      };
    }),
  ];
}
