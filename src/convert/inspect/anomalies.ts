import { type LayerGraph, type LayerNode, type ParameterRole, parametersOf } from "../../arch/index.js";
import type { Shape, StateDict } from "../../core/tensor.js";
import { MIN_NORMAL, toReal } from "../../core/tensor-cast.js";

/** An `error` makes the network useless, a `warning` deserves attention, `info` explains what ordinary files show. */
export type Severity = "error" | "warning" | "info";

/** The anomalies of weights, described by `ANOMALIES`. */
export type AnomalyKind =
  | "non-finite"
  | "negative-variance"
  | "untrained"
  | "untrained-statistics"
  | "constant-weights"
  | "dead-channels"
  | "denormal-variance"
  | "denormal"
  | "one-channel-gate";

/** The kinds of anomalies, worst first. */
export const ANOMALIES: Readonly<
  Record<AnomalyKind, { readonly severity: Severity; readonly explanation: string }>
> = {
  "non-finite": { severity: "error", explanation: "NaN or infinite values, which spread to every embedding" },
  "negative-variance": {
    severity: "error",
    explanation: "running variances below 0, which make their channels NaN",
  },
  untrained: {
    severity: "warning",
    explanation:
      "every norm has its initial values (weight 1, bias 0, mean 0, variance 1): the network was never trained",
  },
  "untrained-statistics": {
    severity: "warning",
    explanation: "batch norms with mean 0 and variance 1 throughout: their statistics were never updated",
  },
  "constant-weights": { severity: "warning", explanation: "layers whose weights are all equal" },
  "dead-channels": {
    severity: "warning",
    explanation: "dead channels: a norm's weight is below 1e-6, or a filter is all zeros",
  },
  "denormal-variance": {
    severity: "warning",
    explanation:
      "running variances below 1.2e-38: channels that were constant in training, where epsilon dominates",
  },
  denormal: {
    severity: "warning",
    explanation:
      "other values below 1.2e-38, the smallest normal float32: slow to compute with, and written as zeros where that changes no output",
  },
  "one-channel-gate": {
    severity: "info",
    explanation: "gates with one hidden channel, where rounding errors do not average out",
  },
};

/** One kind of anomaly with all its occurrences. */
export interface Anomaly {
  /** Which anomaly it is. */
  readonly kind: AnomalyKind;
  /** `error`: embeddings are unusable. `warning`: probably a mistake. `info`: worth knowing. */
  readonly severity: Severity;
  /** What it means, as a clause. */
  readonly explanation: string;
  /** Values, or channels, concerned in all tensors together. */
  readonly count: number;
  /** In the network's order. */
  readonly tensors: readonly AnomalousTensor[];
}

/** A tensor with an anomaly. */
export interface AnomalousTensor {
  /** Its key in the state dict. */
  readonly path: string;
  /** Number of its values, or channels, with the anomaly. */
  readonly count: number;
  /** Number of values, or channels, of the tensor. */
  readonly of: number;
  /** The first of them, in row-major order. */
  readonly first: {
    /** The index of the first value; for a channel, its number alone. */
    readonly index: readonly number[];
    /** The last three as strings, since JSON cannot represent them. */
    readonly value: number | "NaN" | "Infinity" | "-Infinity";
  };
}

/** Below this, a norm's weight reduces its channel to nothing compared with the others, which are near 1. */
const DEAD_WEIGHT = 1e-6;

type Values = Float32Array | Float64Array;

/** Lists the anomalies in the weights of a complete state dict, the worst first. Other heads are not checked. */
export function findAnomalies(graph: LayerGraph, stateDict: StateDict): readonly Anomaly[] {
  const findings = new Map<AnomalyKind, AnomalousTensor[]>();
  const report = (kind: AnomalyKind, tensor: AnomalousTensor | undefined): void => {
    if (tensor) findings.set(kind, [...(findings.get(kind) ?? []), tensor]);
  };
  const values = realValues(graph, stateDict);
  for (const [path, { data, shape }] of values) {
    report(
      "non-finite",
      select(path, data, shape, (value) => !Number.isFinite(value)),
    );
    const denormal = path.endsWith(".running_var") ? "denormal-variance" : "denormal";
    report(
      denormal,
      select(path, data, shape, (value) => value !== 0 && Math.abs(value) < MIN_NORMAL),
    );
  }
  const untrained = initialNorms(graph, values);
  for (const path of untrained ?? []) report("untrained", whole(path, values.get(path)?.data.length ?? 0, 1));
  for (const node of ownersOf(graph)) {
    const read = (role: ParameterRole): Values | undefined => values.get(node.parameters[role] ?? "")?.data;
    for (const [kind, tensor] of layerAnomalies(node, read))
      if (!untrained || kind !== "untrained-statistics") report(kind, tensor);
  }
  return (Object.keys(ANOMALIES) as AnomalyKind[]).flatMap((kind) => {
    const tensors = findings.get(kind);
    if (!tensors) return [];
    return [{ kind, ...ANOMALIES[kind], count: tensors.reduce((sum, { count }) => sum + count, 0), tensors }];
  });
}

/** Whether a network was never trained: parity of such weights says little about trained ones. */
export function isUntrained(graph: LayerGraph, stateDict: StateDict): boolean {
  return initialNorms(graph, realValues(graph, stateDict)) !== undefined;
}

/** A folded norm's variance of 1 − ε counts as 1 too. */
const NEAR_ONE = 2e-5;

/** The weights of all norms, if there are some and every one is as PyTorch initialises it. */
function initialNorms(
  graph: LayerGraph,
  values: ReadonlyMap<string, { readonly data: Values }>,
): readonly string[] | undefined {
  const all = (path: string | undefined, matches: (value: number) => boolean): boolean =>
    path === undefined || (values.get(path)?.data.every((value) => matches(value)) ?? true);
  const norms = ownersOf(graph).filter(({ op }) => op.kind.endsWith("Norm"));
  const isInitial = norms.every(
    ({ parameters: { weight, bias, runningMean, runningVar } }) =>
      all(weight, (value) => value === 1) &&
      all(bias, (value) => value === 0) &&
      all(runningMean, (value) => value === 0) &&
      all(runningVar, (value) => Math.abs(value - 1) <= NEAR_ONE),
  );
  return isInitial && norms.length > 0
    ? norms.flatMap(({ parameters }) => parameters.weight ?? [])
    : undefined;
}

/** The network's weights and statistics; they are floating point, or they were not identified. */
function realValues(
  graph: LayerGraph,
  stateDict: StateDict,
): ReadonlyMap<string, { readonly data: Values; readonly shape: Shape }> {
  return new Map(
    parametersOf(graph).flatMap(({ path, optional }) => {
      const tensor = stateDict.get(path);
      return tensor && !optional ? [[path, toReal(tensor, path)] as const] : [];
    }),
  );
}

/** The layers with parameters, once for each set of them: a gate's streams share one. */
function ownersOf(graph: LayerGraph): LayerNode[] {
  const seen = new Set<string>();
  return graph.nodes.filter(({ parameters: { weight } }) => {
    if (weight === undefined || seen.has(weight)) return false;
    seen.add(weight);
    return true;
  });
}

/** The anomalies of one layer's parameters. */
function* layerAnomalies(
  { op, parameters, part }: LayerNode,
  read: (role: ParameterRole) => Values | undefined,
): Generator<readonly [AnomalyKind, AnomalousTensor | undefined]> {
  const path = parameters.weight ?? "";
  const weight = read("weight");
  if (!weight) return;
  if (op.kind === "conv" || op.kind === "linear") {
    const channels = op.kind === "conv" ? op.outChannels : op.outFeatures;
    const size = weight.length / channels;
    const rowIsZero = (channel: number): boolean =>
      weight.subarray(channel * size, (channel + 1) * size).every((value) => value === 0);
    yield ["dead-channels", select(path, firstOfRows(weight, channels), [channels], (_, c) => rowIsZero(c))];
    const constant = weight.length > 1 && weight.every((value) => value === weight[0]);
    if (constant) yield ["constant-weights", whole(path, weight.length, weight[0] ?? 0)];
    const isGate = op.kind === "conv" && part === "gate" && path.endsWith(".fc1.weight");
    if (isGate && channels === 1) yield ["one-channel-gate", whole(path, 1, weight[0] ?? 0)];
    return;
  }
  yield ["dead-channels", select(path, weight, [weight.length], (value) => Math.abs(value) < DEAD_WEIGHT)];
  const [mean, variance] = [read("runningMean"), read("runningVar")];
  if (!mean || !variance) return;
  yield [
    "negative-variance",
    select(parameters.runningVar ?? path, variance, [variance.length], (v) => v < 0),
  ];
  if (mean.every((value) => value === 0) && variance.every((value) => value === 1))
    yield ["untrained-statistics", whole(parameters.runningVar ?? path, variance.length, 1)];
}

/** The values of a tensor that match; undefined if none does. */
function select(
  path: string,
  data: Values,
  shape: Shape,
  matches: (value: number, index: number) => boolean,
): AnomalousTensor | undefined {
  let count = 0;
  let first = -1;
  for (let index = 0; index < data.length; index++) {
    if (!matches(data[index] as number, index)) continue;
    if (count++ === 0) first = index;
  }
  if (count === 0) return undefined;
  return {
    path,
    count,
    of: data.length,
    first: { index: position(first, shape), value: jsonNumber(data[first] ?? 0) },
  };
}

function whole(path: string, count: number, value: number): AnomalousTensor {
  return { path, count, of: count, first: { index: [0], value: jsonNumber(value) } };
}

/** The first value of each row. */
function firstOfRows(data: Values, rows: number): Float64Array {
  return Float64Array.from({ length: rows }, (_, row) => data[(row * data.length) / rows] ?? 0);
}

/** The coordinates of an element, outermost first. */
function position(index: number, shape: Shape): number[] {
  let rest = index;
  return shape
    .toReversed()
    .map((size) => {
      const coordinate = rest % size;
      rest = Math.floor(rest / size);
      return coordinate;
    })
    .reverse();
}

function jsonNumber(value: number): AnomalousTensor["first"]["value"] {
  if (Number.isFinite(value)) return value;
  return Number.isNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}
