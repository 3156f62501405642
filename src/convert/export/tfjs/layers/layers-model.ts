import type { LayerGraph, LayerNode, ParameterRole } from "../../../../arch/graph.js";
import { ancestors, outputShapes } from "../../../../arch/shapes.js";
import { variantOf } from "../../../../arch/variants.js";
import { InputError } from "../../../../core/errors.js";
import type { StateDict } from "../../../../core/tensor.js";
import type { JsonObject } from "../../../formats/tfjs/json.js";
import type { QuantizedDType, TfjsLayersModel, TfjsWeight } from "../../../formats/tfjs/model.js";
import { foldBatchNorm } from "../../fold.js";
import { modelMetadata } from "../../metadata.js";
import { writtenWeights } from "../../negligible.js";
import type { NodeWeights } from "../../weights.js";
import { NORMALIZED_STEP, normalizedWeights } from "../graph/preprocess.js";
import { type KerasCall, kerasCall, NORMALIZED_LAYER, storedWeight, toTensorFlow } from "../names.js";
import { resolveTfjsOptions, type TfjsOptions } from "../options.js";
import { INPUT, type KerasStep, kerasShape, kerasSteps } from "./operators.js";

/** The same options as a graph model's, but for the names and `fuse`: Keras names layers only. */
export type TfjsLayersOptions = Omit<TfjsOptions, "fuse" | "inputName" | "outputName">;

/** Name of the input. */
const IMAGES = "images";

/** A layer of the model with all its calls. */
interface KerasLayer {
  readonly step: KerasStep;
  readonly calls: (readonly KerasCall[])[];
}

/**
 * Writes a network in stock Keras layers for `tf.loadLayersModel`, trainable: input [batch, height, width, 3].
 *
 * A layer is named by its module; a gate's modules are one layer each, called once per stream (`kerasCall`). Weights are
 * called `MODULE/kernel`, `MODULE/gamma` …
 *
 * @throws InputError (`argument`, `tensor`, `state-dict`) for options or weights that do not fit the network
 */
export function lowerToTfjsLayers(
  graph: LayerGraph,
  stateDict: StateDict,
  options: TfjsLayersOptions = {},
): TfjsLayersModel {
  const resolved = resolveTfjsOptions(graph, options);
  const { fold, results, batch, size, preprocess, quantize, keepDenormals } = resolved;
  if (size === "dynamic") throw refuseAnySize();
  const images = [1, 3, size.height, size.width];
  const whole = fold ? foldBatchNorm(graph) : graph;
  const needed = ancestors(whole, ...results.map(({ layer }) => layer));
  const network = { ...whole, nodes: whole.nodes.filter(({ name }) => needed.has(name)) };
  const written = writtenWeights(network, stateDict, keepDenormals || quantize !== undefined);
  const shapes = outputShapes(graph, images);
  const ops = new Map(network.nodes.map(({ name, op }) => [name, op]));
  const layers = new Map<string, KerasLayer>();
  const weights = new Map<string, TfjsWeight>(preprocess && normalizedWeights(preprocess));
  if (preprocess)
    layers.set(NORMALIZED_LAYER, { step: NORMALIZED_STEP, calls: [[{ layer: IMAGES, call: 0 }]] });
  const source: KerasCall = { layer: preprocess ? NORMALIZED_LAYER : IMAGES, call: 0 };
  const callOf = (name: string): KerasCall => (ops.get(name)?.kind === "input" ? source : kerasCall(name));
  for (const node of network.nodes) {
    if (node.op.kind === "input") continue;
    const [first = ""] = node.inputs;
    const steps = kerasSteps(node.op, {
      input: shapes.get(first) ?? [],
      fromRelu: ops.get(first)?.kind === "relu",
    });
    addCalls(layers, node, steps, callOf);
    addWeights(weights, node, steps, written.of(node), quantize);
  }
  const inputShape = [batch === "dynamic" ? null : batch, size.height, size.width, 3];
  return {
    format: "layers-model",
    generatedBy: "osnet-convert",
    convertedBy: "osnet-convert",
    metadata: modelMetadata(graph.spec, resolved, written.zeroed),
    topology: {
      keras_version: "2.15.0",
      backend: "tensorflow",
      model_config: {
        class_name: "Functional",
        config: {
          name: variantOf(graph.spec) ?? "osnet",
          trainable: true,
          layers: [inputLayer(inputShape), ...Array.from(layers, ([name, layer]) => layerJson(name, layer))],
          input_layers: [[IMAGES, 0, 0]],
          output_layers: results.map(({ layer }) => reference(kerasCall(layer))),
        },
      },
    },
    weights,
  };
}

/** Adds a layer's call to the model: the first of its steps reads its inputs, each other the one before. */
function addCalls(
  layers: Map<string, KerasLayer>,
  node: LayerNode,
  steps: readonly KerasStep[],
  callOf: (name: string) => KerasCall,
): void {
  const { layer: name, call } = kerasCall(node.name);
  const own = node.inputs.map(callOf);
  let inputs = own;
  for (const step of steps) {
    const { reads } = step;
    if (reads)
      inputs = reads.flatMap((suffix) => (suffix === INPUT ? own : { layer: `${name}${suffix}`, call }));
    const layer = `${name}${step.suffix ?? ""}`;
    const entry = layers.get(layer) ?? { step, calls: [] };
    // A call's number is its stream's: the graph has streams in order.
    if (entry.calls.length !== call) throw new Error(`${node.name} is not call ${call} of ${layer}`);
    entry.calls.push(inputs);
    layers.set(layer, entry);
    inputs = [{ layer, call }];
  }
}

function addWeights(
  weights: Map<string, TfjsWeight>,
  node: LayerNode,
  steps: readonly KerasStep[],
  values: NodeWeights,
  quantize: QuantizedDType | undefined,
): void {
  const { layer } = kerasCall(node.name);
  const names = steps.at(-1)?.weights ?? {};
  for (const [key, { tensor }] of Object.entries(values)) {
    const role = key as ParameterRole;
    const laidOut = kerasShape(node.op, role, toTensorFlow(node.op, role, tensor));
    weights.set(`${layer}/${names[role]}`, storedWeight(node.op, role, laidOut, quantize));
  }
}

function layerJson(name: string, { step, calls }: KerasLayer): JsonObject {
  return {
    class_name: step.className,
    name,
    config: { name, trainable: true, dtype: "float32", ...step.config },
    inbound_nodes: calls.map((inputs) => inputs.map((call) => [...reference(call), {}])),
  };
}

function inputLayer(shape: readonly (number | null)[]): JsonObject {
  const config = { name: IMAGES, batch_input_shape: shape, dtype: "float32", sparse: false };
  return { class_name: "InputLayer", name: IMAGES, config, inbound_nodes: [] };
}

function reference({ layer, call }: KerasCall): readonly [string, number, number] {
  return [layer, call, 0];
}

function refuseAnySize(): InputError {
  return new InputError({
    code: "argument",
    subject: "--size",
    found: "dynamic",
    expected: "a size, for a layers model",
    remedy: "give one such as 256x128, or write a graph model",
  });
}
