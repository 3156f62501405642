import { ancestors, type LayerNode, type ParameterRole } from "../../arch/index.js";
import type { StoredTensor } from "../../convert/formats/tfjs/model.js";
import { nameOfKind } from "../../convert/import/differences.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { isDType, toFloat32, toReal } from "../../core/tensor-cast.js";
import { explainedBy, type Fault, type WeightsResult } from "../outcome/report.js";
import { type ConstantFaults, explainConstants } from "./common-cause.js";
import {
  differences,
  type Expected,
  flushed,
  hasWideSteps,
  trained,
  withInvisible,
  withinSteps,
  withSum,
  withTinyZeros,
} from "./constants.js";
import { type Deviation, isOfProducts } from "./deviation.js";
import { allowedZeros, isRounded, refold, withLostTerms } from "./expected.js";
import { type Located, storedStateDict } from "./located.js";
import { WIDE_STEPS } from "./rounded.js";
import { type HalfFolding, halfFolding, unlikelyRounding } from "./roundings.js";
import { type FiledConstant, faultOfFiles } from "./weight-files.js";

/** The scope of a comparison. */
interface Compared {
  /** The layers of the file's results. */
  readonly results: readonly string[];
  /** Whether the checkpoint was imported from a model, whose products may have been rounded differently. */
  readonly isLifted?: boolean;
}

/** The constants of a file against a checkpoint's. */
export interface WeightsComparison extends ConstantFaults {
  /** The counts, as the report has them. */
  readonly result: WeightsResult;
  /**
   * The checkpoint with the model's values where one of the two has zeros for weights without effect; absent if there are none.
   */
  readonly withZeros?: StateDict;
  /** Those of the faults that are zeros in place of tiny values: a file with any other has them because of that. */
  readonly ofZeros?: readonly Fault[];
  /** Whether one of two checkpoints has the other's values rounded to float32, or without denormal numbers, so that each computes with its own. */
  readonly isOfOwn?: boolean;
  /** In a file with quantised activations, layers whose biases are more than half a step off. */
  readonly biasesOff?: readonly string[];
}

/**
 * Compares the constants of a candidate with a checkpoint's, separately from activations: bit for bit if they are
 * stored as trained (rounded to float32 if the checkpoint is wider); within the bound of folding in float32
 * (expected.ts) if a batch norm is folded into them, which is folded again here in float64. Even a file that osnet-convert wrote, which
 * folds in float64, may have weights that another exporter has folded before.
 *
 * @param stateDict the checkpoint's
 */
export function compareWeights(
  located: Located,
  stateDict: StateDict,
  { results, isLifted = false }: Compared,
): WeightsComparison {
  const { graph, by, constants: find, absorbed, match: shown, isExact = false } = located;
  const match = by === "structure" ? shown : undefined;
  const needed = ancestors(graph, ...results);
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const explained = explainedBy(match?.differences ?? [], nodes);
  const deviating = new Set(shown?.differences.map(({ layer }) => layer));
  const replaced = new Set(
    shown?.differences.flatMap(({ layer, expected }) => {
      const { op } = nodes.get(layer) ?? {};
      return op && expected === nameOfKind(op.kind) ? layer : [];
    }),
  );
  const deviations: Deviation[] = [];
  const ofZeros: Deviation[] = [];
  let isOfOwn = false;
  const zeros = allowedZeros(graph, stateDict, results, () => storedStateDict(located, stateDict, results));
  const foldings: HalfFolding[] = [];
  const biasesOff: string[] = [];
  const filed: FiledConstant[] = [];
  let [compared, identical, foldedCount, rounded, quantised, weights, norms] = [0, 0, 0, 0, 0, 0, 0];
  const mergedInto = (node: LayerNode): LayerNode | undefined => {
    const source = nodes.get(node.inputs[0] ?? "");
    return node.op.kind === "batchNorm" && source && absorbed.has(source.name) ? source : undefined;
  };
  const isProductAt = (node: LayerNode): boolean =>
    mergedInto(node) !== undefined || match?.affine.has(node.name) === true;
  const constantsOf = (
    node: LayerNode,
    merged: LayerNode | undefined,
    isProduct: boolean,
    parameters: StateDict,
  ): ReadonlyMap<ParameterRole, Expected> => {
    if (!isProduct) return trained(node, parameters);
    const products = refold(merged, node, parameters);
    return isLifted || isExact ? withLostTerms(products) : products;
  };
  for (const node of graph.nodes) {
    if (!needed.has(node.name) || absorbed.has(node.name)) continue;
    // A layer that the file lacks is a fault of its structure.
    if (match && !match.constants.has(node.name) && explained(node)) continue;
    const merged = mergedInto(node);
    if (merged) foldedCount++;
    if (node.op.kind === "batchNorm") norms++;
    const isProduct = isProductAt(node);
    const shared = match?.sharedBiases.get(node.name);
    const expectedOf = (
      of: LayerNode,
      source: LayerNode | undefined,
      parameters: StateDict,
    ): ReadonlyMap<ParameterRole, Expected> => {
      const own = constantsOf(of, source, isProduct, parameters);
      if (!shared) return own;
      const layers = shared.layers[0] === of.name ? shared.layers : [];
      return withSum(
        own,
        layers.map((layer) => {
          const each = nodes.get(layer) ?? of;
          return constantsOf(each, mergedInto(each), isProductAt(each), parameters).get("bias");
        }),
      );
    };
    const expected = expectedOf(node, merged, stateDict);
    const found = new Map(find(node, [...constantsOf(node, merged, isProduct, stateDict).keys()]));
    if (shared) found.set("bias", shared.sum);
    const isOwnFold = isProduct && !match && !isLifted && !isExact;
    for (const [role, constant] of expected) {
      compared++;
      if (isOfProducts({ node, merged, role })) weights++;
      const rounding = shown?.roundings.get(node.name)?.[role];
      const actual = found.get(role);
      // Quantised weights are compared within their rounding error, which covers zeros.
      const isWhole = actual?.data.length === constant.values.length && !actual.stored;
      const mayBeZero = role === "weight" && isWhole;
      const taken = mayBeZero
        ? zeros.taken(node, merged !== undefined, constant.values, toFloat32(actual, node.name).data)
        : constant.values;
      const values =
        !mayBeZero && isWhole && isDType(actual, "float32") ? flushed(taken, actual.data) : taken;
      const written = { ...constant, values };
      const wanted = rounding ? withinSteps(written, rounding) : written;
      const folding = merged && actual && !isOwnFold ? halfFolding(node, role, constant, actual) : undefined;
      if (folding) foldings.push(folding);
      const unlike =
        rounding &&
        hasWideSteps(constant.values, rounding, role === "bias" ? expected.get("weight") : undefined)
          ? WIDE_STEPS
          : differences(wanted, actual, isOwnFold, node.name);
      const mayBeOfFewer = unlike !== undefined && role === "weight" && merged !== undefined;
      const factors = mayBeOfFewer ? factorsOf(merged, node, stateDict, shown) : [];
      const isOfFewer = factors.some(({ tensor }) => tensor?.stored);
      const own = isExact && !merged ? stateDict.get(node.parameters[role] ?? "") : undefined;
      const precision = beyondFloat32(own, actual);
      // A product of constants in fewer bits differs by the errors of both: each must be its own, rounded once.
      const problem = isOfFewer
        ? factors.map(({ own, tensor }) => differences(own, tensor, false, node.name)).find((each) => each)
        : (unlike ?? (precision === "other" ? "the values differ by less than float32 has" : undefined));
      // Missing constants of an operator that differs, and those of another in its place, are not a separate finding.
      if (problem !== undefined && replaced.has(node.name)) continue;
      const deviates = deviating.has(node.name) || (merged && deviating.has(merged.name));
      if (problem !== undefined && !actual && deviates) continue;
      if (actual?.files) filed.push({ node, files: actual.files, differs: problem !== undefined });
      // Its steps follow from those of the activation, whatever they do to it.
      const isOfActivation = shown?.quantised !== undefined && role === "bias" && rounding !== undefined;
      const lenient = mayBeZero ? withTinyZeros(wanted, actual) : wanted;
      const isOfZeros = lenient !== wanted && !differences(lenient, actual, isOwnFold, node.name);
      if (problem !== undefined && isOfActivation) biasesOff.push(node.name);
      else if (problem !== undefined)
        (isOfZeros ? ofZeros : deviations).push({
          node,
          merged,
          isProduct,
          role,
          roles: expected.size,
          expected: wanted,
          found: actual,
          problem,
          is: (other, tensor = actual) =>
            other !== undefined &&
            !differences(withInvisible(other, tensor, node.name), tensor, isOwnFold, node.name),
          with: (change) =>
            expectedOf(
              change.node ?? node,
              "merged" in change ? change.merged : merged,
              change.stateDict ?? stateDict,
            ).get(role),
        });
      else if (rounding) quantised++;
      else if (
        values !== taken ||
        precision ||
        isOfFewer ||
        (actual && isRounded(actual, written.values, node.name))
      ) {
        rounded++;
        isOfOwn ||= isExact && (values !== taken || precision !== undefined);
      } else identical++;
    }
  }
  const explain = (all: readonly Deviation[]): ConstantFaults =>
    explainConstants(all, {
      graph,
      stateDict,
      compared,
      weights,
      norms,
      folded: foldedCount,
      differences: shown?.differences ?? [],
    });
  const ofFiles = faultOfFiles(filed);
  const explanation = ofFiles
    ? { faults: [ofFiles], ofOneCause: new Set(deviations.map(({ node }) => node.name)) }
    : explain(deviations);
  const zeroFaults = explain(ofZeros).faults;
  const [zeroed, withZeros] = [zeros.result(), zeros.stateDict()];
  return {
    result: {
      compared,
      identical,
      folded: foldedCount,
      ...(rounded > 0 ? { rounded } : {}),
      ...(quantised > 0 ? { quantised } : {}),
      ...(zeroed ? { zeroed } : {}),
    },
    ...explanation,
    faults: [...(deviations.length === 0 ? unlikelyRounding(foldings) : explanation.faults), ...zeroFaults],
    ...(isOfOwn || (isExact && withZeros) ? { isOfOwn: true } : {}),
    ...(zeroFaults.length > 0 ? { ofZeros: zeroFaults } : {}),
    ...(withZeros ? { withZeros } : {}),
    ...(biasesOff.length > 0 ? { biasesOff } : {}),
  };
}

/** How constants of two checkpoints that agree in float32 differ: by one's rounding to it, or otherwise. */
function beyondFloat32(
  wanted: Tensor | undefined,
  found: Tensor | undefined,
): "rounded" | "other" | undefined {
  if (!wanted || !found || (wanted.dtype !== "float64" && found.dtype !== "float64")) return undefined;
  const [{ data }, own] = [toReal(wanted, "constant"), toReal(found, "constant").data];
  if (data.every((value, index) => value === own[index])) return undefined;
  return wanted.dtype === "float64" && found.dtype === "float64" ? "other" : "rounded";
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
