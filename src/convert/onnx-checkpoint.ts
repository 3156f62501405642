import { type Dialect, expand, type OsnetSpec, parseSpec, variantOf } from "../arch/index.js";
import { type Checkpoint, namedSpec, refuseBadNumbers } from "./checkpoint.js";
import { decodeOnnx, type OnnxModel, type SidecarReader } from "./formats/onnx/index.js";
import { describePreprocess, liftStateDict, matchOnnx, type OnnxMatch } from "./lift/index.js";

export interface OnnxCheckpointOptions {
  /** What messages call the file. */
  readonly subject: string;
  /** The architecture, where the graph does not tell how modules are named: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
  /** Reads the files beside it that hold its weights. */
  readonly sidecar?: SidecarReader;
}

/**
 * Reads an ONNX file of any exporter as a checkpoint: its graph matched against OSNet, its weights under torchreid's
 * names. What was folded is said in the notes.
 *
 * @throws InputError if the file is no ONNX file (`format`), no OSNet (`unsupported`), or departs from one (`state-dict`)
 */
export function openOnnxCheckpoint(
  bytes: Uint8Array,
  { subject, arch, sidecar }: OnnxCheckpointOptions,
): Checkpoint {
  const model = decodeOnnx(bytes, { subject, ...(sidecar ? { sidecar } : {}) });
  const match = matchModel(model, { subject, ...(arch === undefined ? {} : { arch }) });
  const { checkpoint } = liftModel(model, match, subject);
  refuseBadNumbers(checkpoint, subject);
  return checkpoint;
}

/**
 * Matches a decoded file against the network that the user names, the one that the file states, or the one that its graph
 * shows: the first that fits.
 *
 * @throws InputError (`unsupported`, `format`) if its graph is no OSNet
 */
export function matchModel(
  model: OnnxModel,
  { subject, arch }: Pick<OnnxCheckpointOptions, "subject" | "arch">,
): OnnxMatch {
  const given = typeof arch === "string" ? namedSpec(arch) : arch;
  const text = model.metadata.get("osnet.spec");
  const stated =
    given ?? (text === undefined ? undefined : parseSpec(text, `${subject}, metadata osnet.spec`));
  const dialect = stated?.dialect ?? namedDialect(model);
  const shown = matchOnnx(model, { subject, ...(dialect ? { dialect } : {}) });
  if (!stated) return shown;
  // A file that gives embeddings has no classifier, whatever its network had.
  const head = shown.spec.head && {
    classes: shown.spec.head.classes,
    loss: stated.head?.loss ?? shown.spec.head.loss,
  };
  const match = matchOnnx(model, { subject, graph: expand({ ...stated, head }) });
  return given || match.differences.length === 0 ? match : shown;
}

/**
 * Exporters leave some of the modules' names in a file. Nothing is found by them; but where a graph does not show which
 * of torchreid's two ways of naming its modules follow, they tell.
 */
function namedDialect({ graph }: OnnxModel): Dialect | undefined {
  for (const { name } of graph.nodes) if (STREAM_NAMES.test(name)) return dialectOf(name);
  for (const name of graph.initializers.keys()) if (STREAM_NAMES.test(name)) return dialectOf(name);
  return undefined;
}

/** A layer of a block's stream: `conv2.0.conv2b.0.conv1`, `conv2.0.conv2.1.layers.0.conv1`. */
const STREAM_NAMES = /\bconv2[a-d]\b|\blayers\b[./]/;

function dialectOf(name: string): Dialect {
  return /\blayers\b/.test(name) ? "osnet_ain" : "osnet";
}

/** What a matched file holds under torchreid's names; its numbers may be bad. */
export interface LiftedModel {
  readonly checkpoint: Checkpoint;
  /** How many tensors are not the trained ones, though the network computes the same. */
  readonly reparameterised: number;
}

/** @throws InputError (`state-dict`) if the file departs from the architecture */
export function liftModel(model: OnnxModel, match: OnnxMatch, subject: string): LiftedModel {
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
        format: "onnx",
        container: "onnx",
        // What an ONNX file says of itself is about its graph.
        metadata: new Map(),
        wrapperPath: "",
        modelClass: "",
        removedPrefix: "",
        notes: notesOf(model, match, reparameterised.length, stateDict.size),
      },
    },
  };
}

/** Whether quantised tensors have one step each, or one per output channel. */
function stepsOf({ roundings }: OnnxMatch): string {
  const isPerChannel = [...roundings.values()].some(({ weight }) => new Set(weight).size > 1);
  return isPerChannel ? "by a step per output channel" : "by a step per tensor";
}

function notesOf(
  model: OnnxModel,
  match: OnnxMatch,
  reparameterised: number,
  total: number,
): readonly string[] {
  const { name, version } = model.producer;
  const exporter = [name || "an unnamed exporter", version].filter((part) => part !== "").join(" ");
  const folded = [...match.graph.nodes].filter(
    ({ op, inputs }) => op.kind === "batchNorm" && match.absorbed.has(inputs[0] ?? ""),
  ).length;
  return [
    `written by ${exporter}, opset ${model.opset}`,
    ...(model.sidecars ? [`weights in ${model.sidecars.join(", ")}`] : []),
    ...(match.preprocess
      ? [`preprocessing that is not lifted: ${describePreprocess(match.preprocess)}`]
      : []),
    ...(match.roundings.size > 0
      ? [
          `quantised: the weights of ${match.roundings.size} layers are dequantised, ${stepsOf(match)}, and what rounding has left of the trained ones; a run, which rounds activations too, does not verify them`,
        ]
      : []),
    ...(reparameterised > 0
      ? [
          `${folded} batch norms were folded: ${reparameterised} of ${total} tensors are not the trained ones, though the network is the same`,
        ]
      : []),
  ];
}
