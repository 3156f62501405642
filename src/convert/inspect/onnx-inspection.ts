import type { OsnetSpec } from "../../arch/index.js";
import { InputError } from "../../errors.js";
import { sha256 } from "../../sha256.js";
import { decodeOnnx, type SidecarReader, zerosForAbsent } from "../formats/onnx/index.js";
import { liftModel, matchModel } from "../onnx-checkpoint.js";
import { inspectMatched, type MatchedInspection, tryMatch } from "./matched.js";
import { type OnnxFacts, type OnnxNetworkFacts, onnxFacts, onnxNetworkFacts } from "./onnx-facts.js";

/** What an ONNX file is, of whatever exporter, as plain data that JSON holds. */
export interface OnnxInspection extends MatchedInspection {
  readonly schema: "osnet-inspection/1";
  readonly file: {
    readonly name: string;
    readonly bytes: number;
    readonly sha256: string;
    readonly format: "onnx";
  };
  readonly model: OnnxFacts & Partial<OnnxNetworkFacts>;
  /** Why the graph is no OSNet, and what it is like. */
  readonly refusal?: string;
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
  const match = tryMatch(() => matchModel(model, { subject: name, ...(arch === undefined ? {} : { arch }) }));
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
    ...(await inspectMatched(match, model.missing ? undefined : () => liftModel(model, match, name))),
  };
}
