import { variantOf } from "../../arch/index.js";
import { InputError } from "../../errors.js";
import type { GraphMatch } from "../lift/index.js";
import type { LiftedModel } from "../lifted-checkpoint.js";
import { type Anomaly, findAnomalies } from "./anomalies.js";
import {
  inspectNetwork,
  inspectWeights,
  type NetworkInspection,
  type WeightsInspection,
} from "./inspection.js";

/** What is said of the network in a model, of whatever format. */
export interface MatchedInspection {
  /** Null if the graph is no OSNet. */
  readonly network: NetworkInspection | null;
  /** Null if the graph is no faithful OSNet, or its weights are missing. */
  readonly weights: (WeightsInspection & Reparameterised) | null;
  readonly anomalies: readonly Anomaly[];
}

interface Reparameterised {
  /**
   * How many tensors are products with a folded batch norm, not the trained ones: where there are any, `fingerprint` is
   * no checkpoint's, and `foldedFingerprint` is a checkpoint's if the file was folded by us.
   */
  readonly reparameterised: number;
}

/** A match, or why there is none: a model of another network is described as far as it goes. */
export function tryMatch<M extends GraphMatch>(match: () => M): M | InputError {
  try {
    return match();
  } catch (error) {
    if (error instanceof InputError && error.code === "unsupported") return error;
    throw error;
  }
}

/** Describes the network of a match; `lift` gives its weights, unless the file has none. */
export async function inspectMatched(
  { graph, spec, differences }: GraphMatch,
  lift: (() => LiftedModel) | undefined,
): Promise<MatchedInspection> {
  if (differences.length > 0 || !lift) {
    const network = inspectNetwork({ graph, spec, variant: variantOf(spec), extra: [] });
    return { network, weights: null, anomalies: [] };
  }
  const { checkpoint, reparameterised } = lift();
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
