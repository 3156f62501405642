import { unreadLayers } from "../../arch/graph.js";
import {
  ancestors,
  type Dialect,
  expand,
  type LayerGraph,
  type LayerNode,
  type OsnetSpec,
} from "../../arch/index.js";
import { InputError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import type { NormFloor } from "../export/options.js";
import type { OnnxModel } from "../formats/onnx/model.js";
import type { StoredTensor } from "../formats/tfjs/model.js";
import { type Difference, difference, gateDifferences } from "./differences.js";
import { type BlockLandmarks, findBlocks } from "./landmarks.js";
import { normalise } from "./normalise.js";
import {
  type Constants,
  type ForeignGraph,
  type ForeignNode,
  isKind,
  type Preprocess,
  type Reading,
  type Roundings,
} from "./operators/foreign.js";
import { withoutCopies } from "./passes.js";
import { inputDifferences, isIdentity } from "./preprocess.js";
import { sketchGraph } from "./sketch.js";
import { differingPart } from "./trail.js";
import { type Walk, walk } from "./walk.js";

/** An ONNX graph matched with the layer graph of an OSNet. */
export interface GraphMatch {
  /** The architecture found in the graph. */
  readonly spec: OsnetSpec;
  /** The layer graph of that spec, with batch norms unfolded. */
  readonly graph: LayerGraph;
  /** The ONNX value of each layer's output. */
  readonly values: ReadonlyMap<string, string>;
  /** How to convert a value's elements to the layer's, if they differ: axes in another order, integers. */
  readonly readings: ReadonlyMap<string, Reading>;
  /** The preprocessing in the file; undefined if there is none. */
  readonly preprocess: Preprocess | undefined;
  /** Layers whose output is not a value of the file: folded ones, and those inside a fused operator. */
  readonly folded: ReadonlySet<string>;
  /** Convolutions and linear layers whose constants are products with those of the following batch norm. */
  readonly absorbed: ReadonlySet<string>;
  /** Batch norms that the file writes as a product and a sum, from which the four parameters cannot be recovered. */
  readonly affine: ReadonlySet<string>;
  /** The outputs, in the file's order. */
  readonly outputs: readonly MatchedOutput[];
  /** Each layer's constants; with a folded batch norm, its layer has the products of both. */
  readonly constants: ReadonlyMap<string, Constants>;
  /**
   * By batch norm that the file writes as a product and a sum after a linear layer: the factor, whose product with the linear layer's
   * own weight is the batch norm's weight above.
   */
  readonly factors: ReadonlyMap<string, StoredTensor>;
  /** By layer, biases of which the file has only the sum. Those among the constants have that sum. */
  readonly sharedBiases: ReadonlyMap<string, SharedBias>;
  /** How far a layer's constants may be from their unquantised values; empty for a float file. */
  readonly roundings: ReadonlyMap<string, Roundings>;
  /** All differences from the architecture, in network order; empty for a faithful file. */
  readonly differences: readonly Difference[];
  /** Constants that were computed from others, by the names of their values: the runtime's must be the same. */
  readonly computed: ReadonlyMap<string, Tensor>;
  /** Where activations are first rounded to integers, which changes values, not weights. */
  readonly quantised: Difference | undefined;
}

/** The sum of several layers' biases. */
export interface SharedBias {
  /** In network order. */
  readonly layers: readonly string[];
  /** One value per channel. */
  readonly sum: StoredTensor;
}

/** How to match a file's graph. */
export interface MatchOptions {
  /** Name of the file in messages. */
  readonly subject: string;
  /** The expected network. Default: the OSNet that the graph resembles. */
  readonly graph?: LayerGraph;
  /** The module names, if the caller knows them: a graph without instance norms does not show them. */
  readonly dialect?: Dialect;
}

/** If fewer layers than this share are found, the graph is another network, not an OSNet with faults. */
const RESEMBLANCE = 0.5;

/**
 * Matches an ONNX graph with OSNet by data flow and by the meaning of operators, never by names.
 *
 * @throws InputError (`unsupported`) if the graph is not an OSNet, (`format`) if it is not a valid graph
 */
export function matchGraph(model: OnnxModel, options: MatchOptions): GraphMatch {
  const first = matchOf(model, options);
  if (first instanceof InputError && first.problem.code === "format") throw first;
  if (!(first instanceof InputError) && countIn(first) === 0) return first;
  // Copies are not a finding, but layers that happen to be equal are not copies.
  const once = withoutCopies(model);
  const second = once === model ? first : matchOf(once, options);
  const best = countIn(second) < countIn(first) ? second : first;
  if (best instanceof InputError) throw best;
  return best;
}

function countIn(match: GraphMatch | InputError): number {
  return match instanceof InputError ? Infinity : match.differences.length;
}

function matchOf(model: OnnxModel, options: MatchOptions): GraphMatch | InputError {
  try {
    return matchAsItIs(model, options);
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
}

function matchAsItIs(model: OnnxModel, { subject, graph: given, dialect }: MatchOptions): GraphMatch {
  const foreign = normalise(model, subject);
  const blocks = findBlocks(foreign);
  const graph = given ?? sketched(foreign, blocks, dialect);
  if (!graph) throw notAnOsnet(foreign, subject);
  const walked = walk(graph, foreign, blocks);
  const reached = walked.nodes.size - walked.skipped.size;
  if (reached < RESEMBLANCE * graph.nodes.length) throw notAnOsnet(foreign, subject);
  return assemble(graph, foreign, walked, subject);
}

function sketched(
  foreign: ForeignGraph,
  blocks: readonly BlockLandmarks[],
  dialect: Dialect | undefined,
): LayerGraph | undefined {
  const spec = sketchGraph(foreign, blocks, dialect);
  try {
    return spec && expand(spec);
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

function assemble(graph: LayerGraph, foreign: ForeignGraph, walked: Walk, subject: string): GraphMatch {
  const { nodes, absorbed, products, factors, unnamed, afterInserted, skipped } = walked;
  const values = new Map<string, string>();
  const constants = new Map<string, Constants>();
  const folded = new Set([...absorbed, ...unnamed]);
  const affine = new Set<string>();
  const readings = new Map<string, Reading>();
  const roundings = new Map<string, Roundings>();
  for (const { name, reading } of foreign.outputs) if (reading) readings.set(name, reading);
  for (const layer of graph.nodes) {
    const node = nodes.get(layer.name);
    if (!node || skipped.has(layer.name)) continue;
    if (layer.op.kind === "batchNorm" && isKind(node, "affine") && !factors.has(layer.name))
      affine.add(layer.name);
    if (!folded.has(layer.name) && !isKind(node, "input")) {
      const { value, reading } = afterInserted.get(layer.name) ?? node;
      if (value === undefined) folded.add(layer.name);
      else {
        values.set(layer.name, value);
        const blocks = foreign.blocks.get(value);
        if (reading || blocks) readings.set(value, { ...reading, ...(blocks ? { blocks } : {}) });
      }
    }
    constants.set(layer.name, withAbsentBias(layer, node, products.get(layer.name) ?? node.constants));
    if (node.roundings) roundings.set(layer.name, node.roundings);
  }
  const outputs = foreign.outputs.flatMap((output) => matchOutput(graph, foreign, walked, output) ?? []);
  const [first] = outputs;
  if (!first) throw noResult(foreign, subject);
  const needed = ancestors(graph, ...outputs.map(({ layer }) => layer));
  const differences = [
    ...inputDifferences(graph, foreign.preprocess),
    ...ownFindings(graph, walked),
    ...gateDifferences(graph, nodes, skipped),
  ];
  const order = new Map(graph.nodes.map(({ name }, index) => [name, index]));
  return {
    spec: graph.spec,
    graph,
    values,
    readings,
    preprocess: isIdentity(foreign.preprocess) ? undefined : foreign.preprocess,
    folded,
    absorbed,
    affine,
    outputs,
    constants,
    factors,
    sharedBiases: sharedBiases(walked),
    roundings,
    differences: oneToALayer(differences.filter(({ layer }) => needed.has(layer))).sort(
      (a, b) => (order.get(a.layer) ?? 0) - (order.get(b.layer) ?? 0),
    ),
    computed: foreign.computed,
    quantised: quantisedAt(graph, foreign, walked, first.layer),
  };
}

function sharedBiases({ nodes, absorbed }: Walk): ReadonlyMap<string, SharedBias> {
  const sums = new Map<StoredTensor, string[]>();
  for (const [layer, { sharedBias }] of nodes)
    if (sharedBias && !absorbed.has(layer)) sums.set(sharedBias, [...(sums.get(sharedBias) ?? []), layer]);
  return new Map(
    [...sums].flatMap(([sum, layers]) => layers.map((layer) => [layer, { layers, sum }] as const)),
  );
}

/** @param result the layer to name if the activation is not a layer's output */
function quantisedAt(
  graph: LayerGraph,
  { quantiser }: ForeignGraph,
  { nodes }: Walk,
  result: string,
): Difference | undefined {
  if (!quantiser) return undefined;
  const { opType, of } = quantiser;
  const layer = graph.nodes.find(({ name }) => of !== undefined && nodes.get(name) === of);
  return difference(
    layer ?? { name: result },
    `${opType} after it`,
    "values that are not rounded to integers",
  );
}

/** Merges several differences at one layer into one. */
function oneToALayer(differences: readonly Difference[]): Difference[] {
  const byLayer = new Map<string, Difference>();
  for (const each of differences) {
    const other = byLayer.get(each.layer);
    byLayer.set(
      each.layer,
      other
        ? difference(
            { name: each.layer, ...(other.stream === undefined ? {} : { stream: other.stream }) },
            `${other.found}, and ${each.found}`,
            `${other.expected}, and ${each.expected}`,
          )
        : each,
    );
  }
  return [...byLayer.values()];
}

/** The constants of a layer that has a bias. If the file omits the bias, it is zeros, the operators' default. */
function withAbsentBias(layer: LayerNode, { op }: ForeignNode, constants: Constants): Constants {
  if (constants.bias || layer.parameters.bias === undefined || !constants.weight) return constants;
  const channels = op.kind === "conv" ? op.outChannels : op.kind === "linear" ? op.outFeatures : undefined;
  return channels === undefined
    ? constants
    : { ...constants, bias: { dtype: "float32", shape: [channels], data: new Float32Array(channels) } };
}

/**
 * A layer that is missing because nothing in the file would read it is not reported beside the missing reader: a gate
 * without its product, a shortcut without its sum. Nor is a sum without any of its products beside their gates.
 */
function ownFindings(graph: LayerGraph, { differences, nodes, skipped }: Walk): readonly Difference[] {
  const deviating = new Set(differences.map(({ layer }) => layer));
  const unread = unreadLayers(
    graph,
    (layer) => !nodes.has(layer) || skipped.has(layer),
    (reader) => nodes.has(reader) && deviating.has(reader),
  );
  const inputs = new Map(graph.nodes.map((node) => [node.name, node.inputs]));
  const isOff = (layer: string): boolean => deviating.has(layer) && !unread.has(layer);
  const isLostWithGate = (layer: string): boolean => unread.has(layer) && !!inputs.get(layer)?.some(isOff);
  const ofGates = graph.nodes.filter(({ op, inputs }) => op.kind === "add" && inputs.every(isLostWithGate));
  const consequences = new Set([...unread, ...ofGates.map(({ name }) => name)]);
  return differences.filter(({ layer }) => !consequences.has(layer));
}

/** Operations that a file may apply to a layer before the output, which still counts as that layer. */
export type OutputOperation =
  | { readonly kind: "l2Normalize"; readonly floors: readonly NormFloor[] }
  | { readonly kind: "softmax" }
  | { readonly kind: "sigmoid" }
  | { readonly kind: "flatten" };

/** An output of a file: its layer, and the operations applied to it. */
export interface MatchedOutput {
  /** The output's name in the file. */
  readonly name: string;
  /** If several layers lead to the output, the last of them. */
  readonly layer: string;
  /** Operators between the layer and the output, such as a division by the L2 norm. */
  readonly tail: readonly string[];
  /** The one part by which the tail is not a division by the L2 norm. */
  readonly part?: string;
  /** The meaning of the tail; undefined if part of it has no known meaning. */
  readonly operations: readonly OutputOperation[] | undefined;
}

/** Layers with weights: if an output depends on one that was not matched, the network's end was not found. */
export const INNER: ReadonlySet<string> = new Set(["conv", "linear"]);

/**
 * The layer of an output, or the nearest layer that it is computed from. If layers with weights separate it from
 * everything that was found, it represents the network's result, which then is missing. Undefined if no layer leads to
 * it.
 */
function matchOutput(
  graph: LayerGraph,
  { nodes: foreign }: ForeignGraph,
  { nodes, skipped, absorbed }: Walk,
  { name, node: output, reading }: ForeignGraph["outputs"][number],
): MatchedOutput | undefined {
  const layers = new Map<ForeignNode, string>();
  const { features, logits, probabilities, evaluation } = graph.outputs;
  const evaluated = graph.outputs[evaluation] ?? features;
  for (const { name: layer } of graph.nodes) {
    const node = nodes.get(layer);
    if (!node || absorbed.has(layer)) continue;
    const earlier = layers.get(node);
    // If the file lacks a final activation, its output still represents the layer of the activation.
    const isResult = (name: string): boolean => [features, logits, probabilities].includes(name);
    const isFinal = isResult(layer) && (earlier === undefined || !isResult(earlier));
    if (!skipped.has(layer) || isFinal) layers.set(node, layer);
  }
  const path = output && pathTo(output, layers);
  if (!path || path.ends.size === 0) return undefined;
  const order = graph.nodes.map(({ name: layer }) => layer);
  const nearest = [...path.ends].sort((a, b) => order.indexOf(b) - order.indexOf(a))[0] ?? evaluated;
  const tail = foreign.filter((node) => path.between.has(node));
  const isLost = tail.some(({ op }) => INNER.has(op.kind));
  const isQuantised = reading?.quantised !== undefined;
  const part = differingPart(tail, "l2Normalize");
  return {
    name,
    layer: isLost ? evaluated : nearest,
    tail: [...tail.map(nameOfOperator), ...(isQuantised ? ["QuantizeLinear"] : [])],
    ...(part === undefined ? {} : { part }),
    operations: isLost || isQuantised || path.ends.size > 1 ? undefined : meaningOf(tail),
  };
}

/** The nodes between an output and the layers that lead to it. */
function pathTo(
  output: ForeignNode,
  layers: ReadonlyMap<ForeignNode, string>,
): { readonly between: ReadonlySet<ForeignNode>; readonly ends: ReadonlySet<string> } {
  const between = new Set<ForeignNode>();
  const ends = new Set<string>();
  const pending = [output];
  for (let node = pending.pop(); node; node = pending.pop()) {
    const layer = layers.get(node);
    if (layer !== undefined) ends.add(layer);
    else if (!between.has(node)) {
      between.add(node);
      pending.push(...node.inputs);
    }
  }
  return { between, ends };
}

/** A chain of operators of one input that all have a known meaning. */
function meaningOf(tail: readonly ForeignNode[]): readonly OutputOperation[] | undefined {
  const operations = tail.map(operationOf);
  const known = operations.flatMap((operation) => operation ?? []);
  return known.length === tail.length ? known : undefined;
}

function operationOf(node: ForeignNode): OutputOperation | undefined {
  // A product or sum that the operator absorbed is not part of its meaning.
  if (Object.keys(node.constants).length > 0) return undefined;
  const { op } = node;
  if (isKind(node, "l2Normalize")) return { kind: "l2Normalize", floors: node.op.floors };
  if (op.kind === "softmax" || op.kind === "sigmoid" || op.kind === "flatten") return { kind: op.kind };
  return undefined;
}

function nameOfOperator(node: ForeignNode): string {
  return node.op.kind === "other" ? node.op.opType : node.op.kind;
}

/** Graphs that are not an OSNet, and their description. */

function notAnOsnet({ census, nodes }: ForeignGraph, subject: string): InputError {
  const count = (opType: string): number => census.get(opType) ?? 0;
  const quantised = ["QLinearConv", "ConvInteger", "MatMulInteger"].filter((opType) => count(opType) > 0);
  const list = ["Conv", ...quantised, "Sigmoid", "MatMul"].filter(
    (type) => type !== "MatMul" || count(type) > 0,
  );
  const gates = nodes.filter((node) => isKind(node, "scale")).length;
  const undecided = count("If");
  const computed = nodes.filter(({ op }) => op.kind === "other" && op.opType === "Conv").length;
  return new InputError({
    code: "unsupported",
    subject,
    found: `${quantised.length > 0 ? "a quantised network" : "another network"} of ${list.map((type) => `${count(type)} ${type}`).join(", ")}${computed > 0 ? ` (${computed} with weights that are computed, or of another form)` : ""} and ${gates} gated values${undecided > 0 ? `, with ${undecided} data-dependent If nodes` : ""}`,
    expected: "an OSNet, whose six blocks of T streams have 6 × T gates (osnet_x1_0: 187 Conv, 24 Sigmoid)",
    remedy:
      quantised.length > 0
        ? "use the float model it was made from"
        : undecided > 0
          ? "export it with a fixed image size and batch"
          : computed > 0
            ? "fold its constants first, for example with onnxsim"
            : "use an OSNet model",
  });
}

function noResult({ outputs }: ForeignGraph, subject: string): InputError {
  return new InputError({
    code: "unsupported",
    subject,
    found: `outputs ${outputs.map(({ name }) => name).join(", ")}, none of which is a layer of the network`,
    expected: "an embedding or logits among them",
    remedy: "export the model with its embedding as the output",
  });
}
