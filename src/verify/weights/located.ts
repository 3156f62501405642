import { ancestors, type LayerGraph, type LayerNode, type Op, type ParameterRole } from "../../arch/index.js";
import { NORMALIZED } from "../../convert/export/onnx.js";
import type { ValueNames } from "../../convert/export/options.js";
import { splitRelu } from "../../convert/export/tfjs-graph-model.js";
import { kerasWeights } from "../../convert/export/tfjs-layers-model.js";
import { fromTensorFlow, kerasCall, nodeName, VALUE_NAMES } from "../../convert/export/tfjs-names.js";
import { foldBatchNorm } from "../../convert/export/weights.js";
import type { OnnxModel } from "../../convert/formats/onnx/model.js";
import { encodeTfjs } from "../../convert/formats/tfjs/codec.js";
import { nodeOf } from "../../convert/formats/tfjs/graph.js";
import type {
  StoredTensor,
  TfjsFiles,
  TfjsGraphModel,
  TfjsLayersModel,
  TfjsModel,
  TfjsNode,
  TfjsWeight,
} from "../../convert/formats/tfjs/model.js";
import { readTopology } from "../../convert/formats/tfjs/topology.js";
import type { GraphMatch } from "../../convert/import/match.js";
import type { TfjsMatch } from "../../convert/import/tfjs/translate.js";
import { InputError } from "../../core/errors.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { castFloat, type FloatDType, isDType, toReal } from "../../core/tensor-cast.js";
import type { QuantizationResult } from "../outcome/report.js";
import { refold } from "./expected.js";

/**
 * The layers of a network in a candidate of any format: found by structure, or by the names that osnet-convert writes.
 * Everything that reads, judges or compares a candidate's layer uses this.
 */
export interface Located {
  /** The network. */
  readonly graph: LayerGraph;
  /** How the layers were found. */
  readonly by: "name" | "structure";
  /** Each layer that the candidate computes, in network order, with the name of its value as the runtime has it. */
  readonly values: ReadonlyMap<string, string>;
  /** Layers that the candidate computes only as part of the next one: no value is their output. */
  readonly folded: ReadonlySet<string>;
  /** Convolutions and linear layers whose constants are products with those of the batch norm after them. */
  readonly absorbed: ReadonlySet<string>;
  /** The constants of a layer. */
  readonly constants: ConstantsOf;
  /**
   * The structural match, if the structure is this network's; always there if the layers were found by structure.
   */
  readonly match?: Match | undefined;
  /** Whether its constants are used as they are, also in float64. */
  readonly isExact?: boolean;
  /** The reason why the structure does not match although the names do. */
  readonly unmatched?: string | undefined;
}

/**
 * A layer's constants as a candidate has them, in PyTorch's layout: those that its own operators read, so that a right tensor at
 * the wrong layer is a fault. A layer that absorbed a batch norm has none; the batch norm has the products of both.
 */
type ConstantsOf = (
  node: LayerNode,
  roles: readonly ParameterRole[],
) => ReadonlyMap<ParameterRole, StoredTensor>;

/**
 * A checkpoint is located by the names of its parameters. Where it or the one that it is compared with was imported from a model with folded
 * batch norms, the products of layers and batch norms are compared.
 *
 * @param reference the checkpoint that it is compared with
 */
export function locatedInCheckpoint(
  graph: LayerGraph,
  stateDict: StateDict,
  reference: StateDict = stateDict,
): Located {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const products = new Map<string, ReadonlyMap<ParameterRole, StoredTensor>>();
  const absorbed = new Set<string>();
  for (const [from, norm] of foldedNorms(graph)) {
    const layer = layers.get(from);
    const weight = stateDict.get(layer?.parameters.weight ?? "");
    if (!layer || !weight) continue;
    const isOwn = isShift(norm, stateDict);
    if (!isOwn && !isShift(norm, reference)) continue;
    absorbed.add(layer.name);
    const product = new Map<ParameterRole, StoredTensor>();
    for (const [role, { values }] of refold(layer, norm, stateDict)) {
      const shape = role === "weight" ? weight.shape : [values.length];
      product.set(role, { dtype: "float32", shape, data: values });
    }
    // What is only shifted is compared as it is stored, which may be in half precision.
    if (isOwn) product.set("weight", weight);
    const biases = [layer.parameters.bias, norm.parameters.bias]
      .flatMap((path) => stateDict.get(path ?? "") ?? [])
      .filter((bias) => toReal(bias, norm.name).data.some((value) => value !== 0));
    if (isOwn && biases.length === 1) product.set("bias", biases[0] as Tensor);
    products.set(norm.name, product);
  }
  return {
    graph,
    by: "name",
    isExact: true,
    values: new Map(graph.nodes.flatMap(({ name }) => (absorbed.has(name) ? [] : [[name, name] as const]))),
    folded: absorbed,
    absorbed,
    constants: ({ name, parameters }, roles) =>
      constantsBy(roles, (role) => products.get(name)?.get(role) ?? stateDict.get(parameters[role] ?? "")),
  };
}

/** Whether a checkpoint was imported from a model with folded batch norms, whose products it has in place of their factors. */
export function isImported(graph: LayerGraph, stateDict: StateDict): boolean {
  return foldedNorms(graph).some(([, norm]) => isShift(norm, stateDict));
}

/** The same of a model that was written from such a checkpoint with its batch norms kept. */
export function hasShifts({ graph, absorbed, constants }: Located): boolean {
  return foldedNorms(graph).some(([layer, norm]) => {
    if (absorbed.has(layer)) return false;
    const found = constants(norm, Object.keys(norm.parameters) as ParameterRole[]);
    return isShiftOf(norm, (role) => found.get(role));
  });
}

/** The batch norms that can be folded, each after the name of the layer before it. */
function foldedNorms(graph: LayerGraph): readonly (readonly [layer: string, norm: LayerNode])[] {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  return foldBatchNorm(graph).nodes.flatMap(({ foldedBatchNorm, name }) => {
    const norm = layers.get(name);
    return foldedBatchNorm && norm ? [[foldedBatchNorm.from, norm] as const] : [];
  });
}

/** Whether a batch norm only adds its bias, as in a checkpoint imported from a model into whose weights it was folded. */
export function isShift(norm: LayerNode, stateDict: StateDict): boolean {
  return isShiftOf(norm, (role) => stateDict.get(norm.parameters[role] ?? ""));
}

function isShiftOf({ op }: LayerNode, constant: (role: ParameterRole) => Tensor | undefined): boolean {
  const variance = constant("runningVar");
  if (op.kind !== "batchNorm" || !variance) return false;
  const every = (role: ParameterRole, holds: (value: number) => boolean): boolean => {
    const tensor = constant(role);
    return tensor !== undefined && toReal(tensor, role).data.every(holds);
  };
  // σ² = 1 − ε, rounded to its type.
  const exact: Tensor = { dtype: "float64", shape: [1], data: Float64Array.of(1 - op.epsilon) };
  const [shown = 1] = toReal(castFloat(exact, variance.dtype as FloatDType, "variance"), "variance").data;
  return (
    every("weight", (value) => value === 1) &&
    every("runningMean", (value) => value === 0) &&
    every("runningVar", (value) => Math.abs(value - shown) <= 2 ** -24)
  );
}

/** A structural match. For TensorFlow.js, with the layout of images. */
type Match = GraphMatch & Partial<Pick<TfjsMatch, "layout">>;

/**
 * Finds a network's layers in a model. If a file states its architecture, as osnet-convert's do, they are found by
 * name, unless another tool has rewritten the file; otherwise by structure.
 *
 * @param find matches the model's graph with the network's
 * @param names of a file that states its architecture
 * @param isRewritten whether names are unreliable, according to the structure: functions or branches were inlined, or
 * onnxruntime has inserted its own operators
 * @throws InputError (`unsupported`, `format`) if a file without such names is not an OSNet
 */
export function locate(
  graph: LayerGraph,
  find: (graph: LayerGraph) => Match,
  names: Names | undefined,
  isRewritten: (match: Match) => boolean = () => false,
): Located {
  if (!names) return byStructure(find(graph));
  try {
    const match = find(graph);
    const { differences, outputs, values } = match;
    const isNamed = (layer: string, value: string | undefined): boolean =>
      value === names.of(layer) || value === names.normalized;
    const kept = [...values].filter(([layer, value]) => isNamed(layer, value)).length;
    // A simplifier that removes the last Identity of osnet-convert's file leaves the output without its
    // layer's name.
    const isOwn = outputs.some(({ layer }) => isNamed(layer, values.get(layer))) && 2 * kept > values.size;
    if (isRewritten(match) || (!isOwn && differences.length === 0)) return byStructure(match);
    return byName(graph, names, { match });
  } catch (error) {
    if (error instanceof InputError) return byName(graph, names, { unmatched: error.problem.found });
    throw error;
  }
}

function byStructure(match: Match): Located {
  const { graph, values, folded, absorbed } = match;
  return { graph, by: "structure", values, folded, absorbed, constants: constantsIn(match), match };
}

function constantsIn({ constants }: GraphMatch): ConstantsOf {
  return ({ name }) => new Map(Object.entries(constants.get(name) ?? {}) as [ParameterRole, StoredTensor][]);
}

/** The values of a model written by osnet-convert. */
export interface Names extends ValueNames {
  readonly has: (value: string) => boolean;
  /** Whether a value is computed by a convolution or matrix product, before or after its bias. */
  readonly isProduct: (value: string) => boolean;
  readonly constants: ConstantsOf;
  /** Whether the constants read by a layer's own operator are all that the layer has; by default they are. */
  readonly readsAll?: (node: LayerNode, roles: readonly ParameterRole[]) => boolean;
}

/**
 * The layers of a model that this package wrote, by exact name. A layer is folded if what the batch norm after it reads is nowhere
 * in the model, and the batch norm's own value is a convolution's or a matrix product's. A layer that is merely missing is not
 * folded.
 */
export function byName(
  graph: LayerGraph,
  names: Names,
  { match, unmatched }: Pick<Located, "match" | "unmatched"> = {},
): Located {
  const folded = new Set(
    graph.nodes.flatMap(({ name, op, inputs: [source] }) =>
      op.kind === "batchNorm" &&
      source !== undefined &&
      !names.has(names.of(source)) &&
      (names.isProduct(names.of(name)) || match?.absorbed.has(source))
        ? [source]
        : [],
    ),
  );
  const structural = match && constantsIn(match);
  // A name may belong to a copy of the layer that nothing reads.
  const isElsewhere = (layer: string): boolean => {
    if (match?.differences.length !== 0) return false;
    const [value, named] = [match.values.get(layer), names.of(layer)];
    return value === undefined ? match.folded.has(layer) && names.has(named) : value !== named;
  };
  return {
    graph,
    by: "name",
    values: new Map(
      graph.nodes.flatMap(({ name, op }) => {
        const value = op.kind === "input" ? names.normalized : names.of(name);
        return names.has(value) ? [[name, value] as const] : [];
      }),
    ),
    folded,
    absorbed: folded,
    constants(node, roles) {
      if (structural && isElsewhere(node.name)) return structural(node, roles);
      const own = names.constants(node, roles);
      if (!structural || (own.size === roles.length && names.readsAll?.(node, roles) !== false)) return own;
      // If a constant is passed on to a layer, or several nodes compute the layer, the structure decides
      // which constant is read, not its name.
      const found = structural(node, roles);
      return roles.every((role) => found.has(role) || !own.has(role)) ? found : new Map([...own, ...found]);
    },
    match,
    unmatched,
  };
}

function constantsBy(
  roles: readonly ParameterRole[],
  find: (role: ParameterRole, index: number) => StoredTensor | undefined,
): ReadonlyMap<ParameterRole, StoredTensor> {
  return new Map(
    roles.flatMap((role, index) => {
      const tensor = find(role, index);
      return tensor ? [[role, tensor] as const] : [];
    }),
  );
}

/** In an ONNX file, values are named after their layers. */
export function onnxNames({ graph: { nodes, initializers } }: OnnxModel): Names {
  const writers = new Map(nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
  const readBy = (value: string): readonly StoredTensor[] =>
    (writers.get(value)?.inputs ?? []).flatMap((name) => initializers.get(name) ?? []);
  return {
    of: (layer) => layer,
    normalized: NORMALIZED,
    has: (value) => writers.has(value),
    isProduct: (value) => ["Conv", "ConvTranspose", "Gemm"].includes(writers.get(value)?.opType ?? ""),
    // If a layer is several nodes, its constants are found by the names of its parameters.
    constants(node, roles) {
      const { opType } = writers.get(node.name) ?? {};
      // A transposed convolution has another layout, which only the structure interprets.
      if (opType === "ConvTranspose") return new Map();
      const read = readBy(node.name);
      return constantsBy(roles, (role, index) =>
        read.length === roles.length ? read[index] : initializers.get(node.parameters[role] ?? ""),
      );
    },
    readsAll: ({ name }, roles) => readBy(name).length === roles.length,
  };
}

/** The names of a TensorFlow.js model, and a way to read every value. */
interface TfjsNames extends Names {
  /** The value that images are fed to. */
  readonly input: string | undefined;
  /**
   * A copy of the graph in which fused ReLUs are separate operators, so that the values before them can be read.
   */
  readonly tapped: (files: TfjsFiles) => TfjsFiles;
}

/**
 * A graph model's values are named after its nodes; a layers model's after calls of layers, of which a gate has one per
 * stream.
 *
 * @param graph the network, whose ReLUs a graph model may fuse with the layers before them
 * @throws InputError (`format`, `unsupported`) if the topology of a layers model is malformed
 */
export function tfjsNames(model: TfjsModel, graph: LayerGraph, subject: string): TfjsNames {
  return model.format === "graph-model" ? graphNames(model, graph) : layersNames(model, graph, subject);
}

const GRAPH_PRODUCTS: ReadonlySet<string> = new Set([
  "_FusedConv2D",
  "FusedDepthwiseConv2dNative",
  "_FusedMatMul",
  "Conv2D",
  "DepthwiseConv2dNative",
  "MatMul",
]);

function graphNames(model: TfjsGraphModel, graph: LayerGraph): TfjsNames {
  const split = { ...model, nodes: splitRelu(model.nodes, graph) };
  const nodes = new Map(split.nodes.map((node) => [node.name, node]));
  const isProduct = (name: string): boolean => {
    const node = nodes.get(name);
    const product = node?.op === "BiasAdd" ? nodes.get(nodeOf(node.inputs[0] ?? "")) : node;
    return product !== undefined && GRAPH_PRODUCTS.has(product.op);
  };
  return {
    ...VALUE_NAMES[model.format],
    input: inputNode(model),
    has: (value) => nodes.has(value),
    isProduct,
    constants: graphConstants(split, graph),
    tapped: () => encodeTfjs(split),
  };
}

/** The input of the signature, or the only placeholder. */
function inputNode({ signature, nodes }: TfjsGraphModel): string | undefined {
  const [declared] = signature.inputs.values();
  return declared ? nodeOf(declared.name) : nodes.find(({ op }: TfjsNode) => op === "Placeholder")?.name;
}

const LAYERS_PRODUCTS: ReadonlySet<string> = new Set(["Conv2D", "DepthwiseConv2D", "Dense"]);

function layersNames(model: TfjsLayersModel, graph: LayerGraph, subject: string): TfjsNames {
  const { calls } = readTopology(model, subject);
  const classes = new Map(calls.map(({ value, className }) => [value, className]));
  return {
    ...VALUE_NAMES[model.format],
    input: calls.find(({ className }) => className === "InputLayer")?.value,
    has: (value) => classes.has(value),
    isProduct: (value) => LAYERS_PRODUCTS.has(classes.get(value) ?? ""),
    constants: layersConstants(model, graph),
    tapped: (files) => files,
  };
}

/** @param model its ReLUs apart from the layers before them */
function graphConstants({ nodes, weights }: TfjsGraphModel, graph: LayerGraph): ConstantsOf {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const owned = nodesByLayer(nodes);
  /**
   * The layer whose operation determines the layout of weights: for a folded batch norm, the layer that it absorbed.
   */
  const ownerOf = (node: LayerNode): LayerNode => {
    const source = layers.get(node.inputs[0] ?? "");
    const absorbs = node.op.kind === "batchNorm" && source && !owned.has(nodeName(source.name));
    return absorbs ? source : node;
  };
  return (node, roles) => {
    const read = (owned.get(nodeName(node.name)) ?? [])
      .flatMap(({ inputs }) => inputs.map(nodeOf))
      // Axes, shapes and epsilons belong to the layer's operators and are not parameters.
      .filter((name) => !name.includes("/") && weights.get(name)?.tensor.dtype === "float32");
    const { op } = ownerOf(node);
    return constantsBy(roles, (role, index) =>
      constantOf(role, op, weights.get(nameOf(node, role, read) ?? read[index] ?? "")),
    );
  };
}

/**
 * The constant with the parameter's own name, if the layer reads it: layers of several nodes read their constants in any order.
 */
function nameOf(node: LayerNode, role: ParameterRole, read: readonly string[]): string | undefined {
  const path = node.parameters[role];
  return path !== undefined && read.includes(path) ? path : undefined;
}

/** Nodes by the layer they belong to: the one of its name, and the steps `NAME/…` before it. */
function nodesByLayer(nodes: readonly TfjsNode[]): ReadonlyMap<string, readonly TfjsNode[]> {
  const byLayer = new Map<string, TfjsNode[]>();
  for (const node of nodes) {
    const [layer = ""] = node.name.split("/", 1);
    byLayer.set(layer, [...(byLayer.get(layer) ?? []), node]);
  }
  return byLayer;
}

function layersConstants({ weights }: TfjsLayersModel, graph: LayerGraph): ConstantsOf {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  return (node, roles) => {
    const { layer } = kerasCall(node.name);
    const source = layers.get(node.inputs[0] ?? "");
    const absorbed = node.op.kind === "batchNorm" && !weights.has(`${layer}/gamma`) ? source : undefined;
    const { op } = absorbed ?? node;
    const names = kerasWeights(op);
    return constantsBy(roles, (role) => constantOf(role, op, weights.get(`${layer}/${names[role]}`)));
  };
}

/** An operation's weight by role, in PyTorch's layout; undefined if it is not a weight. */
function constantOf(role: ParameterRole, op: Op, weight: TfjsWeight | undefined): StoredTensor | undefined {
  const tensor = weight?.tensor as Tensor | undefined;
  if (!tensor || !isDType(tensor, "float32")) return undefined;
  const { tensor: _, ...storage } = weight ?? {};
  return { ...fromTensorFlow(op, role, tensor), ...storage };
}

/** The quantised weights of a model; undefined if there are none. */
export function quantizedWeights({
  weights,
}: TfjsModel): Pick<QuantizationResult, "dtypes" | "tensors"> | undefined {
  const stored = [...weights.values()].flatMap((weight) => weight.stored ?? []);
  const dtypes = [...new Set(stored.map(({ dtype }) => dtype))];
  return stored.length > 0 ? { dtypes, tensors: stored.length } : undefined;
}

/**
 * A checkpoint with the values stored in a model's file instead of its own. A layer with a folded batch norm keeps the
 * product of both, and the batch norm only adds the bias: γ = 1, μ = 0, σ² = 1 − ε. Values that the model lacks are
 * unchanged, and reported as faults of the weights.
 *
 * @param results layers of the model's outputs
 */
export function storedStateDict(
  { graph, by, constants: find, absorbed, match }: Located,
  stateDict: StateDict,
  results: readonly string[],
): StateDict {
  const needed = ancestors(graph, ...results);
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const stored = new Map(stateDict);
  const set = (path: string | undefined, tensor: Tensor | undefined): void => {
    if (path !== undefined && tensor) stored.set(path, tensor);
  };
  for (const node of graph.nodes) {
    if (!needed.has(node.name) || absorbed.has(node.name)) continue;
    const source = nodes.get(node.inputs[0] ?? "");
    if (node.op.kind === "batchNorm" && source && absorbed.has(source.name)) {
      const found = find(node, ["weight", "bias"]);
      set(source.parameters.weight, found.get("weight"));
      for (const [path, tensor] of neutralNorm(source, node, found.get("bias"), node.op.epsilon))
        set(path, tensor);
      continue;
    }
    if (node.op.kind === "batchNorm" && by === "structure" && match?.affine.has(node.name)) {
      const found = find(node, ["weight", "bias"]);
      for (const [path, tensor] of neutralNorm(undefined, node, found.get("bias"), node.op.epsilon))
        set(path, tensor);
      set(node.parameters.weight, found.get("weight"));
      continue;
    }
    const roles = Object.keys(node.parameters) as ParameterRole[];
    for (const [role, tensor] of find(node, roles)) set(node.parameters[role], tensor);
  }
  return stored;
}

/** Parameters with which a batch norm only adds a bias, and its layer has none. */
function neutralNorm(
  layer: LayerNode | undefined,
  { parameters }: LayerNode,
  bias: Tensor | undefined,
  epsilon: number,
): readonly (readonly [path: string | undefined, tensor: Tensor | undefined])[] {
  const length = bias?.data.length ?? 0;
  const filled = (value: number): Tensor | undefined =>
    bias && { dtype: "float64", shape: [length], data: new Float64Array(length).fill(value) };
  return [
    [layer?.parameters.bias, filled(0)],
    [parameters.weight, filled(1)],
    [parameters.bias, bias],
    [parameters.runningMean, filled(0)],
    [parameters.runningVar, filled(1 - epsilon)],
  ];
}
