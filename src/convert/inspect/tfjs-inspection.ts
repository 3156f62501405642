import type { OsnetSpec } from "../../arch/index.js";
import { InputError } from "../../errors.js";
import { sha256 } from "../../sha256.js";
import {
  decodeTfjs,
  type Json,
  layerClasses,
  type TfjsFiles,
  type TfjsModel,
} from "../formats/tfjs/index.js";
import { translateTfjs } from "../lift/tfjs/index.js";
import { liftTfjs, matchTfjsModel } from "../tfjs-checkpoint.js";
import { countDTypes, type DTypeCount } from "./inspection.js";
import { inspectMatched, type MatchedInspection, tryMatch } from "./matched.js";
import {
  countNames,
  interfaceFacts,
  type OnnxNetworkFacts,
  onnxNetworkFacts,
  type ValueFacts,
} from "./onnx-facts.js";

/** What a TensorFlow.js model is as files, whatever network is in it. */
export interface TfjsFacts {
  readonly format: TfjsModel["format"];
  /** What made the model that was converted, and what converted it; null where it does not say. */
  readonly generatedBy: string | null;
  readonly convertedBy: string | null;
  /** How often it has each operator, or each class of layers, the most frequent first. */
  readonly operators: Readonly<Record<string, number>>;
  readonly inputs: readonly ValueFacts[];
  readonly outputs: readonly ValueFacts[];
  /** Element types as arithmetic sees them. */
  readonly dtypes: readonly DTypeCount[];
  /** How many weights are stored in each type of fewer bits. */
  readonly stored: Readonly<Record<string, number>>;
  /** The weight files, as model.json names them. */
  readonly shards: readonly { readonly name: string; readonly bytes: number }[];
  readonly metadata: Readonly<Record<string, Json>>;
}

/** What a TensorFlow.js model is, of whatever converter, as plain data that JSON holds. */
export interface TfjsInspection extends MatchedInspection {
  readonly schema: "osnet-inspection/1";
  readonly file: {
    readonly name: string;
    /** Of all files; the digest is that of model.json. */
    readonly bytes: number;
    readonly sha256: string;
    readonly format: "tfjs";
  };
  readonly model: TfjsFacts & Partial<OnnxNetworkFacts>;
  /** Why the model is no OSNet, and what it is like. */
  readonly refusal?: string;
}

export interface TfjsInspectionOptions {
  readonly name: string;
  /** The architecture, where the graph does not tell how modules are named: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
}

/**
 * Describes a TensorFlow.js model as far as it goes: without a network if it has another one.
 *
 * @throws InputError (`format`, `unsupported`) if the files are no model, broken or missing
 */
export async function inspectTfjs(
  files: TfjsFiles,
  { name, arch }: TfjsInspectionOptions,
): Promise<TfjsInspection> {
  const model = decodeTfjs(files, { subject: name });
  const translated = translateTfjs(model, name);
  const shards = Array.from(files.shards, ([path, { length }]) => ({ name: path, bytes: length }));
  const facts: TfjsFacts = {
    format: model.format,
    generatedBy: model.generatedBy ?? null,
    convertedBy: model.convertedBy ?? null,
    operators: countNames(
      model.format === "graph-model" ? model.nodes.map(({ op }) => op) : layerClasses(model, name),
    ),
    ...interfaceFacts(translated),
    dtypes: countDTypes(Array.from(model.weights.values(), ({ tensor }) => tensor)),
    stored: countNames([...model.weights.values()].flatMap(({ stored }) => stored?.dtype ?? [])),
    shards,
    metadata: model.metadata ?? {},
  };
  const file = {
    name,
    bytes: shards.reduce((sum, { bytes }) => sum + bytes, files.json.length),
    sha256: await sha256(files.json),
    format: "tfjs",
  } as const;
  const start = { schema: "osnet-inspection/1", file } as const;
  const options = { subject: name, ...(arch === undefined ? {} : { arch }) };
  const match = tryMatch(() => matchTfjsModel(translated, options));
  if (match instanceof InputError)
    return { ...start, model: facts, network: null, weights: null, anomalies: [], refusal: match.message };
  return {
    ...start,
    model: { ...facts, ...onnxNetworkFacts(translated, match) },
    ...(await inspectMatched(match, () => liftTfjs(model, match, name))),
  };
}
