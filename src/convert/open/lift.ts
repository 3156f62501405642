import {
  type Dialect,
  expand,
  type LayerNode,
  type OsnetSpec,
  PARAMETER_SHAPES,
  type ParameterRole,
  parametersOf,
  variantOf,
} from "../../arch/index.js";
import { InputError } from "../../core/errors.js";
import { elementCount, formatShape, type Shape, type StateDict, type Tensor } from "../../core/tensor.js";
import { plural } from "../../core/text.js";
import { statedSpec } from "../export/metadata.js";
import { type NormFloor, RESULT_KINDS, type ResultKind, type WantedResult } from "../export/options.js";
import type { BeyondNetwork, FileOutputs } from "../export/write.js";
import type { OnnxModel } from "../formats/onnx/model.js";
import type { GraphMatch, MatchedOutput } from "../import/match.js";
import { imageShape } from "../import/normalise.js";
import { type Checkpoint, namedSpec, refuseBadNumbers } from "./checkpoint.js";
import type { Model } from "./open-file.js";

/** Options for choosing a model's network, if its graph is ambiguous. */
export interface LiftOptions {
  /** The architecture, if the graph leaves open how modules are named: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
}

/** The weights of a matched model under torchreid's names; they may include NaNs and negative variances. */
export interface LiftedModel {
  readonly checkpoint: Checkpoint;
  /** How many tensors are not the trained ones, though the network computes the same. */
  readonly reparameterised: number;
}

/**
 * Imports the weights of a matched model under torchreid's names.
 *
 * @throws InputError (`state-dict`) if the model differs from its network
 */
export function liftModel({ name, document: { format }, notes }: Model, match: GraphMatch): LiftedModel {
  const { stateDict, reparameterised } = liftStateDict(match, { subject: name });
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
        // A model's metadata describes its graph, not its weights.
        metadata: new Map(),
        wrapperPath: "",
        modelClass: "",
        removedPrefix: "",
        notes: [
          ...notes(match),
          ...foldingNotes(match, reparameterised.length, stateDict.size),
          ...headNotes(match),
        ],
      },
    },
  };
}

/**
 * The network that the user names, the one in the metadata, or the one that the graph shows: the first that fits.
 *
 * @throws InputError (`unsupported`) if the model is not an OSNet
 */
export function matchModel({ name, onnx, match }: Model, { arch }: LiftOptions = {}): GraphMatch {
  const given = typeof arch === "string" ? namedSpec(arch) : arch;
  const stated = given ?? statedSpec(onnx.metadata, name);
  const dialect = stated?.dialect ?? namedDialect(onnx);
  const shown = match(dialect ? { dialect } : {});
  if (!stated) return shown;
  // A file whose output is the embedding has no classifier, whatever its network had.
  const head = shown.spec.head && {
    classes: shown.spec.head.classes,
    loss: stated.head?.loss ?? shown.spec.head.loss,
  };
  const matched = match({ graph: expand({ ...stated, head }) });
  return given || matched.differences.length === 0 ? matched : shown;
}

/**
 * Exporters leave some module names in a file. They are not used to find layers, but they decide between torchreid's
 * two ways of naming its modules if the graph does not show which it follows.
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

/** A single linear layer after the pool could be either: a graph does not show which. */
function headNotes({ spec: { embedding, head } }: GraphMatch): readonly string[] {
  if (!head || embedding.length > 0) return [];
  return [
    `the only linear layer after the pooled map (${head.classes} outputs) is read as a classifier: an embedding layer would be followed by a batch norm or a ReLU`,
  ];
}

function foldingNotes(match: GraphMatch, reparameterised: number, total: number): readonly string[] {
  const folded = [...match.graph.nodes].filter(
    ({ op, inputs }) => op.kind === "batchNorm" && match.absorbed.has(inputs[0] ?? ""),
  ).length;
  return reparameterised > 0
    ? [
        `${folded} batch norms were folded: ${reparameterised} of ${total} tensors differ from the trained ones, but the network is the same`,
      ]
    : [];
}

/** A checkpoint imported from a model's file, and the remaining computation of that file. */
export interface ModelCheckpoint extends Checkpoint {
  /** Its outputs, and what else it computes. */
  readonly outputs: FileOutputs;
  /** Whether a runtime can load the file, so that it can be run and compared with its weights. */
  readonly isRunnable: boolean;
}

/**
 * Imports a checkpoint from a model of any exporter: its graph matched with OSNet, its weights under torchreid's names,
 * with the values that a runtime uses. The notes say what was folded, or quantised.
 *
 * @throws InputError if the graph is not an OSNet (`unsupported`), or differs from one (`state-dict`)
 */
export function liftCheckpoint(model: Model, options: LiftOptions = {}): ModelCheckpoint {
  const match = matchModel(model, options);
  const { checkpoint } = liftModel(model, match);
  refuseBadNumbers(checkpoint, model.name);
  const results = fileOutputs(
    match,
    model.onnx.graph.outputs.map(({ name }) => name),
  );
  const [, , height, width] = imageShape(model.onnx);
  const isFixed = typeof height === "number" && typeof width === "number";
  const outputs = { ...results, ...(isFixed ? { size: { height, width } } : {}) };
  return { ...checkpoint, outputs, isRunnable: model.isRunnable };
}

/**
 * A state dict from a matched ONNX file. Unfolded weights are bit-identical. A batch norm that was folded into the
 * convolution before it can no longer be separated: the convolution keeps the product, and the batch norm becomes one
 * that only adds the folded bias.
 *
 * That batch norm has γ = 1, β = the bias, μ = 0 and σ² = 1 − ε in float32. In float32, as PyTorch runs it, σ² + ε is
 * exactly 1 and so is the scale. In float64 the scale is 1 + 7e-9, less than half of float32's last place: folding the
 * state dict again gives the file's own bits.
 */

export interface LiftedStateDict {
  /** Every parameter and buffer of `match.graph`, in torchreid's order. */
  readonly stateDict: StateDict;
  /** Paths whose values are not the trained ones, though the network computes the same. */
  readonly reparameterised: readonly string[];
}

/** Parameters of one layer, by role; the marked ones are chosen so that the layer computes the same. */
interface Lifted {
  readonly tensors: Readonly<Partial<Record<ParameterRole, Tensor>>>;
  readonly reparameterised: readonly ParameterRole[];
}

const NORM_ROLES: readonly ParameterRole[] = ["weight", "bias", "runningMean", "runningVar"];

/**
 * The state dict of a matched file.
 *
 * @throws InputError (`state-dict`) if the file differs from the architecture: nothing is imported in part
 */
export function liftStateDict(match: GraphMatch, { subject }: { readonly subject: string }): LiftedStateDict {
  const { graph, differences } = match;
  // If there are differences, missing parts follow from them.
  if (differences.length > 0)
    throw incomplete(
      subject,
      differences.map(({ layer, found, expected }) => `${layer}: found ${found}, expected ${expected}`),
    );
  const problems: string[] = [];
  const lifted = new Map<string, Tensor>();
  const reparameterised = new Set<string>();
  const foldedInputs = new Map(graph.nodes.map((layer) => [layer.name, layer.inputs[0] ?? ""]));
  const absorbing = new Set(
    graph.nodes.flatMap(({ name, op }) =>
      op.kind === "batchNorm" && match.absorbed.has(foldedInputs.get(name) ?? "") ? [name] : [],
    ),
  );
  for (const layer of graph.nodes) {
    const { tensors, reparameterised: roles } = liftLayer(layer, match, absorbing.has(layer.name));
    for (const [role, path] of Object.entries(layer.parameters) as [ParameterRole, string][]) {
      const tensor = tensors[role];
      // Shared weights of a gate are imported once for each stream; `matchGraph` has checked that they agree.
      if (tensor && !lifted.has(path)) lifted.set(path, tensor);
      if (roles.includes(role)) reparameterised.add(path);
    }
  }
  const stateDict = new Map<string, Tensor>();
  for (const { path, shape, dtype } of parametersOf(graph)) {
    const tensor = dtype === "int64" ? { dtype, shape: [], data: new BigInt64Array(1) } : lifted.get(path);
    if (tensor && tensor.data.length === elementCount(shape))
      stateDict.set(path, { dtype: tensor.dtype, shape, data: tensor.data });
    else
      problems.push(
        `${path}: found ${tensor ? formatShape(tensor.shape) : "nothing"}, expected ${formatShape(shape)}`,
      );
  }
  if (problems.length > 0) throw incomplete(subject, problems);
  return { stateDict, reparameterised: [...stateDict.keys()].filter((path) => reparameterised.has(path)) };
}

function liftLayer(
  layer: LayerNode,
  { constants, absorbed, affine, factors }: GraphMatch,
  absorbs: boolean,
): Lifted {
  const own = constants.get(layer.name) ?? {};
  const shapes = (PARAMETER_SHAPES[layer.op.kind] as (op: unknown) => Partial<Record<ParameterRole, Shape>>)(
    layer.op,
  );
  const channels = shapes.bias ?? shapes.weight?.slice(0, 1) ?? [];
  if (absorbs) {
    const tensors = neutralNorm(layer, channels, own.bias, factors.get(layer.name));
    return { tensors, reparameterised: NORM_ROLES };
  }
  if (affine.has(layer.name))
    return { tensors: neutralNorm(layer, channels, own.bias, own.weight), reparameterised: NORM_ROLES };
  if (absorbed.has(layer.name) && layer.op.kind === "linear")
    // The bias is in the batch norm now, and that of the linear layer is zero.
    return { tensors: { ...own, bias: filled(channels, 0) }, reparameterised: ["weight", "bias"] };
  if (absorbed.has(layer.name)) return { tensors: own, reparameterised: ["weight"] };
  if (layer.op.kind === "instanceNorm" || layer.op.kind === "layerNorm")
    // A norm that is written without a weight or a bias multiplies by 1, or adds 0.
    return {
      tensors: { weight: filled(channels, 1), bias: filled(channels, 0), ...own },
      reparameterised: [],
    };
  return { tensors: own, reparameterised: [] };
}

/** A batch norm that computes weight · x + bias, with neutral running statistics. */
function neutralNorm(layer: LayerNode, channels: Shape, bias?: Tensor, weight?: Tensor): Lifted["tensors"] {
  const epsilon = layer.op.kind === "batchNorm" ? layer.op.epsilon : 0;
  return {
    weight: weight ?? filled(channels, 1),
    bias: bias ?? filled(channels, 0),
    runningMean: filled(channels, 0),
    runningVar: filled(channels, 1 - epsilon),
  };
}

function filled(shape: Shape, value: number): Tensor<"float32"> {
  return { dtype: "float32", shape, data: new Float32Array(elementCount(shape)).fill(value) };
}

function incomplete(subject: string, problems: readonly string[]): InputError {
  return new InputError({
    code: "state-dict",
    subject,
    found: `${plural(problems.length, "difference")} from an OSNet`,
    expected: "a graph from which every parameter can be read",
    remedy: "repair the export; partial networks are not converted",
    details: problems,
  });
}

/** @param names the outputs that the file declares, in order */
export function fileOutputs(
  { graph, outputs }: Pick<GraphMatch, "graph" | "outputs">,
  names: readonly string[],
): FileOutputs {
  const matched = new Map(outputs.map((output) => [output.name, output]));
  const gates = new Set(graph.gates.map(({ layer }) => layer));
  const direct = new Set(outputs.flatMap(({ layer, tail }) => (tail.length === 0 ? layer : [])));
  const hasGates = gates.size > 0 && [...gates].every((gate) => direct.has(gate));
  const results: WantedResult[] = [];
  const beyond: BeyondNetwork[] = [];
  /** Results that some output represents, although changed. */
  const changed: { readonly kind: ResultKind; readonly name: string }[] = [];
  for (const output of names) {
    const match = matched.get(output);
    if (!match) {
      beyond.push({
        kind: "output",
        output,
        description: "which is not computed from a layer of the network",
      });
      continue;
    }
    const { layer, tail } = match;
    const kind = RESULT_KINDS.find((candidate) => graph.outputs[candidate] === layer);
    const floors = kind && l2Of(match);
    const isPlain = tail.length === 0;
    const isNew = !results.some(
      (result) => result.kind === kind && (result.floors === undefined) === isPlain,
    );
    if (kind && isNew && (isPlain || floors)) {
      results.push({ kind, name: output, ...(isPlain || !floors ? {} : { floors }) });
    } else if (!isPlain) {
      const isL2 = kind !== undefined && String(tail) === "l2Normalize";
      beyond.push({ kind: "tail", output, description: `${tail.join(", ")} after ${layer}`, isL2 });
      if (kind) changed.push({ kind, name: output });
    } else if (!hasGates || !gates.has(layer)) {
      const description = kind === undefined ? `the layer ${layer}` : `${layer} a second time`;
      beyond.push({ kind: "output", output, description });
    }
  }
  const left = changed.filter(({ kind }) => !results.some((result) => result.kind === kind));
  return { results: results.length > 0 ? results : left.slice(0, 1), hasGates, beyond };
}

/** The floor of the L2 norm by which an output is divided; undefined if anything else follows its layer. */
function l2Of({ tail, operations }: MatchedOutput): readonly NormFloor[] | undefined {
  const [operation, ...others] = (operations ?? []).filter(({ kind }) => kind !== "flatten");
  return tail.length > 0 && operation?.kind === "l2Normalize" && others.length === 0
    ? operation.floors
    : undefined;
}
