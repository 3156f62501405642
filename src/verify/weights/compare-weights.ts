import { ancestors, type LayerGraph, type LayerNode, type ParameterRole } from "../../arch/index.js";
import type { StoredTensor } from "../../convert/formats/tfjs/model.js";
import { nameOfKind } from "../../convert/import/differences.js";
import { filled, once } from "../../core/functions.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { castFloat, isDType, toFloat32 } from "../../core/tensor-cast.js";
import { explainedBy, type Fault, layerFault, type WeightsResult } from "../outcome/report.js";
import {
  allowedZeros,
  epsilonOfProducts,
  HALF_PRECISION,
  inPrecisionOf,
  isRounded,
  refold,
  relationOf,
  storedWithin,
  withLostTerms,
} from "./expected.js";
import {
  type HalfFolding,
  halfFolding,
  MIN_HALF,
  NARROW_FOLDING,
  roundings,
  unlikelyRounding,
} from "./half-precision.js";
import type { Located } from "./located.js";

/** In the order in which ONNX operators take them. */
const ROLES: readonly ParameterRole[] = ["weight", "bias", "runningMean", "runningVar"];

/** The scope of a comparison. */
export interface Compared {
  /** The layers of the file's results. */
  readonly results: readonly string[];
  /** Whether the checkpoint was imported from a model, whose products may have been rounded differently. */
  readonly isLifted?: boolean;
}

/** The constants of a file against a checkpoint's. */
export interface WeightsComparison {
  /** The counts, as the report has them. */
  readonly result: WeightsResult;
  /** One for every layer whose constants differ, or one for those that differ for the same reason. */
  readonly faults: readonly Fault[];
  /**
   * Layers that differ for the same reason: all that have weights, such as by another training, or all with a batch
   * norm folded in, by its ε.
   */
  readonly ofOneCause?: ReadonlySet<string>;
  /**
   * The checkpoint with zeros for weights without effect that the model has as zeros; absent if there are none.
   */
  readonly withZeros?: StateDict;
  /** In a file with quantised activations, layers whose biases are more than half a step off. */
  readonly biasesOff?: readonly string[];
}

/**
 * Compares the constants of a candidate with a checkpoint's, separately from activations: bit for bit if they are
 * stored as trained (rounded to float32 if the checkpoint is wider), within one unit in the last place if a batch norm
 * is folded into them, which is folded again here in float64. A file whose layers were found by structure comes from
 * another exporter, which folds in float32, and is compared within the bound of that (expected.ts).
 *
 * @param stateDict the checkpoint's
 */
export function compareWeights(located: Located, stateDict: StateDict, scope: Compared): WeightsComparison {
  const found = compareConstants(located, stateDict, scope);
  if (found.ofOneCause || found.faults.length < FEWEST) return found;
  return roundedThroughout(found, located, stateDict, scope) ?? found;
}

/** One fault for a file whose weights were all rounded, and any others that this does not explain. */
function roundedThroughout(
  { result, faults }: WeightsComparison,
  located: Located,
  stateDict: StateDict,
  scope: Compared,
): WeightsComparison | undefined {
  const [first] = faults;
  for (const { says, constants, weights } of roundings(located, stateDict, result.folded > 0)) {
    const left = compareConstants({ ...located, constants }, weights(), scope).faults;
    if (!first || left.length * FEWEST > faults.length) continue;
    const explanation = `${says}: ${faults.length} layers differ from the checkpoint's`;
    return { result, faults: [{ ...first, explanation }, ...left], ofOneCause: withWeights(located.graph) };
  }
  return undefined;
}

function compareConstants(
  { graph, by, constants: find, absorbed, match: shown }: Located,
  stateDict: StateDict,
  { results, isLifted = false }: Compared,
): WeightsComparison {
  const match = by === "structure" ? shown : undefined;
  const needed = ancestors(graph, ...results);
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const faults: Fault[] = [];
  const explained = explainedBy(match?.differences ?? [], nodes);
  const deviating = new Set(shown?.differences.map(({ layer }) => layer));
  const replaced = new Set(
    shown?.differences.flatMap(({ layer, expected }) => {
      const { op } = nodes.get(layer) ?? {};
      return op && expected === nameOfKind(op.kind) ? layer : [];
    }),
  );
  const causes: (string | undefined)[] = [];
  const zeros = allowedZeros(graph, stateDict, results);
  const foldings: HalfFolding[] = [];
  const epsilons = new Map<string, number | undefined>();
  const biasesOff: string[] = [];
  let [compared, identical, different, foldedCount, rounded, quantised] = [0, 0, 0, 0, 0, 0];
  for (const node of graph.nodes) {
    if (!needed.has(node.name) || absorbed.has(node.name)) continue;
    // A layer that the file lacks is a fault of its structure.
    if (match && !match.constants.has(node.name) && explained(node)) continue;
    const source = nodes.get(node.inputs[0] ?? "");
    const merged = node.op.kind === "batchNorm" && source && absorbed.has(source.name) ? source : undefined;
    if (merged) foldedCount++;
    const isProduct = merged !== undefined || match?.affine.has(node.name) === true;
    const products = isProduct ? refold(merged, node, stateDict) : undefined;
    const expected = products ? (isLifted ? withLostTerms(products) : products) : trained(node, stateDict);
    const found = find(node, [...expected.keys()]);
    const ulps = isProduct && !match && !isLifted ? 1 : 0;
    const problems: string[] = [];
    for (const [role, constant] of expected) {
      compared++;
      const rounding = shown?.roundings.get(node.name)?.[role];
      const actual = found.get(role);
      // Quantised weights are compared within their rounding error, which covers zeros.
      const mayBeZero = role === "weight" && actual?.data.length === constant.values.length && !actual.stored;
      const values =
        mayBeZero && isDType(actual, "float32")
          ? zeros.taken(node, merged !== undefined, constant.values, actual.data)
          : constant.values;
      const written = { ...constant, values };
      const wanted = rounding ? withinSteps(written, rounding) : written;
      const folding = merged && actual && match ? halfFolding(node, role, constant, actual) : undefined;
      if (folding) foldings.push(folding);
      const unlike =
        rounding &&
        hasWideSteps(constant.values, rounding, role === "bias" ? expected.get("weight") : undefined)
          ? "stored in steps that are larger than its range requires"
          : differences(wanted, actual, rounding ? 0 : ulps, node.name);
      const mayBeOfFewer = unlike !== undefined && role === "weight" && merged !== undefined;
      const factors = mayBeOfFewer ? factorsOf(merged, node, stateDict, shown) : [];
      const isOfFewer = factors.some(({ tensor }) => tensor?.stored);
      // A product of constants in fewer bits differs by the errors of both: each must be its own, rounded once.
      const problem = isOfFewer
        ? factors.map(({ own, tensor }) => differences(own, tensor, 0, node.name)).find((each) => each)
        : unlike;
      // A row of one value, such as a gate's of one hidden unit, is a step of its own, and remains as it is.
      const mayRemain = problem === undefined && actual?.data.length === actual?.shape[0];
      const isWeight = role === "weight" && (node.op.kind === "conv" || node.op.kind === "linear");
      if (isWeight && !isProduct && !mayRemain)
        causes.push(problem === undefined ? undefined : causeOfAll(constant.values, actual, node.name));
      // Missing constants of an operator that differs, and those of another in its place, are not a separate finding.
      if (problem !== undefined && replaced.has(node.name)) continue;
      const deviates = deviating.has(node.name) || (merged && deviating.has(merged.name));
      if (problem !== undefined && !actual && deviates) continue;
      // Its steps follow from those of the activation, whatever they do to it.
      const isOfActivation = shown?.quantised !== undefined && role === "bias" && rounding !== undefined;
      if (problem !== undefined && isOfActivation) biasesOff.push(node.name);
      else if (problem !== undefined) problems.push(`${node.parameters[role] ?? role}: ${problem}`);
      else if (rounding) quantised++;
      else if (isOfFewer || (actual && isRounded(actual, written.values, node.name))) rounded++;
      else identical++;
    }
    different += problems.length;
    if (products)
      epsilons.set(
        node.name,
        problems.length > 0 ? foldedEpsilon(merged, node, stateDict, products, found, ulps) : undefined,
      );
    if (problems.length > 0) faults.push(layerFault(node, "weights", null, problems.join(", and ")));
  }
  if (faults.length === 0) faults.push(...unlikelyRounding(foldings));
  const [cause] = causes;
  const isOne =
    faults.length > 0 &&
    cause !== undefined &&
    causes.length >= FEWEST &&
    causes.every((other) => other === cause);
  const shownEpsilons = [...epsilons.values()].filter((each) => each !== undefined);
  const [epsilon] = shownEpsilons;
  const isEpsilon =
    shownEpsilons.length > 1 &&
    2 * shownEpsilons.length > epsilons.size &&
    shownEpsilons.every((other) => other === epsilon);
  const norms =
    shownEpsilons.length === epsilons.size
      ? "every folded batch norm"
      : `${shownEpsilons.length} of ${epsilons.size} folded batch norms`;
  const shared = isOne ? cause : isEpsilon ? `the ε of ${norms} is ${epsilon}` : undefined;
  // Batch norms that the file keeps may have the same ε.
  const withEpsilon = new Set([
    ...[...epsilons].flatMap(([layer, each]) => (each === epsilon ? layer : [])),
    ...(shown?.differences ?? []).flatMap(({ layer, found }) =>
      found === `epsilon ${epsilon}` ? layer : [],
    ),
  ]);
  const ofOneCause = isOne ? withWeights(graph) : withEpsilon;
  const isShared = ({ layer }: Fault): boolean => shared !== undefined && ofOneCause.has(layer);
  const [one] = faults.filter(isShared);
  const sentence = `${shared}: ${different} of ${compared} constants differ from the checkpoint's`;
  const zeroed = zeros.result();
  return {
    result: {
      compared,
      identical,
      folded: foldedCount,
      ...(rounded > 0 ? { rounded } : {}),
      ...(quantised > 0 ? { quantised } : {}),
      ...(zeroed ? { zeroed } : {}),
    },
    faults: one ? [{ ...one, explanation: sentence }, ...faults.filter((fault) => !isShared(fault))] : faults,
    ...(one ? { ofOneCause } : {}),
    ...(zeroed ? { withZeros: zeros.stateDict() } : {}),
    ...(biasesOff.length > 0 ? { biasesOff } : {}),
  };
}

/** The weight of a linear layer and the factor of the batch norm after it, if the file has them apart. */
function factorsOf(
  layer: LayerNode,
  norm: LayerNode,
  stateDict: StateDict,
  match: Located["match"],
): readonly { readonly own: Expected; readonly tensor: StoredTensor | undefined }[] {
  const [weight, factor] = [trained(layer, stateDict), refold(undefined, norm, stateDict)].map((each) =>
    each.get("weight"),
  );
  const tensor = match?.factors.get(norm.name);
  if (!tensor || !weight || !factor) return [];
  return [
    { own: weight, tensor: match?.constants.get(layer.name)?.weight },
    { own: factor, tensor },
  ];
}

function withWeights({ nodes }: LayerGraph): ReadonlySet<string> {
  return new Set(nodes.flatMap(({ name, parameters }) => (Object.keys(parameters).length > 0 ? name : [])));
}

/** The ε that a batch norm was folded with, if nothing else about its constants is wrong. */
function foldedEpsilon(
  layer: LayerNode | undefined,
  norm: LayerNode,
  stateDict: StateDict,
  products: ReturnType<typeof refold>,
  found: ReadonlyMap<ParameterRole, StoredTensor>,
  ulps: number,
): number | undefined {
  const [wanted, weight] = [products.get("weight")?.values, found.get("weight")];
  if (norm.op.kind !== "batchNorm" || !wanted || weight?.data.length !== wanted.length) return undefined;
  const epsilon = epsilonOfProducts(norm, norm.op, stateDict, wanted, toFloat32(weight, norm.name).data);
  if (epsilon === undefined) return undefined;
  const other = refold(layer, { ...norm, op: { ...norm.op, epsilon } }, stateDict);
  const isRight = [...other].every(
    ([role, constant]) => differences(constant, found.get(role), ulps, norm.name) === undefined,
  );
  return isRight ? epsilon : undefined;
}

/** Minimum number of convolutions and linear layers with weights as trained for a conclusion about all. */
const FEWEST = 8;

/**
 * Minimum change of other weights: more than rounding to bfloat16 or 8 bits, and less than an epoch of training.
 */
const MIN_CHANGE = 0.02;

/** Values in another order have the same norm to within rounding. */
const SAME_NORM = 1e-5;

/** One factor for all values, and almost no other difference. */
const SAME_DIRECTION = 0.9999;

/** The cause of a difference, if all layers may have it in common. */
function causeOfAll(
  wanted: Float32Array,
  tensor: StoredTensor | undefined,
  layer: string,
): string | undefined {
  const { stored } = tensor ?? {};
  if (stored && stored.dtype !== "float16" && typeof storedWithin(wanted, stored) === "string")
    return "weights are stored in steps that are too wide, or in ranges that do not cover their values";
  const narrow = (["float16", "bfloat16"] as const).find((dtype) =>
    isRoundedTo(dtype, wanted, tensor, layer),
  );
  if (narrow) return `the reference's weights are the candidate's, rounded to ${narrow}`;
  if (isOnSteps(wanted, tensor)) return "the weights are rounded to 8 bits";
  return isOtherTraining(wanted, tensor, layer) ? "the weights are from another training run" : undefined;
}

/** Whether a stored value is the expected one, rounded. */
function isRoundedTo(
  dtype: "float16" | "bfloat16",
  wanted: Float32Array,
  tensor: StoredTensor | undefined,
  layer: string,
): boolean {
  if (tensor?.dtype !== "float32" || tensor.data.length !== wanted.length) return false;
  const rounded = toFloat32(castFloat(tensor as Tensor<"float32">, dtype, layer), layer).data;
  return rounded.every((value, index) => value === wanted[index]);
}

/** The steps of 8 bits in a range: to either side of 0, or from the least value to the largest. */
const SIDE_STEPS = 127;
const RANGE_STEPS = 255;

/** How far from a step a float32 may be, in steps. */
const OFF_STEP = 1e-3;

/** Whether the stored values are the expected ones, rounded to the nearest step of 8 bits: of each row, or of all. */
function isOnSteps(wanted: Float32Array, tensor: StoredTensor | undefined): boolean {
  if (tensor?.dtype !== "float32" || tensor.stored || tensor.data.length !== wanted.length) return false;
  const found = tensor.data as Float32Array;
  if (found.every((value, index) => value === wanted[index])) return false;
  const onSteps = (start: number, end: number): boolean => {
    const own = found.subarray(start, end);
    const [least, most] = [own.reduce((a, b) => Math.min(a, b), 0), own.reduce((a, b) => Math.max(a, b), 0)];
    return [Math.max(-least, most) / SIDE_STEPS, (most - least) / RANGE_STEPS].some((step) =>
      own.every((value, at) => {
        const steps = step === 0 ? 0 : value / step;
        const off = Math.abs(value - (wanted[start + at] as number));
        return off <= step * (0.5 + OFF_STEP) && Math.abs(steps - Math.round(steps)) <= OFF_STEP;
      }),
    );
  };
  const rows = tensor.shape[0] ?? 1;
  const size = found.length / rows;
  return (
    onSteps(0, found.length) ||
    Array.from({ length: rows }, (_, row) => row * size).every((start) => onSteps(start, start + size))
  );
}

/**
 * Whether values come from another training, and are not the same ones rounded, scaled, negated or in another order.
 */
function isOtherTraining(wanted: Float32Array, tensor: StoredTensor | undefined, layer: string): boolean {
  if (tensor?.data.length !== wanted.length) return false;
  const found = toFloat32(tensor, layer).data;
  let [dot, a, b] = [0, 0, 0];
  for (let index = 0; index < wanted.length; index++) {
    const [x, y] = [wanted[index] as number, found[index] as number];
    dot += x * y;
    a += x * x;
    b += y * y;
  }
  const change = Math.sqrt(Math.max(0, a + b - 2 * dot) / a);
  const norms = Math.abs(Math.sqrt(b / a) - 1);
  return change > MIN_CHANGE && norms > SAME_NORM && Math.abs(dot) < SAME_DIRECTION * Math.sqrt(a * b);
}

/** Tolerance for rounding of a step itself, and of the float32 that is computed from it. */
const STEP_SLACK = 1 + 2 ** -10;
const STEP_ROUNDING = 2 ** -21;

/** The range of values after quantisation: half a step to either side, with steps per output channel or per tensor. */
function withinSteps({ values, bounds }: Expected, halves: Float32Array): Expected {
  const rowLength = values.length / Math.max(1, halves.length);
  return {
    values,
    bounds: once(() =>
      filled(
        new Float64Array(values.length),
        (index) =>
          (bounds?.()[index] ?? 0) +
          STEP_SLACK * (halves[Math.floor(index / rowLength)] ?? 0) +
          STEP_ROUNDING * Math.abs(values[index] as number),
      ),
    ),
  };
}

/** Minimum number of levels on either side of 0: seven bits of eight, less one level. */
const MIN_LEVELS = 62.5;

/** Rows smaller than this, relative to the others, may have any step. */
const NOTHING = 1e-6;

/**
 * Whether steps are wider than eight bits require, so that a value within half a step proves little. The steps of a
 * bias follow from those of the weights and the activations.
 */
function hasWideSteps(values: Float32Array, halves: Float32Array, weights: Expected | undefined): boolean {
  const largest = (all: Float32Array): number =>
    all.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const [all, beside] = [largest(values), weights ? largest(weights.values) : 0];
  const size = values.length / Math.max(1, halves.length);
  return halves.some((half, row) => {
    const own = halves.length === 1 ? all : largest(values.subarray(row * size, (row + 1) * size));
    const most = Math.max(own, beside);
    return own > NOTHING * all && 2 * half * MIN_LEVELS > most;
  });
}

interface Expected {
  readonly values: Float32Array;
  /** The tolerance for each value, if it is not exact. */
  readonly bounds?: () => Float64Array;
  /** Additional tolerance in units of float16's smallest number, if it was folded in float16. */
  readonly smallest?: () => Float64Array;
}

function trained(node: LayerNode, stateDict: StateDict): ReadonlyMap<ParameterRole, Expected> {
  return new Map(
    ROLES.flatMap((role) => {
      const path = node.parameters[role];
      const tensor = path === undefined ? undefined : stateDict.get(path);
      return tensor && path !== undefined ? [[role, { values: toFloat32(tensor, path).data }] as const] : [];
    }),
  );
}

/**
 * The difference, in words; undefined if nothing differs by more than `ulps` units in the last place, or the bounds.
 */
function differences(
  { values: wanted, bounds, smallest }: Expected,
  tensor: StoredTensor | undefined,
  distance: number,
  layer: string,
): string | undefined {
  if (!tensor) return "not in the candidate";
  if (tensor.data.length !== wanted.length) return `${tensor.data.length} values, expected ${wanted.length}`;
  const found = toFloat32(tensor, layer).data;
  const { stored } = tensor;
  const steps = stored && stored.dtype !== "float16" ? storedWithin(wanted, stored) : undefined;
  if (typeof steps === "string") return steps;
  const expected = inPrecisionOf(tensor, wanted, layer);
  // For a value rounded to 16 bits, a unit in float32's last place matters only at the midpoint between two
  // numbers.
  const isStoredHalf = stored?.dtype === "float16";
  const ulps = isStoredHalf ? 0 : distance;
  const [a, b] = [bitsOf(expected), bitsOf(found)];
  const precision = HALF_PRECISION[stored?.dtype === "float16" ? stored.dtype : tensor.dtype] ?? 0;
  const narrow = NARROW_FOLDING[tensor.dtype] ?? 1;
  const least = tensor.dtype === "float16" ? MIN_HALF : 0;
  const mayDiffer = steps !== undefined || (bounds !== undefined && ulps === 0);
  const isWithin = (index: number, error: number): boolean => {
    if (Math.abs((a[index] as number) - (b[index] as number)) <= ulps) return true;
    if (isStoredHalf && bounds) {
      // Another order of folding may put the product on the other side of a midpoint.
      const off = Math.abs((wanted[index] as number) - (found[index] as number));
      if (off <= halfStep(found[index] as number) + (bounds()[index] as number)) return true;
    }
    if (error <= least && Math.abs(expected[index] as number) <= least) return true;
    const half = precision * Math.abs(expected[index] as number) + (steps ?? 0);
    const subnormal = least > 0 ? ((smallest?.()[index] ?? 0) * least) / 2 : 0;
    const folding = mayDiffer && bounds ? narrow * (bounds()[index] as number) + least + subnormal : 0;
    return mayDiffer && !isStoredHalf && error <= folding + half;
  };
  let count = 0;
  let largest = 0;
  for (let index = 0; index < a.length; index++) {
    if (a[index] === b[index]) continue;
    const error = Math.abs((expected[index] as number) - (found[index] as number));
    // What is not finite is within no tolerance, which may be infinite too.
    if (Number.isFinite(error) && isWithin(index, error)) continue;
    count++;
    largest = Math.max(largest, error);
  }
  return count === 0
    ? undefined
    : `${count} of ${a.length} values differ from the checkpoint's, by up to ${largest.toPrecision(3)}${relationOf(expected, found)}`;
}

function bitsOf({ buffer, byteOffset, length }: Float32Array): Int32Array {
  return new Int32Array(buffer, byteOffset, length);
}

/** Half of the distance between float16 numbers around a value. */
function halfStep(value: number): number {
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  return 2 ** (Math.max(exponent, -14) - 11);
}
