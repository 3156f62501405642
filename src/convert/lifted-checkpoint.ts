import { type Dialect, expand, type OsnetSpec, variantOf } from "../arch/index.js";
import { type Checkpoint, namedSpec } from "./checkpoint.js";
import type { OnnxModel } from "./formats/onnx/index.js";
import { describePreprocess, type GraphMatch, liftStateDict, type MatchOptions } from "./lift/index.js";
import { statedSpec } from "./lower/metadata.js";

/** A model of any exporter as a checkpoint, once its graph is laid beside the layer graph of an OSNet. */

export interface LiftOptions {
  /** What messages call the file. */
  readonly subject: string;
  /** The architecture, where the graph does not tell how modules are named: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
}

/** How messages and notes tell where a model comes from. */
export interface Origin {
  readonly format: "onnx" | "tfjs";
  /** What is to be said before, and between, of what was read and what was folded. */
  readonly notes: readonly string[];
}

/** What a matched model holds under torchreid's names; its numbers may be bad. */
export interface LiftedModel {
  readonly checkpoint: Checkpoint;
  /** How many tensors are not the trained ones, though the network computes the same. */
  readonly reparameterised: number;
}

/**
 * Lifts the weights of a matched model to torchreid's names.
 *
 * @throws InputError (`state-dict`) if the model departs from its network
 */
export function liftMatched(match: GraphMatch, { format, notes }: Origin, subject: string): LiftedModel {
  const { stateDict, reparameterised } = liftStateDict(match, { subject });
  return {
    reparameterised: reparameterised.length,
    checkpoint: {
      spec: match.spec,
      graph: match.graph,
      variant: variantOf(match.spec),
      extra: [],
      stateDict,
      decoded: {
        format,
        container: format,
        // What a model's file says of itself is about its graph.
        metadata: new Map(),
        wrapperPath: "",
        modelClass: "",
        removedPrefix: "",
        notes: [...notes, ...foldingNotes(match, reparameterised.length, stateDict.size)],
      },
    },
  };
}

/**
 * The network that the user names, the one that the file states, or the one that its graph shows: the first that fits.
 *
 * @throws InputError (`unsupported`) if the model is no OSNet
 */
export function matchBest<M extends GraphMatch>(
  match: (options: MatchOptions) => M,
  model: Pick<OnnxModel, "metadata" | "graph">,
  { subject, arch }: LiftOptions,
): M {
  const given = typeof arch === "string" ? namedSpec(arch) : arch;
  const stated = given ?? statedSpec(model.metadata, subject);
  const dialect = stated?.dialect ?? namedDialect(model);
  const shown = match({ subject, ...(dialect ? { dialect } : {}) });
  if (!stated) return shown;
  // A file that gives embeddings has no classifier, whatever its network had.
  const head = shown.spec.head && {
    classes: shown.spec.head.classes,
    loss: stated.head?.loss ?? shown.spec.head.loss,
  };
  const matched = match({ subject, graph: expand({ ...stated, head }) });
  return given || matched.differences.length === 0 ? matched : shown;
}

/**
 * Exporters leave some of the modules' names in a file. Nothing is found by them; but where a graph does not show which
 * of torchreid's two ways of naming its modules follow, they tell.
 */
function namedDialect({ graph }: Pick<OnnxModel, "graph">): Dialect | undefined {
  for (const { name } of graph.nodes) if (STREAM_NAMES.test(name)) return dialectOf(name);
  for (const name of graph.initializers.keys()) if (STREAM_NAMES.test(name)) return dialectOf(name);
  return undefined;
}

/** A layer of a block's stream: `conv2.0.conv2b.0.conv1`, `conv2.0.conv2.1.layers.0.conv1`. */
const STREAM_NAMES = /\bconv2[a-d]\b|\blayers\b[./]/;

function dialectOf(name: string): Dialect {
  return /\blayers\b/.test(name) ? "osnet_ain" : "osnet";
}

/** What the weights do not hold of the file. */
export function preprocessNotes({ preprocess }: GraphMatch): readonly string[] {
  return preprocess ? [`preprocessing that is not lifted: ${describePreprocess(preprocess)}`] : [];
}

function foldingNotes(match: GraphMatch, reparameterised: number, total: number): readonly string[] {
  const folded = [...match.graph.nodes].filter(
    ({ op, inputs }) => op.kind === "batchNorm" && match.absorbed.has(inputs[0] ?? ""),
  ).length;
  return reparameterised > 0
    ? [
        `${folded} batch norms were folded: ${reparameterised} of ${total} tensors are not the trained ones, though the network is the same`,
      ]
    : [];
}
