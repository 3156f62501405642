import type { LayerGraph, LayerNode } from "../../../arch/graph.js";
import { ancestors, outputShapes } from "../../../arch/shapes.js";
import { variantOf } from "../../../arch/variants.js";
import { InputError } from "../../../core/errors.js";
import type { Shape, StateDict, Tensor } from "../../../core/tensor.js";
import {
  type OnnxDimension,
  type OnnxModel,
  type OnnxNode,
  type OnnxValue,
  onnxNode,
} from "../../formats/onnx/model.js";
import { castStateDict } from "../encode-weights.js";
import { foldBatchNorm } from "../fold.js";
import { modelMetadata } from "../metadata.js";
import { type WrittenWeights, writtenWeights } from "../negligible.js";
import { DEFAULT_SIZE } from "../options.js";
import { castNode, lowerL2, lowerOperation } from "./operators.js";
import { type OnnxOptions, type ResolvedOptions, resolveOptions } from "./options.js";
import { lowerInput } from "./preprocess.js";

const CHANNELS = 3;

/**
 * Writes a network in ONNX operators: input `images` float32 [batch, 3, height, width], first output `features`
 * float32 [batch, D].
 *
 * Names are part of the format. Every layer that the outputs need is a value and a node of exactly its name
 * (`conv2.0.gate[1].gate_activation`); a result has its own name (`features`) through an `Identity` node, which
 * runtimes remove, so that its layer (`fc.2`) can still be found. Weights are named as in the state dict, and hold the
 * same bits if float32; those that absorbed a batch norm are called `….folded.weight` and `….folded.bias`. A block's
 * gate has its weights once, read by all streams. Metadata: `osnet.spec`, the architecture as JSON, and
 * `osnet.folded`, `true` or `false`; of a model that takes raw pixels `osnet.preprocess`, `rgb` or `bgr`, and the images as
 * the network sees them are the value `images.normalized`.
 *
 * In float16, weights are rounded once more, pixels are normalised in float32 all the same, and `Cast` leads in and out
 * where the input and the results are float32.
 *
 * @throws InputError (`argument`, `tensor`, `state-dict`) for options or weights that do not fit the network.
 */
export function lowerToOnnx(graph: LayerGraph, stateDict: StateDict, options: OnnxOptions = {}): OnnxModel {
  const resolved = resolveOptions(graph, options);
  const { fold, opset, irVersion, results, dtype, ioDtype, keepDenormals } = resolved;
  const whole = fold ? foldBatchNorm(graph) : graph;
  const needed = ancestors(whole, ...results.map(({ layer }) => layer));
  const network = { ...whole, nodes: whole.nodes.filter(({ name }) => needed.has(name)) };
  // Half precision has no such small numbers.
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
    // No version: the same weights give the same bytes from one release to the next.
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

/** The graph's input and outputs with their shapes; dynamic dimensions are called batch, height and width. */
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
      // A layer's name is its value's, whatever that is stored in.
      dtype: name === layer ? dtype : ioDtype,
      shape: [anyBatch, ...withoutBatch(layer)],
    })),
  };
}

/** ONNX is in single static assignment form: a chosen input or output name must not be any other value's. */
function expectUnique(names: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (name === "" || seen.has(name))
      throw new InputError({
        code: "argument",
        subject: "input or output name",
        found: name === "" ? "an empty name" : `${JSON.stringify(name)}, which the network uses already`,
        expected: "a name of its own",
        remedy: "choose another one",
      });
    seen.add(name);
  }
}
