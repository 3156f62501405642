import { scaleRows } from "../../arch/batch-norm.js";
import type { LayerNode, Op } from "../../arch/index.js";
import { moduleOf } from "../../arch/parameters.js";
import { filled, largestMagnitude } from "../../core/functions.js";
import { type Shape, sameShape } from "../../core/tensor.js";
import { castFloat, type HalfDType, toFloat64 } from "../../core/tensor-cast.js";
import { commonPrefix } from "../../core/text.js";
import { affineOf } from "../bounds/norms.js";
import type { ParameterSource } from "../reference/evaluate-layer.js";
import {
  type Evidence,
  type Guess,
  type Hypothesis,
  type Product,
  productOf,
  type Step,
  trialOf,
} from "./hypothesis.js";

/** Hypotheses about what happened to a layer's weights. */
export const guessWeights: Guess = (step, evidence) => {
  const { op } = step.node;
  if (op.kind !== "conv" && op.kind !== "linear") return normTensors(step, evidence);
  const { parameters } = evidence;
  const product = productOf(step.node, op, parameters);
  const trial = trialOf(step, evidence);
  const compute = (
    cause: Hypothesis["cause"],
    says: string,
    weight: () => Float64Array | undefined,
  ): Hypothesis => ({
    cause,
    says,
    plausible: () => {
      const values = weight();
      return values !== undefined && trial({ weight: values });
    },
    output: () => {
      const values = weight();
      return values && step.compute(changed(product, values));
    },
  });
  const others = [
    ...otherTensors(step, evidence, ["weight", "bias"], step),
    ...(step.node.foldedBatchNorm ? otherTensors(foldedNorm(step), evidence, NORM_ROLES, step) : []),
  ];
  const guesses = (variants: (product: Product) => Variant[], cause: Hypothesis["cause"]): Hypothesis[] =>
    [...variants(product), ...beforeFolding(variants, step.node, op, parameters)].map(([says, weight]) =>
      compute(cause, says, weight),
    );
  return [
    ...guesses(misread("kernel-transposed"), "kernel-transposed"),
    ...guesses(roundings, "weights-rounded"),
    ...guesses(misread("bytes-shifted"), "bytes-shifted"),
    ...others.map(({ source, ...hypothesis }) => ({
      ...hypothesis,
      plausible: () => trial({ parameters: source }),
    })),
  ];
};

const NORM_ROLES = ["weight", "bias", "runningMean", "runningVar"] as const;

function normTensors(step: Step, evidence: Evidence): readonly Hypothesis[] {
  return otherTensors(step, evidence, NORM_ROLES, step);
}

function foldedNorm(step: Step): Step {
  const paths = step.node.foldedBatchNorm?.parameters ?? {};
  return { ...step, node: { ...step.node, parameters: paths } };
}

function changed({ node, bias }: Product, weight: Float64Array): Parameters<Step["compute"]>[0] {
  return { node, parameters: (path) => (path === "weight" ? weight : bias) };
}

type Variant = readonly [says: string, weight: () => Float64Array | undefined];

/** The same weights in another order. */
const misread =
  (cause: Misreading["cause"]) =>
  ({ shape, weight }: Product): Variant[] =>
    misreadings(shape)
      .filter((each) => each.cause === cause)
      .map(({ says, from }) => [
        says,
        () => filled(new Float64Array(weight.length), (index) => weight[from(index)] as number),
      ]);

function roundings({ shape, weight }: Product): Variant[] {
  const cast = (dtype: HalfDType): Float64Array =>
    toFloat64(
      castFloat({ dtype: "float32", shape, data: Float32Array.from(weight) }, dtype, "weight"),
      "weight",
    ).data;
  const row = weight.length / (shape[0] ?? 1);
  return [
    ["its weights are rounded to float16", () => cast("float16")],
    ["its weights are rounded to bfloat16", () => cast("bfloat16")],
    ["its weights are rounded to int8, with one scale per tensor", () => symmetric(weight, weight.length)],
    ["its weights are rounded to int8, with one scale per output channel", () => symmetric(weight, row)],
    ["its weights are rounded to uint8, with one scale and minimum per tensor", () => affine(weight, 255)],
    [
      "its weights are rounded to uint16, with one scale and minimum per tensor",
      () => affine(weight, 65_535),
    ],
  ];
}

/** Weights that were wrong before a batch norm was folded into them. */
function beforeFolding(
  variants: (product: Product) => Variant[],
  { foldedBatchNorm, ...node }: LayerNode,
  op: Op<"conv"> | Op<"linear">,
  parameters: ParameterSource,
): Variant[] {
  if (!foldedBatchNorm) return [];
  const own = productOf(node, op, parameters);
  const { scale } = affineOf(foldedBatchNorm.parameters, foldedBatchNorm.epsilon, parameters);
  return variants(own).map(([says, weight]) => [
    `${says}, before the batch norm was folded into them`,
    () => {
      const values = weight();
      return values && scaleRows(values, scale, new Float64Array(values.length));
    },
  ]);
}

/** Symmetric int8: multiples of max|w| / 127. */
function symmetric(weight: Float64Array, run: number): Float64Array {
  const result = new Float64Array(weight.length);
  for (let start = 0; start < weight.length; start += run) {
    const values = weight.subarray(start, start + run);
    const scale = largestMagnitude(values) / 127;
    for (let i = 0; i < run; i++)
      result[start + i] = scale === 0 ? 0 : Math.round((values[i] as number) / scale) * scale;
  }
  return result;
}

/** Affine quantisation as in TensorFlow.js: steps of (max − min) / levels from the minimum. */
function affine(weight: Float64Array, levels: number): Float64Array {
  const min = weight.reduce((a, b) => Math.min(a, b), Infinity);
  const max = weight.reduce((a, b) => Math.max(a, b), -Infinity);
  const scale = (max - min) / levels;
  return weight.map((value) => (scale === 0 ? value : Math.round((value - min) / scale) * scale + min));
}

/** Maximum number of other modules to try, closest names first. */
const OTHERS = 24;

/**
 * Another tensor of the checkpoint in a parameter's place, or a whole other module in a layer's: that of a neighbouring
 * layer, or another block's gate.
 *
 * @param step with the parameters to replace
 * @param whole what is computed with them, if it has others too
 */
function otherTensors(
  { node }: Step,
  { parameters, parameterShapes }: Evidence,
  roles: readonly (typeof NORM_ROLES)[number][],
  whole: Step,
): readonly (Hypothesis & { readonly source: ParameterSource })[] {
  const paths = roles.flatMap((role) => node.parameters[role] ?? []);
  const instead = (
    says: string,
    other: (path: string) => string,
  ): Hypothesis & { readonly source: ParameterSource } => {
    const source: ParameterSource = (path) => parameters(other(path));
    return {
      cause: "weights-elsewhere",
      says,
      source,
      output: () => whole.compute({ parameters: source }),
    };
  };
  const modules = modulesLike(paths, parameterShapes);
  return [
    ...modules.map(({ module, exchange }) =>
      instead(
        `${moduleOf(paths[0] ?? "")} has the parameters of ${module}`,
        (path) => exchange.get(path) ?? path,
      ),
    ),
    ...(paths.length > 1 ? modules : []).flatMap(({ exchange }) =>
      [...exchange].map(([path, other]) =>
        instead(`${path} has ${other}`, (wanted) => (wanted === path ? other : wanted)),
      ),
    ),
  ];
}

interface Likeness {
  readonly module: string;
  /** The module's parameters, by the paths of those that they replace. */
  readonly exchange: ReadonlyMap<string, string>;
}

/** Modules whose parameters have the names and shapes of these. */
function modulesLike(paths: readonly string[], shapes: ReadonlyMap<string, Shape>): readonly Likeness[] {
  const [first] = paths;
  if (first === undefined) return [];
  const own = moduleOf(first);
  return [...shapes.keys()]
    .filter((path) => nameOf(path) === nameOf(first) && moduleOf(path) !== own)
    .map(moduleOf)
    .sort((a, b) => commonPrefix(b, own) - commonPrefix(a, own))
    .flatMap((module) => {
      const exchange = new Map(paths.map((path) => [path, `${module}.${nameOf(path)}`] as const));
      const fits = [...exchange].every(([path, other]) => {
        const shape = shapes.get(other);
        return shape !== undefined && sameShape(shape, shapes.get(path) ?? []);
      });
      return fits ? [{ module, exchange }] : [];
    })
    .slice(0, OTHERS);
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf(".") + 1);
}

/** An order in which the values of a weight were read or written instead of their own. */
export interface Misreading {
  readonly cause: "bytes-shifted" | "kernel-transposed" | "layout";
  /** As a clause. */
  readonly says: string;
  /** The index, in the right weight, of each value. */
  readonly from: (index: number) => number;
}

/**
 * The usual mistakes with a weight's layout that change this shape's values.
 *
 * @param shape OIHW, [out, in] or [n]
 */
export function misreadings(shape: Shape): readonly Misreading[] {
  const [outputs = 1, inputs = 1, height = 1, width = 1] = shape;
  const taps = height * width;
  const count = outputs * inputs * taps;
  const at = (o: number, i: number, tap: number): number => (o * inputs + i) * taps + tap;
  const output = (k: number): number => Math.floor(k / (inputs * taps));
  const input = (k: number): number => Math.floor(k / taps) % inputs;
  const list: Misreading[] = [];
  const transposed = (says: string, from: Misreading["from"]): void => {
    list.push({ cause: "kernel-transposed", says, from });
  };
  if (height === width && height > 1) {
    transposed("height and width of the kernel are swapped", (k) => {
      const tap = k % taps;
      return k - tap + (tap % width) * width + Math.floor(tap / width);
    });
    transposed("the kernel is rotated by 180°", (k) => k + taps - 1 - 2 * (k % taps));
  }
  if (outputs === inputs && outputs > 1)
    transposed("output and input channels of the weights are swapped", (k) =>
      at(input(k), output(k), k % taps),
    );
  if (outputs !== inputs && outputs > 1 && inputs > 1)
    transposed(
      "weights stored as [in, out] are read as [out, in]",
      (k) => (k % outputs) * inputs * taps + Math.floor(k / outputs),
    );
  if (taps > 1 && inputs > 1)
    transposed("weights stored as [out, height, width, in] are read as [out, in, height, width]", (k) => {
      const rest = k % (inputs * taps);
      return at(output(k), rest % inputs, Math.floor(rest / inputs));
    });
  for (const [says, by] of [
    ["the values are shifted by one element", 1],
    ["the values are shifted by minus one element", -1],
  ] as const)
    list.push({ cause: "bytes-shifted", says, from: (k) => (k + by + count) % count });
  return list;
}
