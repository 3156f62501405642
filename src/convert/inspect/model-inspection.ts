import { variantOf } from "../../arch/index.js";
import { InputError } from "../../errors.js";
import type { OnnxModel } from "../formats/onnx/index.js";
import type { GraphMatch } from "../lift/index.js";
import type { LiftedModel } from "../lifted-checkpoint.js";
import { type Anomaly, findAnomalies } from "./anomalies.js";
import {
  inspectNetwork,
  inspectWeights,
  type NetworkInspection,
  type WeightsInspection,
} from "./inspection.js";
import { type ModelFacts, type NetworkFacts, networkFacts } from "./model-facts.js";

/** What a model is, of whatever exporter, as plain data that JSON holds. */
export interface ModelInspection<F extends ModelFormat, Facts extends ModelFacts> {
  readonly schema: "osnet-inspection/1";
  readonly file: ModelFileFacts<F>;
  readonly model: Facts & Partial<NetworkFacts>;
  /** Null if the graph is no OSNet. */
  readonly network: NetworkInspection | null;
  /** Null if the graph is no faithful OSNet, or its weights are missing. */
  readonly weights: (WeightsInspection & Reparameterised) | null;
  readonly anomalies: readonly Anomaly[];
  /** Why the graph is no OSNet, and what it is like; or which file it would take to tell. */
  readonly refusal?: string;
}

export type ModelFormat = "onnx" | "tfjs";

export interface ModelFileFacts<F extends ModelFormat> {
  readonly name: string;
  /** Of all files. */
  readonly bytes: number;
  /** Of the file that is the model, or its model.json. */
  readonly sha256: string;
  readonly format: F;
}

interface Reparameterised {
  /**
   * How many tensors are products with a folded batch norm, not the trained ones: where there are any, `fingerprint` is
   * no checkpoint's, and `foldedFingerprint` is a checkpoint's if the file was folded by us.
   */
  readonly reparameterised: number;
}

/** How the network of a model is found. */
export interface Search<M extends GraphMatch> {
  /** The model's graph, in ONNX's words. */
  readonly graph: OnnxModel;
  /** @throws InputError (`unsupported`) if it is no OSNet */
  readonly match: () => M;
  /** Its weights; undefined if they are missing. */
  readonly lift: ((match: M) => LiftedModel) | undefined;
  /** What is missing of the graph itself, so that it proves no difference from an OSNet. */
  readonly incomplete?: InputError;
}

/** Describes a model as far as it goes: without a network if it has another one, without weights if they are missing. */
export async function inspectModel<F extends ModelFormat, Facts extends ModelFacts, M extends GraphMatch>(
  file: ModelFileFacts<F>,
  facts: Facts,
  { graph, match: find, lift, incomplete }: Search<M>,
): Promise<ModelInspection<F, Facts>> {
  const start = { schema: "osnet-inspection/1", file } as const;
  const match = tryMatch(find, incomplete);
  if (match instanceof InputError)
    return { ...start, model: facts, network: null, weights: null, anomalies: [], refusal: match.message };
  return {
    ...start,
    model: { ...facts, ...networkFacts(graph, match) },
    ...(await inspectMatched(match, lift)),
  };
}

function tryMatch<M extends GraphMatch>(find: () => M, incomplete?: InputError): M | InputError {
  try {
    const match = find();
    return incomplete && match.differences.length > 0 ? incomplete : match;
  } catch (error) {
    if (error instanceof InputError && error.code === "unsupported") return incomplete ?? error;
    throw error;
  }
}

async function inspectMatched<M extends GraphMatch>(
  match: M,
  lift: Search<M>["lift"],
): Promise<Pick<ModelInspection<ModelFormat, ModelFacts>, "network" | "weights" | "anomalies">> {
  const { graph, spec, differences } = match;
  if (differences.length > 0 || !lift) {
    const network = inspectNetwork({ graph, spec, variant: variantOf(spec), extra: [] });
    return { network, weights: null, anomalies: [] };
  }
  const { checkpoint, reparameterised } = lift(match);
  const { stateDict } = checkpoint;
  return {
    network: inspectNetwork(checkpoint),
    weights: { ...(await inspectWeights(graph, stateDict)), reparameterised },
    // A folded batch norm is one without statistics, which is no oddity of the trained network.
    anomalies: findAnomalies(graph, stateDict).filter(
      ({ kind }) => reparameterised === 0 || kind !== "untrained-statistics",
    ),
  };
}
