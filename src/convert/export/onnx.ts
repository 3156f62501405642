import type { LayerGraph, LayerNode } from "../../arch/graph.js";
import { outputShapes } from "../../arch/shapes.js";
import { variantOf } from "../../arch/variants.js";
import { InputError } from "../../core/errors.js";
import type { Shape, StateDict, Tensor } from "../../core/tensor.js";
import {
  int,
  type OnnxDimension,
  type OnnxModel,
  type OnnxNode,
  type OnnxValue,
  onnxNode,
} from "../formats/onnx/model.js";
import { modelMetadata } from "./metadata.js";
import { type WrittenWeights, writtenWeights } from "./negligible.js";
import { castNode, lowerL2, lowerOperation, type OnnxFragment } from "./onnx-operators.js";
import {
  DEFAULT_SIZE,
  IMAGENET,
  type ModelOptions,
  type OnnxDType,
  type PixelOrder,
  type ResolvedModelOptions,
  type ResultOptions,
  resolveModelOptions,
} from "./options.js";
import { castStateDict, neededNetwork } from "./weights.js";

const CHANNELS = 3;

/**
 * Writes a network in ONNX operators: input `images` float32 [batch, 3, height, width], first output `features` float32
 * [batch, D].
 *
 * Names are part of the format. Every layer that the outputs need is a value and a node of exactly its name
 * (`conv2.0.gate[1].gate_activation`). A result has its own name (`features`) through an `Identity` node, which
 * runtimes remove, so that its layer (`fc.2`) can still be found. Weights are named as in the state dict, with the same
 * bits if float32; folded ones are called `….folded.weight` and `….folded.bias`. A block has its gate's weights once,
 * read by all streams. Metadata: `osnet.spec`, the architecture as JSON, and `osnet.folded`, `true` or `false`. A model
 * that takes raw pixels also has `osnet.preprocess`, `rgb` or `bgr`, and the value `images.normalized`, the network's
 * input.
 *
 * In float16, weights are rounded once more, pixels are still normalised in float32, and `Cast`s convert a float32
 * input and float32 results.
 *
 * @throws InputError (`argument`, `tensor`, `state-dict`) for options or weights that do not fit the network.
 */
export function lowerToOnnx(graph: LayerGraph, stateDict: StateDict, options: OnnxOptions = {}): OnnxModel {
  const resolved = resolveOptions(graph, options);
  const { fold, opset, irVersion, results, dtype, ioDtype, keepDenormals } = resolved;
  const network = neededNetwork(graph, fold, results);
  // float16 cannot represent such small numbers anyway.
  const written = writtenWeights(network, stateDict, keepDenormals || dtype !== "float32");
  const { nodes, initializers: weights } = lowerNodes(network.nodes, written, resolved);
  const initializers = new Map(weights);
  const renamed = results.filter(({ name, layer }) => name !== layer);
  const { inputs, outputs } = declareValues(graph, resolved);
  const tails = results.flatMap(({ name, layer, floors }) => {
    const value = dtype === ioDtype ? layer : `${name}.cast`;
    return floors ? lowerL2(name, value, floors, { opset, dtype: ioDtype }) : [];
  });
  for (const tail of tails)
    for (const [name, tensor] of tail.initializers ?? []) initializers.set(name, tensor);
  const allNodes = [
    ...nodes,
    ...renamed.flatMap(({ name, layer, floors }) => {
      if (dtype !== ioDtype) return castNode(floors ? `${name}.cast` : name, layer, ioDtype);
      return floors ? [] : onnxNode(name, "Identity", [layer]);
    }),
    ...tails.flatMap((tail) => tail.nodes),
  ];
  expectUnique([
    ...inputs.map(({ name }) => name),
    ...allNodes.flatMap((node) => node.outputs),
    ...initializers.keys(),
  ]);
  return {
    irVersion,
    opset,
    customOpsets: new Map(),
    // No version, so that the same weights give the same bytes in every release.
    producer: { name: "osnet-convert", version: "" },
    graph: { name: variantOf(graph.spec) ?? "osnet", inputs, outputs, nodes: allNodes, initializers },
    metadata: new Map(Object.entries(modelMetadata(graph.spec, resolved, written.zeroed))),
  };
}

function lowerNodes(
  layers: readonly LayerNode[],
  written: WrittenWeights,
  { opset, inputName, preprocess, dtype, ioDtype }: ResolvedOptions,
): { readonly nodes: readonly OnnxNode[]; readonly initializers: ReadonlyMap<string, Tensor> } {
  const pixels = lowerInput(inputName, { preprocess, dtype, ioDtype });
  const nodes: OnnxNode[] = [...pixels.nodes];
  const initializers = new Map<string, Tensor>(pixels.initializers);
  const input = layers.find(({ op }) => op.kind === "input")?.name;
  const constants = new Map<string, Tensor>();
  for (const layer of layers) {
    const weights = Object.values(written.of(layer));
    for (const { name, tensor } of weights) {
      initializers.set(name, tensor);
      constants.set(name, tensor);
    }
    const activations = layer.inputs.map((name) => (name === input ? pixels.images : name));
    const inputs = [...activations, ...weights.map(({ name }) => name)];
    const fragment = lowerOperation(layer.op, { name: layer.name, inputs, opset, dtype });
    nodes.push(...fragment.nodes);
    for (const [name, tensor] of fragment.initializers ?? []) initializers.set(name, tensor);
  }
  if (dtype !== "float32")
    for (const [name, tensor] of castStateDict(constants, dtype, "the network's weights"))
      initializers.set(name, tensor);
  return { nodes, initializers };
}

/** The graph's input and outputs with their shapes; dynamic dimensions are named batch, height and width. */
function declareValues(
  graph: LayerGraph,
  { batch, size, inputName, results, dtype, ioDtype }: ResolvedOptions,
): { readonly inputs: readonly OnnxValue[]; readonly outputs: readonly OnnxValue[] } {
  const { height, width } = size === "dynamic" ? DEFAULT_SIZE : size;
  // Every result is pooled or flattened: its shape does not depend on the image's size.
  const shapes = outputShapes(graph, [1, CHANNELS, height, width]);
  const anyBatch: OnnxDimension = batch === "dynamic" ? "batch" : batch;
  const spatial = size === "dynamic" ? ["height", "width"] : [height, width];
  const withoutBatch = (layer: string): Shape => (shapes.get(layer) ?? []).slice(1);
  return {
    inputs: [{ name: inputName, dtype: ioDtype, shape: [anyBatch, CHANNELS, ...spatial] }],
    outputs: results.map(({ name, layer }) => ({
      name,
      // A layer's name is its value's, whatever type it is stored in.
      dtype: name === layer ? dtype : ioDtype,
      shape: [anyBatch, ...withoutBatch(layer)],
    })),
  };
}

/** ONNX is in static single assignment form: a chosen input or output name must not be any other value's. */
function expectUnique(names: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (name === "" || seen.has(name))
      throw new InputError({
        code: "argument",
        subject: "input or output name",
        found: name === "" ? "an empty name" : `${JSON.stringify(name)}, which is already in use`,
        expected: "a unique name",
        remedy: "choose another",
      });
    seen.add(name);
  }
}

/** The default opset: the oldest with `LayerNormalization`, supported by every current runtime. */
export const DEFAULT_OPSET = 17;

/**
 * The lowest IR version for each opset, so that the oldest readers accept the file
 * (https://github.com/onnx/onnx/blob/main/docs/Versioning.md, "Released Versions"). 11 is the oldest opset in which
 * every operator used here has its present meaning; 26 the newest that onnxruntime 1.30 loads.
 */
const IR_VERSIONS: ReadonlyMap<number, number> = new Map([
  [11, 6],
  [12, 7],
  [13, 7],
  [14, 7],
  [15, 8],
  [16, 8],
  [17, 8],
  [18, 8],
  [19, 9],
  [20, 9],
  [21, 10],
  [22, 10],
  [23, 11],
  [24, 12],
  [25, 13],
  [26, 13],
]);

/** The supported opsets, oldest and newest. */
export const OPSET_RANGE: readonly [oldest: number, newest: number] = [
  Math.min(...IR_VERSIONS.keys()),
  Math.max(...IR_VERSIONS.keys()),
];

/**
 * The lowest IR version for an opset.
 *
 * @throws InputError (`argument`) if the opset is outside `OPSET_RANGE`.
 */
function irVersionFor(opset: number): number {
  const irVersion = IR_VERSIONS.get(opset);
  if (irVersion === undefined)
    throw new InputError({
      code: "argument",
      subject: "opset",
      found: String(opset),
      expected: `a whole number from ${OPSET_RANGE[0]} to ${OPSET_RANGE[1]}`,
      remedy: `omit it to use opset ${DEFAULT_OPSET}`,
    });
  return irVersion;
}

/** The results that the file returns; `both` is the embedding and the logits. */
export type OnnxOutputSelection = NonNullable<ResultOptions["output"]>;

/** Options for writing an ONNX file; every field has a default. A dynamic image size costs 5–8 % in onnxruntime. */
export interface OnnxOptions extends ModelOptions {
  /** The opset, 11 to 26. Default 17. */
  readonly opset?: number;
  /** The type in which weights are stored and layers computed. Default float32. */
  readonly dtype?: OnnxDType;
  /** Element type of the input and the results, independent of intermediate values. Default float32. */
  readonly ioDtype?: OnnxDType;
}

/** Options with all defaults filled in, for one network. */
interface ResolvedOptions extends ResolvedModelOptions {
  readonly opset: number;
  readonly irVersion: number;
  readonly dtype: OnnxDType;
  readonly ioDtype: OnnxDType;
}

/**
 * Fills in the defaults.
 *
 * @throws InputError (`argument`) if a value cannot be used, or the network has no such output.
 */
function resolveOptions(graph: LayerGraph, options: OnnxOptions): ResolvedOptions {
  const { opset = DEFAULT_OPSET, dtype = "float32", ioDtype = "float32" } = options;
  const resolved = resolveModelOptions(graph, options);
  return { ...resolved, opset, irVersion: irVersionFor(opset), dtype, ioDtype };
}

/** The value that the stem reads: images as PyTorch's networks take them. */
export const NORMALIZED = "images.normalized";

/** The preprocessing of the file's input, and the value that the stem reads. */
function lowerInput(
  input: string,
  { preprocess, dtype, ioDtype }: Pick<ResolvedOptions, "preprocess" | "dtype" | "ioDtype">,
): OnnxFragment & { readonly images: string } {
  if (!preprocess) {
    if (dtype === ioDtype) return { images: input, nodes: [] };
    const images = `images.${dtype}`;
    return { images, nodes: [castNode(images, input, dtype)] };
  }
  // Normalised in float32, since float16 cannot distinguish the 255 levels well.
  const wide = ioDtype === "float32" ? input : "images.float32";
  const { nodes, initializers } = lowerPreprocess(wide, preprocess);
  const images = dtype === "float32" ? NORMALIZED : `images.${dtype}`;
  return {
    images,
    nodes: [
      ...(wide === input ? [] : [castNode(wide, input, "float32")]),
      ...nodes,
      ...(images === NORMALIZED ? [] : [castNode(images, NORMALIZED, dtype)]),
    ],
    ...(initializers ? { initializers } : {}),
  };
}

/**
 * Pixels [N, 3, H, W] from 0 to 255 to normalised images, (x / 255 − mean) / deviation in this order and in float32,
 * bit-identical to torchvision.
 */
function lowerPreprocess(input: string, order: PixelOrder): OnnxFragment {
  const [rgb, scaled, centered] = ["images.rgb", "images.scaled", "images.centered"];
  const swap = order === "bgr";
  return {
    nodes: [
      ...(swap ? [onnxNode(rgb, "Gather", [input, "images.channels"], { axis: int(1) })] : []),
      onnxNode(scaled, "Div", [swap ? rgb : input, "images.white"]),
      onnxNode(centered, "Sub", [scaled, "images.mean"]),
      onnxNode(NORMALIZED, "Div", [centered, "images.deviation"]),
    ],
    initializers: new Map<string, Tensor>([
      ...(swap
        ? [["images.channels", { dtype: "int64", shape: [3], data: BigInt64Array.of(2n, 1n, 0n) }] as const]
        : []),
      ["images.white", { dtype: "float32", shape: [], data: Float32Array.of(IMAGENET.white) }],
      ["images.mean", perChannel(IMAGENET.mean)],
      ["images.deviation", perChannel(IMAGENET.deviation)],
    ]),
  };
}

/** One number per channel of [N, 3, H, W]. */
function perChannel(values: readonly number[]): Tensor<"float32"> {
  return { dtype: "float32", shape: [values.length, 1, 1], data: Float32Array.from(values) };
}
