import type { OsnetSpec } from "../../arch/index.js";
import { InputError } from "../../errors.js";
import { sha256 } from "../../sha256.js";
import { zerosForAbsent } from "../formats/absent.js";
import {
  decodeTfjs,
  type Json,
  layerClasses,
  type TfjsFiles,
  type TfjsModel,
} from "../formats/tfjs/index.js";
import { translateTfjs } from "../lift/tfjs/index.js";
import { liftTfjsModel, matchTfjsModel } from "../tfjs-checkpoint.js";
import { countNames, type ModelFacts, modelFacts } from "./model-facts.js";
import { inspectModel, type ModelInspection } from "./model-inspection.js";

/** What a TensorFlow.js model is as files, whatever network is in it. Operators of a layers model are classes of layers. */
export interface TfjsFacts extends ModelFacts {
  readonly format: TfjsModel["format"];
  /** What made the model that was converted, and what converted it; null where it does not say. */
  readonly generatedBy: string | null;
  readonly convertedBy: string | null;
  /** How many weights are stored in each type of fewer bits. */
  readonly stored: Readonly<Record<string, number>>;
  /** The weight files, as model.json names them; `bytes` is null for one that is missing. */
  readonly shards: readonly { readonly name: string; readonly bytes: number | null }[];
  readonly metadata: Readonly<Record<string, Json>>;
}

/** What a TensorFlow.js model is, of whatever converter. */
export type TfjsInspection = ModelInspection<"tfjs", TfjsFacts>;

export interface TfjsInspectionOptions {
  readonly name: string;
  /** The architecture, where the graph does not tell how modules are named: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
}

/**
 * Describes a TensorFlow.js model as far as it goes: without its weights if files are missing, and without a network if it
 * has another one, or if its graph cannot be read without the axes and shapes that are in those files.
 *
 * @throws InputError (`format`, `unsupported`) if the files are no model, or broken
 */
export async function inspectTfjs(
  files: TfjsFiles,
  { name, arch }: TfjsInspectionOptions,
): Promise<TfjsInspection> {
  const model = decodeTfjs(files, { subject: name, absent: zerosForAbsent() });
  const graph = translateTfjs(model, name);
  const weights = [...model.weights.values()];
  const operators =
    model.format === "graph-model" ? model.nodes.map(({ op }) => op) : layerClasses(model, name);
  const { missing = [] } = model;
  const facts: TfjsFacts = {
    format: model.format,
    generatedBy: model.generatedBy ?? null,
    convertedBy: model.convertedBy ?? null,
    ...modelFacts(
      graph,
      operators,
      weights.map(({ tensor }) => tensor),
    ),
    stored: countNames(weights.flatMap(({ stored }) => stored?.dtype ?? [])),
    shards: [
      ...Array.from(files.shards, ([path, { length }]) => ({ name: path, bytes: length })),
      ...missing.map((path) => ({ name: path, bytes: null })),
    ],
    metadata: model.metadata ?? {},
  };
  const file = {
    name,
    bytes: [...files.shards.values()].reduce((sum, { length }) => sum + length, files.json.length),
    sha256: await sha256(files.json),
    format: "tfjs",
  } as const;
  const options = { subject: name, ...(arch === undefined ? {} : { arch }) };
  return inspectModel(file, facts, {
    graph,
    match: () => matchTfjsModel(graph, options),
    lift: missing.length > 0 ? undefined : (match) => liftTfjsModel(model, match, name),
    ...(model.format === "graph-model" && missing.length > 0
      ? { incomplete: missingShards(missing, name) }
      : {}),
  });
}

/** A graph has its axes and shapes, and the epsilons of its norms, among its weights. */
function missingShards(missing: readonly string[], subject: string): InputError {
  return new InputError({
    code: "format",
    subject,
    found: `no ${missing[0]} beside it`,
    expected: "all weight files, which have constants that its graph is read by",
    remedy: "give the model's whole folder",
  });
}
