import { ancestors, type LayerNode, type ParameterRole } from "../../arch/index.js";
import type { StoredTensor } from "../../convert/formats/tfjs/model.js";
import { nameOfKind } from "../../convert/import/differences.js";
import { filled, once } from "../../core/functions.js";
import type { StateDict } from "../../core/tensor.js";
import { isDType, toFloat32 } from "../../core/tensor-cast.js";
import { explainedBy, type Fault, layerFault, type WeightsResult } from "../outcome/report.js";
import { causeOfAll, commonCause, FEWEST, isScaledByRow, withWeights } from "./common-cause.js";
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
interface Compared {
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
    const { faults: left, ofOneCause } = compareConstants({ ...located, constants }, weights(), scope);
    // One cause of many differences is not few differences.
    if (!first || ofOneCause || left.length * FEWEST > faults.length) continue;
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
  const statistics = new Map<string, boolean>();
  const biasesOff: string[] = [];
  let [compared, identical, different, foldedCount, rounded, quantised] = [0, 0, 0, 0, 0, 0];
  const mergedInto = (node: LayerNode): LayerNode | undefined => {
    const source = nodes.get(node.inputs[0] ?? "");
    return node.op.kind === "batchNorm" && source && absorbed.has(source.name) ? source : undefined;
  };
  const productsOf = (node: LayerNode) => {
    const merged = mergedInto(node);
    return merged || match?.affine.has(node.name) ? refold(merged, node, stateDict) : undefined;
  };
  const expectedOf = (node: LayerNode, products = productsOf(node)): ReadonlyMap<ParameterRole, Expected> => {
    return products ? (isLifted ? withLostTerms(products) : products) : trained(node, stateDict);
  };
  for (const node of graph.nodes) {
    if (!needed.has(node.name) || absorbed.has(node.name)) continue;
    // A layer that the file lacks is a fault of its structure.
    if (match && !match.constants.has(node.name) && explained(node)) continue;
    const merged = mergedInto(node);
    if (merged) foldedCount++;
    const products = productsOf(node);
    const isProduct = products !== undefined;
    const shared = match?.sharedBiases.get(node.name);
    const own = expectedOf(node, products);
    const expected = shared
      ? withSum(
          own,
          shared.layers[0] === node.name
            ? shared.layers.map((layer) => expectedOf(nodes.get(layer) ?? node).get("bias"))
            : [],
        )
      : own;
    const found = new Map(find(node, [...own.keys()]));
    if (shared) found.set("bias", shared.sum);
    const ulps = isProduct && !match && !isLifted ? 1 : 0;
    const problems: string[] = [];
    const differing: ParameterRole[] = [];
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
      else if (problem !== undefined) {
        problems.push(`${node.parameters[role] ?? role}: ${problem}`);
        differing.push(role);
      } else if (rounding) quantised++;
      else if (isOfFewer || (actual && isRounded(actual, written.values, node.name))) rounded++;
      else identical++;
    }
    different += problems.length;
    if (products)
      epsilons.set(
        node.name,
        problems.length > 0 ? foldedEpsilon(merged, node, stateDict, products, found, ulps) : undefined,
      );
    if (node.op.kind === "batchNorm")
      statistics.set(
        node.name,
        merged
          ? differing.includes("weight") && isScaledByRow(expected.get("weight")?.values, found.get("weight"))
          : differing.length > 0 &&
              differing.every((role) => role === "runningMean" || role === "runningVar"),
      );
    if (problems.length > 0) faults.push(layerFault(node, "weights", null, problems.join(", and ")));
  }
  if (faults.length === 0) faults.push(...unlikelyRounding(foldings));
  const shared =
    faults.length === 0
      ? undefined
      : commonCause({ graph, causes, epsilons, statistics, differences: shown?.differences ?? [] });
  const isShared = ({ layer }: Fault): boolean => shared?.layers.has(layer) === true;
  const [one] = faults.filter(isShared);
  const sentence = `${shared?.says}: ${different} of ${compared} constants differ from the checkpoint's`;
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
    ...(one && shared ? { ofOneCause: shared.layers } : {}),
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

/** Constants with the sum of several biases in place of a layer's own; without a bias if there are none. */
function withSum(
  own: ReadonlyMap<ParameterRole, Expected>,
  biases: readonly (Expected | undefined)[],
): ReadonlyMap<ParameterRole, Expected> {
  const terms = biases.flatMap((bias) => bias ?? []);
  const total = (of: (term: Expected) => number): number => terms.reduce((sum, term) => sum + of(term), 0);
  const { length = 0 } = terms[0]?.values ?? {};
  const sum: Expected = {
    values: filled(new Float32Array(length), (index) => total(({ values }) => values[index] ?? 0)),
    bounds: once(() =>
      filled(new Float64Array(length), (index) =>
        total(
          ({ values, bounds }) => (bounds?.()[index] ?? 0) + 2 ** -23 * Math.abs(values[index] as number),
        ),
      ),
    ),
  };
  const others = [...own].filter(([role]) => role !== "bias");
  return new Map(length > 0 ? [...others, ["bias", sum]] : others);
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
