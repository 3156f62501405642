import { type OsnetSpec, variantOf } from "../../arch/index.js";
import { InputError } from "../../errors.js";
import { sha256 } from "../../sha256.js";
import { decodeOnnx, type OnnxModel, type SidecarReader, zerosForAbsent } from "../formats/onnx/index.js";
import type { OnnxMatch } from "../lift/index.js";
import { liftModel, matchModel } from "../onnx-checkpoint.js";
import { type Anomaly, findAnomalies } from "./anomalies.js";
import {
  inspectNetwork,
  inspectWeights,
  type NetworkInspection,
  type WeightsInspection,
} from "./inspection.js";
import { type OnnxFacts, type OnnxNetworkFacts, onnxFacts, onnxNetworkFacts } from "./onnx-facts.js";

/** What an ONNX file is, of whatever exporter, as plain data that JSON holds. */
export interface OnnxInspection {
  readonly schema: "osnet-inspection/1";
  readonly file: {
    readonly name: string;
    readonly bytes: number;
    readonly sha256: string;
    readonly format: "onnx";
  };
  readonly model: OnnxFacts & Partial<OnnxNetworkFacts>;
  /** Null if the graph is no OSNet. */
  readonly network: NetworkInspection | null;
  /** Null if the graph is no faithful OSNet, or its weights are missing. */
  readonly weights: (WeightsInspection & Reparameterised) | null;
  readonly anomalies: readonly Anomaly[];
  /** Why the graph is no OSNet, and what it is like. */
  readonly refusal?: string;
}

interface Reparameterised {
  /**
   * How many tensors are products with a folded batch norm, not the trained ones: where there are any, `fingerprint` is
   * no checkpoint's, and `foldedFingerprint` is a checkpoint's if the file was folded by us.
   */
  readonly reparameterised: number;
}

export interface OnnxInspectionOptions {
  readonly name: string;
  readonly sidecar?: SidecarReader;
  /** The architecture, where the graph does not tell how modules are named: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
}

/**
 * Describes an ONNX file as far as it goes: without its weights if they are missing from beside it, and without a network
 * if it has another one.
 *
 * @throws InputError (`format`, `unsupported`) if the bytes are no ONNX file or broken
 */
export async function inspectOnnx(
  bytes: Uint8Array,
  { name, sidecar, arch }: OnnxInspectionOptions,
): Promise<OnnxInspection> {
  const model = decodeOnnx(bytes, {
    subject: name,
    absent: zerosForAbsent(),
    ...(sidecar ? { sidecar } : {}),
  });
  const file = { name, bytes: bytes.length, sha256: await sha256(bytes), format: "onnx" } as const;
  const facts = onnxFacts(model);
  const match = tryMatch(model, { subject: name, ...(arch === undefined ? {} : { arch }) });
  if (match instanceof InputError)
    return {
      schema: "osnet-inspection/1",
      file,
      model: facts,
      network: null,
      weights: null,
      anomalies: [],
      refusal: match.message,
    };
  return {
    schema: "osnet-inspection/1",
    file,
    model: { ...facts, ...onnxNetworkFacts(model, match) },
    ...(await inspectMatched(model, match, name)),
  };
}

function tryMatch(model: OnnxModel, options: Parameters<typeof matchModel>[1]): OnnxMatch | InputError {
  try {
    return matchModel(model, options);
  } catch (error) {
    if (error instanceof InputError && error.code === "unsupported") return error;
    throw error;
  }
}

async function inspectMatched(
  model: OnnxModel,
  match: OnnxMatch,
  subject: string,
): Promise<Pick<OnnxInspection, "network" | "weights" | "anomalies">> {
  const { graph, spec, differences } = match;
  if (differences.length > 0 || model.missing) {
    const network = inspectNetwork({ graph, spec, variant: variantOf(spec), extra: [] });
    return { network, weights: null, anomalies: [] };
  }
  const { checkpoint, reparameterised } = liftModel(model, match, subject);
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
