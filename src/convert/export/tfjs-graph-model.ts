import type { LayerGraph, LayerNode, Op, ParameterRole } from "../../arch/graph.js";
import { outputShapes } from "../../arch/shapes.js";
import { InputError } from "../../core/errors.js";
import type { Shape, StateDict, Tensor } from "../../core/tensor.js";
import type {
  QuantizedDType,
  TfjsDType,
  TfjsGraphModel,
  TfjsNode,
  TfjsShape,
  TfjsTensorInfo,
  TfjsWeight,
} from "../formats/tfjs/model.js";
import { modelMetadata } from "./metadata.js";
import { type WrittenWeights, writtenWeights } from "./negligible.js";
import {
  DEFAULT_SIZE,
  IMAGENET,
  type ModelOptions,
  type PixelOrder,
  type ResolvedModelOptions,
  resolveModelOptions,
} from "./options.js";
import { isLegalNodeName, NORMALIZED_NODE, nodeName, storedWeight, toTensorFlow } from "./tfjs-names.js";
import {
  dtype,
  lowerL2,
  lowerOperation,
  perChannel,
  scalar,
  type TfjsFragment,
  tfNode,
  wholeNumbers,
} from "./tfjs-operators.js";
import { type NodeWeights, neededNetwork } from "./weights.js";

const CHANNELS = 3;

/**
 * Writes a network as a TensorFlow graph for tfjs: input `images` float32 [batch, height, width, 3], normalised as in
 * PyTorch or raw with `preprocess`, first output `features` float32 [batch, D]; gate vectors are [batch, 1, 1, C].
 *
 * Every layer that the outputs need is the node of its name (`nodeName`), except for merged ones: a layer with a folded
 * batch norm, and with `fuse` a layer whose ReLU is computed with it, whose node has the ReLU's name. Results have
 * their names in the signature. Weights are constants named as in the state dict, or `….folded.weight`, in TensorFlow's
 * axis order; a block has its gate's weights once, read by all streams.
 *
 * @throws InputError (`argument`, `tensor`, `state-dict`) for options or weights that do not fit the network.
 */
export function lowerToTfjs(
  graph: LayerGraph,
  stateDict: StateDict,
  options: TfjsOptions = {},
): TfjsGraphModel {
  const resolved = resolveTfjsOptions(graph, options);
  const { fold, fuse, results, inputName, quantize, keepDenormals } = resolved;
  const kept = new Set(results.map(({ layer }) => layer));
  const network = neededNetwork(graph, fold, results);
  const shapes = outputShapes(graph, imageShape(resolved));
  const layers = fuse ? fuseRelu(network, kept) : network.nodes.map((node) => ({ node }));
  // Formats with fewer bits cannot represent such small numbers anyway.
  const written = writtenWeights(network, stateDict, keepDenormals || quantize !== undefined);
  const lowered = lowerLayers(layers, written, shapes, resolved);
  const tails = results.map(({ name, layer, floors }) =>
    floors ? lowerL2(nodeName(`${name}.normalized`), nodeName(layer), floors) : undefined,
  );
  const nodes = [...lowered.nodes, ...tails.flatMap((tail) => tail?.nodes ?? [])];
  const constants = new Map(lowered.constants);
  for (const tail of tails)
    for (const [name, tensor] of tail?.constants ?? []) constants.set(name, { tensor });
  expectUnique([inputName, ...nodes.map(({ name }) => name), ...constants.keys()], "node");
  const renamed = results.filter(({ name, layer }) => name !== nodeName(layer)).map(({ name }) => name);
  expectUnique([...renamed, inputName, ...nodes.map(({ name }) => name)], "output");
  return {
    format: "graph-model",
    generatedBy: "osnet-convert",
    convertedBy: "osnet-convert",
    metadata: modelMetadata(graph.spec, resolved, written.zeroed),
    signature: {
      inputs: new Map([[inputName, tensorInfo(inputName, declaredInput(resolved))]]),
      outputs: new Map(
        results.map(({ name, layer, floors }) => [
          name,
          tensorInfo(
            nodeName(floors ? `${name}.normalized` : layer),
            declaredOutput(shapes.get(layer) ?? [], resolved),
          ),
        ]),
      ),
    },
    nodes: [
      ...Array.from(constants, ([name, { tensor }]) => constantNode(name, tensor)),
      placeholder(inputName, declaredInput(resolved)),
      ...nodes,
    ],
    weights: constants,
  };
}

function lowerLayers(
  layers: readonly FusedLayer[],
  written: WrittenWeights,
  shapes: ReadonlyMap<string, Shape>,
  { fuse, inputName, size, preprocess, quantize }: ResolvedTfjsOptions,
): { readonly nodes: readonly TfjsNode[]; readonly constants: ReadonlyMap<string, TfjsWeight> } {
  const before = preprocess && lowerPreprocess(inputName, preprocess);
  const nodes: TfjsNode[] = [...(before?.nodes ?? [])];
  const constants = new Map<string, TfjsWeight>();
  const addConstants = (tensors: TfjsFragment["constants"] = new Map()): void => {
    for (const [name, tensor] of tensors) constants.set(name, { tensor });
  };
  addConstants(before?.constants);
  const images = preprocess ? NORMALIZED_NODE : inputName;
  const input = layers.find(({ node }) => node.op.kind === "input")?.node.name;
  for (const { node, relu } of layers) {
    const fragment = lowerOperation(node.op, {
      name: nodeName(relu ?? node.name),
      inputs: node.inputs.map((name) => (name === input ? images : nodeName(name))),
      weights: addWeights(node, written.of(node), constants, quantize),
      shape: shapes.get(node.name) ?? [],
      inputShape: size === "dynamic" ? undefined : shapes.get(node.inputs[0] ?? ""),
      fuse,
      relu: relu !== undefined,
    });
    nodes.push(...fragment.nodes);
    addConstants(fragment.constants);
  }
  return { nodes, constants };
}

/** Adds a layer's weights to the constants, unless another stream did, and returns their names by role. */
function addWeights(
  node: LayerNode,
  weights: NodeWeights,
  constants: Map<string, TfjsWeight>,
  quantize: QuantizedDType | undefined,
): Readonly<Partial<Record<ParameterRole, string>>> {
  const names: Partial<Record<ParameterRole, string>> = {};
  for (const [key, { name, tensor }] of Object.entries(weights)) {
    const role = key as ParameterRole;
    names[role] = name;
    if (constants.has(name)) continue;
    constants.set(name, storedWeight(node.op, role, toTensorFlow(node.op, role, tensor), quantize));
  }
  return names;
}

const GRAPH_DTYPES = { float32: "DT_FLOAT", int32: "DT_INT32" } as const;

/** The value is in the weight files. The node only describes it, for tools that join the two. */
function constantNode(name: string, { shape, dtype: element }: Tensor<TfjsDType>): TfjsNode {
  const type = element === "int32" ? GRAPH_DTYPES.int32 : GRAPH_DTYPES.float32;
  const tensorShape = { dim: shape.map((size) => ({ size: String(size) })) };
  return {
    name,
    op: "Const",
    inputs: [],
    attributes: new Map([
      ["dtype", dtype(type)],
      ["value", { type: "other", value: { tensor: { dtype: type, tensorShape } } }],
    ]),
  };
}

function placeholder(name: string, shape: TfjsShape): TfjsNode {
  const { op, inputs } = tfNode(name, "Placeholder", []);
  const attributes = new Map([
    ["dtype", dtype("DT_FLOAT")],
    ["shape", { type: "shape", value: shape } as const],
  ]);
  return { name, op, inputs, attributes };
}

function tensorInfo(node: string, shape: TfjsShape): TfjsTensorInfo {
  return { name: `${node}:0`, dtype: "DT_FLOAT", shape };
}

/** Dynamic batch and image sizes are −1. */
function declaredInput({ batch, size }: ResolvedTfjsOptions): TfjsShape {
  const spatial = size === "dynamic" ? [-1, -1] : [size.height, size.width];
  return [batch === "dynamic" ? -1 : batch, ...spatial, CHANNELS];
}

/** Every result is pooled or flattened: NC, or [N, C, 1, 1], which is [N, 1, 1, C] here. */
function declaredOutput([, channels = 1, ...pixel]: Shape, { batch }: ResolvedTfjsOptions): TfjsShape {
  return [batch === "dynamic" ? -1 : batch, ...pixel, channels];
}

function imageShape({ size }: ResolvedTfjsOptions): Shape {
  const { height, width } = size === "dynamic" ? DEFAULT_SIZE : size;
  return [1, CHANNELS, height, width];
}

/** A chosen input or output name must not be any other node's. */
function expectUnique(names: readonly string[], what: string): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name))
      throw new InputError({
        code: "argument",
        subject: `${what} name`,
        found: `${JSON.stringify(name)}, which is already in use`,
        expected: "a unique name",
        remedy: "choose another",
      });
    seen.add(name);
  }
}

/** Options for writing a graph model; every field has a default. */
export interface TfjsOptions extends ModelOptions {
  /**
   * Whether a bias and a ReLU are fused with the convolution or linear layer before them. Faster; a layer with a fused
   * ReLU has no value of its own. Otherwise only standard TensorFlow operators are used. Default true.
   */
  readonly fuse?: boolean;
  /**
   * How to store the weights of convolutions and linear layers, to reduce the size of the files; tfjs computes in
   * float32. Biases and norms (3 % of all numbers) remain float32. Default: unchanged.
   */
  readonly quantize?: QuantizedDType;
}

/** Options with all defaults filled in, for one network. */
interface ResolvedTfjsOptions extends ResolvedModelOptions {
  readonly fuse: boolean;
  readonly quantize: QuantizedDType | undefined;
}

/**
 * Fills in the defaults.
 *
 * @throws InputError (`argument`) if a value cannot be used, or the network has no such output
 */
export function resolveTfjsOptions(graph: LayerGraph, options: TfjsOptions): ResolvedTfjsOptions {
  const { fuse = true, outputName, quantize } = options;
  const resolved = resolveModelOptions(graph, options);
  expectName("input name", resolved.inputName, isLegalNodeName(resolved.inputName));
  if (outputName !== undefined) expectName("output name", outputName, outputName !== "");
  return { ...resolved, fuse, quantize };
}

function expectName(subject: string, name: string, legal: boolean): void {
  if (legal) return;
  throw new InputError({
    code: "argument",
    subject,
    found: JSON.stringify(name),
    expected: "letters, digits, dots, hyphens and underscores",
    remedy: "choose another name",
  });
}

/**
 * Pixels [N, H, W, 3] from 0 to 255 to normalised images, (x / 255 − mean) / deviation in this order and in float32, as
 * in torchvision: the same bits if division is correctly rounded, as in WebAssembly.
 */
function lowerPreprocess(input: string, order: PixelOrder): TfjsFragment {
  const [rgb, scaled, centered] = ["images/rgb", "images/scaled", "images/centered"];
  const swap = order === "bgr";
  return {
    nodes: [
      ...(swap
        ? [tfNode(rgb, "ReverseV2", [input, "images/channel_axis"], { Tidx: dtype("DT_INT32") })]
        : []),
      tfNode(scaled, "RealDiv", [swap ? rgb : input, "images/white"]),
      tfNode(centered, "Sub", [scaled, "images/mean"]),
      tfNode(NORMALIZED_NODE, "RealDiv", [centered, "images/deviation"]),
    ],
    constants: new Map<string, Tensor<"float32" | "int32">>([
      ...(swap ? [["images/channel_axis", wholeNumbers(3)] as const] : []),
      ["images/white", scalar(IMAGENET.white)],
      ["images/mean", perChannel(IMAGENET.mean)],
      ["images/deviation", perChannel(IMAGENET.deviation)],
    ]),
  };
}

/** A layer to write, with its fused ReLU. */
interface FusedLayer {
  readonly node: LayerNode;
  /** Name of the ReLU merged into the node, which is the name of the resulting value. */
  readonly relu?: string;
}

/**
 * Merges every ReLU into the convolution or linear layer that only it reads, if that has a bias: tfjs computes the
 * three as one operation. The merged layer keeps its position, before anything that reads the ReLU.
 *
 * @param kept layers whose values are results of the model
 */
function fuseRelu({ nodes }: LayerGraph, kept: ReadonlySet<string>): readonly FusedLayer[] {
  const consumers = new Map<string, LayerNode[]>();
  for (const node of nodes)
    for (const input of node.inputs) consumers.set(input, [...(consumers.get(input) ?? []), node]);
  const merged = new Set<string>();
  const layers: FusedLayer[] = [];
  for (const node of nodes) {
    if (merged.has(node.name)) continue;
    const [only, ...others] = consumers.get(node.name) ?? [];
    const fusable = others.length === 0 && only?.op.kind === "relu" && hasBias(node.op);
    if (!fusable || !only || kept.has(node.name)) {
      layers.push({ node });
      continue;
    }
    merged.add(only.name);
    layers.push({ node, relu: only.name });
  }
  return layers;
}

function hasBias(op: Op): boolean {
  return op.kind === "linear" || (op.kind === "conv" && op.bias);
}

/**
 * The inverse, for reading every layer's value: a fused ReLU, or any other activation that another program has fused,
 * becomes a separate node after the node of the layer before it. Weights are unchanged.
 */
export function splitRelu(nodes: readonly TfjsNode[], { nodes: layers }: LayerGraph): readonly TfjsNode[] {
  const names = new Set(nodes.map(({ name }) => name));
  const sources = new Map(
    layers.flatMap(({ name, op, inputs: [source] }) =>
      op.kind === "relu" && source !== undefined ? [[nodeName(name), nodeName(source)] as const] : [],
    ),
  );
  return nodes.flatMap((node) => {
    const source = sources.get(node.name);
    const fused = node.attributes.get("fused_ops");
    const activation = fused?.type === "strings" ? (fused.value.at(-1) ?? "") : "";
    if (source === undefined || names.has(source) || fused?.type !== "strings" || !ALONE.has(activation))
      return node;
    const attributes = new Map(node.attributes);
    attributes.set("fused_ops", { type: "strings", value: fused.value.slice(0, -1) });
    const slope = node.attributes.get("leakyrelu_alpha");
    const own = tfNode(node.name, activation, [source]);
    const sloped =
      activation === "LeakyRelu" && slope ? new Map([...own.attributes, ["alpha", slope]]) : own.attributes;
    return [
      { ...node, name: source, attributes },
      { ...own, attributes: sloped },
    ];
  });
}

/** Activations with a single input that may be fused. */
const ALONE: ReadonlySet<string> = new Set(["Relu", "Relu6", "LeakyRelu", "Elu", "Sigmoid"]);
