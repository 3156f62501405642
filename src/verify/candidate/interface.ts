import { INPUT_NAME } from "../../arch/index.js";
import type { PixelOrder } from "../../convert/export/preprocess.js";
import type { Difference } from "../../convert/import/differences.js";
import type { GraphMatch } from "../../convert/import/match.js";
import { inputDifferences } from "../../convert/import/preprocess.js";
import type { Tensor } from "../../core/tensor.js";
import { layerFault } from "../faults.js";
import type { Fault } from "../report.js";
import type { Candidate } from "./candidate.js";
import type { AccountedOutputs } from "./outputs.js";

/** What is known of a model from outside and from its structure, whichever way its layers are found. */

/** What users say of a model's interface. */
export interface InterfaceOptions {
  /** The output that counts. Default: the first. */
  readonly output?: string;
  /** The order of channels that images are fed in. Default: what the file's metadata says, or RGB. */
  readonly inputOrder?: PixelOrder;
}

/** What the file does before its network that is neither nothing nor the normalisation of pixels in the stated order. */
export function inputFaults(
  { graph, preprocess }: Pick<GraphMatch, "graph" | "preprocess">,
  order: PixelOrder,
): readonly Fault[] {
  return inputDifferences(graph, preprocess, order).map(asFault(""));
}

/** Faults of outputs, but at layers that are known to be others, which explain what follows them. */
export function outputFaults(
  { faults }: AccountedOutputs,
  match: Pick<GraphMatch, "differences"> | undefined,
): readonly Fault[] {
  const departing = new Set(match?.differences.map(({ layer }) => layer));
  return faults.filter(({ layer }) => !departing.has(layer));
}

/** What a state dict cannot show, so that it may be the reference's description that is wrong. */
const GATE_HINT =
  "; if the reference was trained with such gates, which a state dict cannot show, say so with --arch";

/** The ways in which a graph departs from the network, but for its input, which depends on what it is fed. */
export function structureFaults({ differences, graph }: GraphMatch): readonly Fault[] {
  const activations = new Set(graph.gates.map(({ layer }) => layer));
  const isUnanimous =
    differences.length === activations.size && differences.every(({ layer }) => activations.has(layer));
  return differences.filter(({ layer }) => layer !== INPUT_NAME).map(asFault(isUnanimous ? GATE_HINT : ""));
}

function asFault(hint: string): (found: Difference) => Fault {
  return ({ layer, stream, found, expected }) =>
    layerFault(
      { name: layer, ...(stream === undefined ? {} : { stream }) },
      "structure",
      null,
      `found ${found}, expected ${expected}${hint}`,
    );
}

/** The precision of a network most of whose weights are float16: its values are rounded to that too. */
export function halfPrecision(tensors: Iterable<Tensor>): Pick<Candidate, "precision"> {
  const weights = [...tensors].filter(({ shape }) => shape.length > 1);
  const half = weights.filter(({ dtype }) => dtype === "float16").length;
  return 2 * half > weights.length ? { precision: "float16" } : {};
}
