import { InputError } from "../../../core/errors.js";
import type { DType } from "../../../core/tensor.js";
import { quoted } from "../../../core/text.js";
import { inOrder, type OnnxDimension, type OnnxModel, type OnnxValue } from "../../formats/onnx/model.js";
import { nodeOf } from "../../formats/tfjs/graph.js";
import { arrayOf } from "../../formats/tfjs/json.js";
import type {
  StoredTensor,
  TfjsGraphModel,
  TfjsLayersModel,
  TfjsModel,
  TfjsNode,
  TfjsShape,
} from "../../formats/tfjs/model.js";
import { type LayerCall, layerWeights, readTopology } from "../../formats/tfjs/topology.js";
import { type GraphMatch, type MatchOptions, matchGraph } from "../match.js";
import type { Layout } from "../operators/foreign.js";
import { NCHW } from "../operators/layouts.js";
import { isIdentity } from "../preprocess.js";
import { addConstant, createDraft, isStep, modelOf } from "./draft.js";
import { translateLayer } from "./layers.js";
import { translateNode, valueName } from "./operators.js";

/** A TensorFlow.js model matched with the layer graph of an OSNet. */
export interface TfjsMatch extends GraphMatch {
  /** The order of axes in which it takes images. */
  readonly layout: Layout;
}

/**
 * A model in ONNX operators: a graph's values are named after its nodes, a layers model's `LAYER#CALL`.
 *
 * @throws InputError (`format`, `unsupported`) if it is not a valid graph, or has nested models
 */
export function translateTfjs(model: TfjsModel, subject: string): OnnxModel {
  return model.format === "graph-model" ? translateGraph(model, subject) : translateLayers(model, subject);
}

/**
 * Matches a model with OSNet, as `matchGraph` does. Channels-last images are TensorFlow's usual layout, not
 * preprocessing.
 *
 * @param translated the model in ONNX operators
 * @throws InputError (`unsupported`) if the model is not an OSNet, (`format`) if it is not a valid graph
 */
export function matchTfjs(translated: OnnxModel, options: MatchOptions): TfjsMatch {
  const match = matchGraph(translated, options);
  const { preprocess } = match;
  const values = new Map([...match.values].filter(([, value]) => !isStep(value)));
  const steps = [...match.values.keys()].filter((layer) => !values.has(layer));
  return {
    ...match,
    values,
    folded: new Set([...match.folded, ...steps]),
    preprocess: preprocess && isIdentity({ ...preprocess, layout: NCHW }) ? undefined : preprocess,
    layout: preprocess?.layout ?? NCHW,
  };
}

/** The metadata that matching and notes use. */
function aboutTfjs({ convertedBy, metadata }: TfjsModel): Pick<OnnxModel, "producer" | "metadata"> {
  const texts = Object.entries(metadata ?? {}).filter(
    (entry): entry is [string, string] => typeof entry[1] === "string",
  );
  return { producer: { name: convertedBy ?? "", version: "" }, metadata: new Map(texts) };
}

/**
 * A TensorFlow graph as ONNX operators, for matching. Values are named after its nodes.
 *
 * @throws InputError (`format`) if the graph has a cycle, or a constant without values
 */
function translateGraph(model: TfjsGraphModel, subject: string): OnnxModel {
  const { nodes, weights, signature } = model;
  const draft = createDraft(subject);
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const later = laterOutputs(nodes);
  const inputs: OnnxValue[] = [];
  for (const node of inOrder(byName, ({ inputs }) => inputs.map(nodeOf), subject)) {
    if (node.op === "Const") addConstant(draft, node.name, weightOf(node, weights, subject));
    else if (node.op === "Placeholder") inputs.push(inputValue(node, signature));
    else translateNode(draft, node, later.get(node.name) ?? []);
  }
  return modelOf(draft, inputs, graphOutputs(model), aboutTfjs(model));
}

/** The values that a program receives: those of the signature, or if it has none, of the nodes that no other reads. */
export function graphOutputs({ nodes, signature }: TfjsGraphModel): readonly string[] {
  const declared = [...signature.outputs.values()].map(({ name }) => valueName(name));
  return declared.length > 0 ? declared : unread(nodes);
}

/** For each node, the names of its later outputs that are read. */
function laterOutputs(nodes: readonly TfjsNode[]): ReadonlyMap<string, readonly string[]> {
  const read = new Set(nodes.flatMap(({ inputs }) => inputs.filter((input) => /:0*[1-9]\d*$/.test(input))));
  const later = new Map<string, string[]>();
  for (const output of read) {
    const known = later.get(nodeOf(output));
    if (known) known.push(output);
    else later.set(nodeOf(output), [output]);
  }
  return later;
}

/** Nodes that no other node reads, in tfjs's order: that of an object's keys, with integers first. */
function unread(nodes: readonly TfjsNode[]): readonly string[] {
  const read = new Set(nodes.flatMap(({ inputs }) => inputs.map(nodeOf)));
  const names = nodes.filter(({ name, op }) => !read.has(name) && op !== "NoOp").map(({ name }) => name);
  return Object.keys(Object.fromEntries(names.map((name) => [name, true])));
}

function weightOf({ name }: TfjsNode, weights: TfjsGraphModel["weights"], subject: string): StoredTensor {
  const weight = weights.get(name);
  if (weight) {
    const { tensor, ...storage } = weight;
    return { ...tensor, ...storage };
  }
  throw new InputError({
    code: "format",
    subject,
    found: `a constant ${quoted(name)} without values`,
    expected: "a weight of its name in the weights manifest",
    remedy: "convert the model again",
  });
}

const DTYPES: Readonly<Record<string, DType>> = {
  DT_FLOAT: "float32",
  DT_DOUBLE: "float64",
  DT_HALF: "float16",
  DT_UINT8: "uint8",
  DT_INT8: "int8",
  DT_INT32: "int32",
};

function inputValue({ name, attributes }: TfjsNode, { inputs }: TfjsGraphModel["signature"]): OnnxValue {
  const declared = [...inputs.values()].find((info) => nodeOf(info.name) === name);
  const [shape, type] = [attributes.get("shape"), attributes.get("dtype")];
  const dtype = DTYPES[declared?.dtype ?? (type?.type === "dtype" ? type.value : "")];
  const sizes = declared?.shape ?? (shape?.type === "shape" ? shape.value : null);
  return { name, ...(dtype ? { dtype } : {}), ...(sizes ? { shape: dimensions(sizes) } : {}) };
}

function dimensions(shape: NonNullable<TfjsShape>): readonly OnnxDimension[] {
  return shape.map((size) => (size < 0 ? null : size));
}

/**
 * A Keras model in ONNX operators, for matching: a value is called `LAYER#CALL`, as one layer may be called many times.
 *
 * @throws InputError (`format`) if the topology is invalid, has a cycle or reads missing values
 */
function translateLayers(model: TfjsLayersModel, subject: string): OnnxModel {
  const { calls, outputs } = readTopology(model, subject);
  const draft = createDraft(subject);
  for (const [name, weight] of layerWeights(model, calls, subject)) draft.constants.set(name, weight);
  const byValue = new Map<string, LayerCall>();
  for (const call of calls) {
    if (byValue.has(call.value))
      throw malformed(subject, `two layers named ${quoted(call.layer)}`, "unique layer names");
    byValue.set(call.value, call);
  }
  const inputs: OnnxValue[] = [];
  for (const call of inOrder(byValue, (item) => item.inputs, subject)) {
    const missing = call.inputs.find((value) => !byValue.has(value));
    if (missing !== undefined)
      throw malformed(
        subject,
        `${quoted(missing)} as the input of ${quoted(call.layer)}`,
        "a layer of the model",
      );
    if (call.className === "InputLayer") inputs.push(layerInput(call));
    else translateLayer(draft, call);
  }
  return modelOf(draft, inputs, outputs, aboutTfjs(model));
}

/** Keras 2 calls the shape `batch_input_shape`, Keras 3 `batch_shape`. tfjs casts images to the input's type. */
function layerInput({ value, config }: LayerCall): OnnxValue {
  const shape = arrayOf(config.batch_input_shape ?? config.batch_shape);
  const sizes = shape.map((size) => (typeof size === "number" ? size : null));
  const dtype = config.dtype === "int32" || config.dtype === "bool" ? config.dtype : "float32";
  return { name: value, dtype, ...(shape.length > 0 ? { shape: sizes } : {}) };
}

function malformed(subject: string, found: string, expected: string): InputError {
  return new InputError({ code: "format", subject, found, expected, remedy: "convert the model again" });
}
