import { type DType, elementCount, formatShape, type Shape, sameShape, type Tensor } from "../core/tensor.js";
import type { LayerGraph, LayerNode, Op, OpKind, ParameterRole } from "./graph.js";

/** One entry of the network's `state_dict()`. */
export interface ParameterSpec {
  /** Its key in the state dict, such as `conv2.0.gate.fc1.weight`. */
  readonly path: string;
  /** As in PyTorch: convolutions OIHW, linear layers [out, in], norms [channels], counters []. */
  readonly shape: Shape;
  /**
   * As in PyTorch: `int64` for `num_batches_tracked`, `float32` for all others. A file may store other floating-point
   * types.
   */
  readonly dtype: Extract<DType, "float32" | "int64">;
  /** Learned parameters count towards the model's size; buffers (running statistics) do not. */
  readonly kind: "parameter" | "buffer";
  /** Checkpoints from before PyTorch 0.4.1 have no `num_batches_tracked`, and inference never reads it. */
  readonly optional: boolean;
}

type RoleShapes = Readonly<Partial<Record<ParameterRole, Shape>>>;

const NO_PARAMETERS = (): RoleShapes => ({});

/** Shape of each parameter an operation reads: convolutions OIHW, linear layers [out, in], norms [channels]. */
export const PARAMETER_SHAPES: { readonly [K in OpKind]: (op: Op<K>) => RoleShapes } = {
  input: NO_PARAMETERS,
  conv: (op) => ({
    weight: [op.outChannels, op.inChannels / op.groups, ...op.kernel],
    ...(op.bias ? { bias: [op.outChannels] } : {}),
  }),
  linear: (op) => ({ weight: [op.outFeatures, op.inFeatures], bias: [op.outFeatures] }),
  batchNorm: ({ channels }) => ({
    weight: [channels],
    bias: [channels],
    runningMean: [channels],
    runningVar: [channels],
  }),
  instanceNorm: ({ channels }) => ({ weight: [channels], bias: [channels] }),
  layerNorm: ({ channels }) => ({ weight: [channels, 1, 1], bias: [channels, 1, 1] }),
  relu: NO_PARAMETERS,
  sigmoid: NO_PARAMETERS,
  maxPool: NO_PARAMETERS,
  avgPool: NO_PARAMETERS,
  globalAvgPool: NO_PARAMETERS,
  globalMaxPool: NO_PARAMETERS,
  flatten: NO_PARAMETERS,
  scale: NO_PARAMETERS,
  add: NO_PARAMETERS,
};

/**
 * Every entry of the network's state dict, once each, in torchreid's `state_dict()` order. The gate's weights, read by
 * all streams of a block, are one entry.
 */
export function parametersOf(graph: LayerGraph): readonly ParameterSpec[] {
  const byPath = new Map<string, ParameterSpec>();
  for (const node of graph.nodes)
    for (const parameter of nodeParameters(node))
      if (!byPath.has(parameter.path)) byPath.set(parameter.path, parameter);
  return [...byPath.values()];
}

function nodeParameters(node: LayerNode): ParameterSpec[] {
  // One lookup over a union of operations: the table's type pairs each kind with its own function.
  const shapes = (PARAMETER_SHAPES[node.op.kind] as (op: Op) => RoleShapes)(node.op);
  const entries = (Object.entries(node.parameters) as [ParameterRole, string][]).map(
    ([role, path]): ParameterSpec => ({
      path,
      shape: shapes[role] ?? [],
      dtype: "float32",
      kind: role === "runningMean" || role === "runningVar" ? "buffer" : "parameter",
      optional: false,
    }),
  );
  const { runningVar } = node.parameters;
  if (runningVar !== undefined)
    entries.push({
      path: runningVar.replace(/running_var$/, "num_batches_tracked"),
      shape: [],
      dtype: "int64",
      kind: "buffer",
      optional: true,
    });
  return entries;
}

/** Learned parameters of the whole network, and of what inference to the embedding needs (no classifier). */
export function parameterCount(graph: LayerGraph): { readonly total: number; readonly embedding: number } {
  const count = (skip: (path: string) => boolean): number =>
    parametersOf(graph)
      .filter(({ kind, path }) => kind === "parameter" && !skip(path))
      .reduce((sum, { shape }) => sum + elementCount(shape), 0);
  return {
    total: count(() => false),
    embedding: count((path) => path.startsWith("classifier.")),
  };
}

/** The part of a tensor that identification reads. */
export type TensorHeader = Pick<Tensor, "shape" | "dtype">;

/** All differences between a state dict and a spec. */
export interface StateDictProblems {
  /** Keys that the state dict lacks, each with its shape. */
  readonly missing: readonly string[];
  /** Keys that are not parameters of the network, each with its shape. */
  readonly unexpected: readonly string[];
  /** Keys with a different shape, with both shapes. */
  readonly misshaped: readonly string[];
  /** Keys without floating-point numbers, with the dtype found. */
  readonly wrongDtype: readonly string[];
}

/** Compares a state dict with a network's parameters; the result lists everything, in the network's order. */
export function compareStateDict(
  stateDict: ReadonlyMap<string, TensorHeader>,
  graph: LayerGraph,
): StateDictProblems {
  const expected = new Map(parametersOf(graph).map((parameter) => [parameter.path, parameter]));
  const missing: string[] = [];
  const misshaped: string[] = [];
  const wrongDtype: string[] = [];
  for (const { path, shape, dtype, optional } of expected.values()) {
    const found = stateDict.get(path);
    if (!found) {
      if (!optional) missing.push(`${path} ${formatShape(shape)}`);
    } else if (!sameShape(found.shape, shape) && !optional)
      misshaped.push(`${path}: found ${formatShape(found.shape)}, expected ${formatShape(shape)}`);
    else if (dtype === "float32" && !isFloat(found.dtype))
      wrongDtype.push(`${path}: found ${found.dtype}, expected a floating-point type`);
  }
  const unexpected = [...stateDict]
    .filter(([path]) => !expected.has(path))
    .map(([path, { shape }]) => `${path} ${formatShape(shape)}`);
  return { missing, unexpected, misshaped, wrongDtype };
}

/** The path of the module that a parameter belongs to. */
export function moduleOf(path: string): string {
  return path.slice(0, path.lastIndexOf("."));
}

/** The total number of problems. */
export function countProblems(problems: StateDictProblems): number {
  const { missing, unexpected, misshaped, wrongDtype } = problems;
  return missing.length + unexpected.length + misshaped.length + wrongDtype.length;
}

function isFloat(dtype: TensorHeader["dtype"]): boolean {
  return dtype === "float32" || dtype === "float64" || dtype === "float16" || dtype === "bfloat16";
}
