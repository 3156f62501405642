import { INPUT_NAME } from "../../arch/index.js";
import type { PixelOrder } from "../../convert/export/options.js";
import { type Difference, NOTHING_INSTEAD, nameOfKind } from "../../convert/import/differences.js";
import type { GraphMatch } from "../../convert/import/match.js";
import { describePreprocess, imageInput, inputDifferences } from "../../convert/import/preprocess.js";
import { someOf } from "../../core/text.js";
import { type Fault, type FaultDraft, layerFault } from "../outcome/report.js";
import type { Located } from "../weights/located.js";
import type { AccountedOutputs } from "./outputs.js";

/**
 * Preprocessing other than the normalisation of pixels in the stated order; or missing normalisation in a file whose
 * metadata states raw pixels.
 */
export function inputFaults(
  { graph, preprocess }: GraphMatch,
  order: PixelOrder,
  declared: PixelOrder | undefined,
  by: Located["by"],
): readonly Fault[] {
  const { white } = imageInput(preprocess) ?? {};
  const [input] = graph.nodes;
  const isPlain = imageInput(preprocess) !== undefined && white === undefined;
  if (input && declared !== undefined && isPlain) {
    const explanation = `found images that are not normalised, expected the normalisation of raw pixels, which the file takes according to its metadata (osnet.preprocess: ${declared})`;
    return [layerFault(input, "structure", null, explanation)];
  }
  // A network described by its own metadata expects normalised images.
  if (input && declared === undefined && by === "name" && preprocess && white === 1) {
    const explanation = `found ${describePreprocess(preprocess)}, expected none: according to its metadata the file takes normalised images, which are then normalised twice`;
    return [layerFault(input, "structure", null, explanation)];
  }
  return inputDifferences(graph, preprocess, order).map(asFault(""));
}

/** Faults of outputs, except at layers that were replaced, which explain them. */
export function accountedFaults(
  { faults }: AccountedOutputs,
  match: GraphMatch | undefined,
): readonly Fault[] {
  const deviating = new Set(match?.differences.map(({ layer }) => layer));
  return faults.filter(({ layer }) => !deviating.has(layer));
}

/** Differences of a graph whose layers were found by name, which count even if its values are right. */
export function deviationsOf(
  { match, unmatched }: Located,
  [layer = ""]: readonly string[],
): readonly FaultDraft[] {
  if (match) return structureFaults(match);
  if (unmatched === undefined) return [];
  const explanation = `found ${unmatched}, although the file has the network's names, expected the network's operators`;
  return [layerFault({ name: layer }, "structure", null, explanation)];
}

/** Choices that a state dict does not show, so the reference's description may be wrong. */
const GATE_HINT =
  "; if the reference was trained with such gates, which a state dict cannot show, pass its spec with --arch";

/** What a graph has in the place of a sigmoid, if the spec's gates are ReLUs, or have no activation. */
const OTHER_GATES: ReadonlySet<string> = new Set([nameOfKind("relu"), NOTHING_INSTEAD]);

/** The differences between a graph and the network, except for its input, which depends on what it is given. */
export function structureFaults(match: GraphMatch): readonly FaultDraft[] {
  const { graph } = match;
  const differences = match.differences.filter((each) => !isOfQuantiser(match, each));
  const activations = new Set(graph.gates.map(({ layer }) => layer));
  const isUnanimous =
    differences.length === activations.size &&
    differences.every(({ layer, found }) => activations.has(layer) && OTHER_GATES.has(found));
  const hint = isUnanimous ? GATE_HINT : "";
  return differences.filter(({ layer }) => layer !== INPUT_NAME).map(asFault(hint));
}

/**
 * Whether a difference follows from quantised activations: quantisers leave ReLUs out, also where no zero point is in their
 * place, and each stream's bias of a gate is in steps of its own.
 */
function isOfQuantiser(
  { quantised, graph, values, roundings }: GraphMatch,
  { layer, kind }: Difference,
): boolean {
  if (!quantised) return false;
  const { op } = graph.nodes.find(({ name }) => name === layer) ?? {};
  return (
    (op?.kind === "relu" && !values.has(layer)) ||
    (kind === "own-weights" && roundings.get(layer)?.bias !== undefined)
  );
}

/** A quantised activation that no image reaches has the right value, whatever its step is. */
export function quantisedFaults(match: GraphMatch): readonly FaultDraft[] {
  const { quantised } = match;
  if (!quantised) return [];
  const lost = match.differences.filter((each) => isOfQuantiser(match, each) && each.kind === undefined);
  const without = lost.length > 0 ? `; without the ReLU ${someOf(lost.map(({ layer }) => layer))}` : "";
  return [{ ...asFault(without)(quantised), difference: "quantised" }];
}

function asFault(hint: string): (found: Difference) => FaultDraft {
  return ({ layer, stream, found, expected, kind }) => ({
    ...layerFault(
      { name: layer, ...(stream === undefined ? {} : { stream }) },
      "structure",
      null,
      `found ${found}, expected ${expected}${hint}`,
    ),
    ...(kind === undefined ? {} : { difference: kind }),
  });
}
