import type { OsnetSpec } from "../../arch/index.js";
import { sha256 } from "../../sha256.js";
import { zerosForAbsent } from "../formats/absent.js";
import { decodeOnnx, type OnnxModel, type SidecarReader } from "../formats/onnx/index.js";
import { liftOnnxModel, matchOnnxModel } from "../onnx-checkpoint.js";
import { type ModelFacts, modelFacts } from "./model-facts.js";
import { inspectModel, type ModelInspection } from "./model-inspection.js";

/** What an ONNX file is as a file, whatever network is in it. Operators of other domains have those before their names. */
export interface OnnxFacts extends ModelFacts {
  /** The program that wrote it; either may be empty. */
  readonly producer: { readonly name: string; readonly version: string };
  readonly irVersion: number;
  readonly opset: number;
  /** Versions of other operator domains. */
  readonly customOpsets: Readonly<Record<string, number>>;
  /** Calls of the file's own functions. */
  readonly functionCalls: number;
  readonly metadata: Readonly<Record<string, string>>;
  /** Files beside it that hold its weights. */
  readonly sidecars: readonly { readonly name: string; readonly missing: boolean }[];
}

/** What an ONNX file is, of whatever exporter. */
export type OnnxInspection = ModelInspection<"onnx", OnnxFacts>;

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
  const absent = zerosForAbsent();
  const model = decodeOnnx(bytes, { subject: name, absent, ...(sidecar ? { sidecar } : {}) });
  const file = { name, bytes: bytes.length, sha256: await sha256(bytes), format: "onnx" } as const;
  const options = { subject: name, ...(arch === undefined ? {} : { arch }) };
  return inspectModel(file, factsOf(model), {
    graph: model,
    match: () => matchOnnxModel(model, options),
    lift: model.missing ? undefined : (match) => liftOnnxModel(model, match, name),
  });
}

function factsOf(model: OnnxModel): OnnxFacts {
  const { graph, sidecars = [], missing = [] } = model;
  const operators = graph.nodes.map(({ domain, opType }) => (domain === "" ? opType : `${domain}.${opType}`));
  return {
    producer: model.producer,
    irVersion: model.irVersion,
    opset: model.opset,
    customOpsets: Object.fromEntries(model.customOpsets),
    ...modelFacts(model, operators, graph.initializers.values()),
    functionCalls: model.inlined ?? 0,
    metadata: Object.fromEntries(model.metadata),
    sidecars: [
      ...sidecars.map((name) => ({ name, missing: false })),
      ...missing.map((name) => ({ name, missing: true })),
    ],
  };
}
