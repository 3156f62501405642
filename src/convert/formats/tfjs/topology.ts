/** The topology of a Keras model: which layer is called on which values. */
import { quoted } from "../../../core/text.js";
import { inOrder } from "../onnx/model.js";
import { arrayOf, isObject, type Json, type JsonObject, objectOf, refusal } from "./json.js";
import type { StoredTensor, TfjsLayersModel } from "./model.js";

/** One call of a layer. Its value is called `LAYER#CALL`. */
export interface LayerCall {
  readonly layer: string;
  readonly className: string;
  readonly config: JsonObject;
  readonly value: string;
  /** The values that it reads. */
  readonly inputs: readonly string[];
  /** Whether it is called with more than these, such as `training`. */
  readonly hasArguments: boolean;
}

interface Topology {
  readonly calls: readonly LayerCall[];
  readonly outputs: readonly string[];
}

/**
 * Reads a functional or a sequential model.
 *
 * @throws InputError (`unsupported`) for a nested model, (`format`) if it is not a valid topology, or one that tfjs
 * reads differently from Keras
 */
export function readTopology(model: TfjsLayersModel, subject: string): Topology {
  const root = objectOf(model.topology.model_config ?? model.topology);
  for (const key of Object.keys(root)) expectPlain(key, subject);
  expectPlainKeys(root.config ?? null, subject);
  const layers = layersOf(root);
  if (layers.length === 0) throw refusal(subject, "a model without layers", "a Keras model");
  const nested = layers.find(({ class_name: name }) => MODELS.has(String(name)));
  if (nested)
    throw refusal(
      subject,
      `a nested model as layer ${quoted(nameOf(nested))}`,
      "a flat list of layers",
      "put the inner model's layers into the outer one",
      "unsupported",
    );
  const names = new Set<string>();
  for (const layer of layers) {
    const {
      name: own = null,
      batch_shape: shape,
      batch_input_shape: earlier,
      input_shape: size,
    } = objectOf(layer.config);
    const { name = root.class_name === "Sequential" ? own : null } = layer;
    if (typeof name !== "string" || own !== name || name === "")
      throw refusal(
        subject,
        `a layer named ${[name, own].map((each) => JSON.stringify(each).slice(0, 80)).join(" and ")}`,
        "one name, by which tfjs finds its place and its weights",
      );
    if (shape !== undefined && (earlier ?? size ?? null) !== null)
      throw refusal(
        subject,
        `the batch_shape of Keras 3 and that of Keras 2 for layer ${quoted(name)}`,
        "one",
      );
    if (names.has(name)) throw refusal(subject, `two layers named ${quoted(name)}`, "unique layer names");
    names.add(name);
  }
  if (root.class_name === "Sequential") return sequential(layers);
  if (!MODELS.has(String(root.class_name)))
    throw refusal(
      subject,
      `a model of class ${JSON.stringify(root.class_name ?? null).slice(0, 80)}`,
      "Functional or Sequential",
    );
  const topology = functional(layers, objectOf(root.config), referencesOf(model), subject);
  if (!isKeras3(model)) expectCallsInOrder(layers, topology.calls, subject);
  return topology;
}

/**
 * tfjs turns `max_value` into `maxValue`, and `max__value` and `config_` into what other keys mean: of two that become
 * one, the last counts (`convertPythonicToTs`).
 */
function expectPlain(key: string, subject: string): void {
  if (/^[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*$/.test(key)) return;
  throw refusal(
    subject,
    `the key ${quoted(key)}`,
    "keys of lower-case words, which tfjs and Keras read alike",
  );
}

/** Values are nested no deeper than `expectModest` allows. */
function expectPlainKeys(value: Json, subject: string): void {
  if (isObject(value)) {
    for (const [key, inner] of Object.entries(value)) {
      expectPlain(key, subject);
      expectPlainKeys(inner, subject);
    }
  } else for (const inner of arrayOf(value)) expectPlainKeys(inner, subject);
}

/** Limit on visits of layers: an OSNet has a few hundred, which are visited once or twice. */
const MAX_VISITS = 100_000;

/**
 * tfjs numbers a layer's calls in the order in which it makes them: it goes through the layers again and again, and makes
 * each call whose inputs are there. A call that Keras numbers otherwise would be another one in tfjs.
 *
 * While calls are made in order, one is made in the first round in which all of its inputs have been made before.
 */
function expectCallsInOrder(
  layers: readonly JsonObject[],
  calls: readonly LayerCall[],
  subject: string,
): void {
  const places = new Map(layers.map((layer, at) => [nameOf(layer), at]));
  const made = new Map(
    calls.map((call, at) => [call.value, { call, at, place: places.get(call.layer) ?? 0, round: 0 }]),
  );
  for (const each of inOrder(made, ({ call }) => call.inputs, subject))
    for (const input of each.call.inputs) {
      const { place, at, round } = made.get(input) ?? each;
      const isBefore = place < each.place || (place === each.place && at < each.at);
      each.round = Math.max(each.round, isBefore ? round : round + 1);
    }
  const rounds = [...made.values()].reduce((most, { round }) => Math.max(most, round + 1), 0);
  if (rounds * layers.length > MAX_VISITS)
    throw refusal(
      subject,
      `${layers.length} layers that tfjs has to go through ${rounds} times`,
      "layers in the order in which they are computed",
    );
  const latest = new Map<string, number>();
  for (const { call, round } of made.values()) {
    if (round < (latest.get(call.layer) ?? 0))
      throw refusal(
        subject,
        `call ${quoted(call.value)}, which tfjs makes before an earlier call of the layer`,
        "calls in the order in which their inputs are computed",
      );
    latest.set(call.layer, round);
  }
}

/**
 * Whether a topology is in Keras 3 format: its inputs have a `batch_shape`, which tfjs (4.22) does not read, so that it
 * finds no shape and refuses the model.
 */
export function isKeras3({ topology }: TfjsLayersModel): boolean {
  return layersOf(objectOf(topology.model_config ?? topology)).some(
    ({ class_name: kind, config }) => kind === "InputLayer" && objectOf(config).batch_shape !== undefined,
  );
}

/** The class of each layer, once, however often the layer is called. */
export function layerClasses(model: TfjsLayersModel, subject: string): readonly string[] {
  const { calls } = readTopology(model, subject);
  return [...new Map(calls.map(({ layer, className }) => [layer, className])).values()];
}

/** In early versions, a sequential model is a list of layers. */
function layersOf({ config }: JsonObject): readonly JsonObject[] {
  return arrayOf(Array.isArray(config) ? config : objectOf(config).layers).map(objectOf);
}

const MODELS: ReadonlySet<string> = new Set(["Functional", "Model", "Sequential"]);

function sequential(layers: readonly JsonObject[]): Topology {
  const first = layers[0] ?? {};
  const isDeclared = first.class_name === "InputLayer";
  const input: LayerCall = {
    layer: "input",
    className: "InputLayer",
    config: objectOf(first.config),
    value: "input#0",
    inputs: [],
    hasArguments: false,
  };
  const calls = isDeclared ? [] : [input];
  let value = calls.at(-1)?.value;
  for (const layer of layers) {
    const inputs = value === undefined ? [] : [value];
    value = `${nameOf(layer)}#0`;
    calls.push({ ...callOf(layer), value, inputs, hasArguments: false });
  }
  return { calls, outputs: value === undefined ? [] : [value] };
}

function functional(
  layers: readonly JsonObject[],
  config: JsonObject,
  referencesIn: (node: Json) => readonly Json[],
  subject: string,
): Topology {
  const calls = layers.flatMap((layer): readonly LayerCall[] => {
    const base = callOf(layer);
    if (base.className === "InputLayer")
      return [{ ...base, value: `${base.layer}#0`, inputs: [], hasArguments: false }];
    return arrayOf(layer.inbound_nodes).map((node, call) => {
      const inputs = referencesIn(node).map((reference) => valueName(reference, subject));
      // tfjs does not make such a call, nor count it.
      if (inputs.length === 0)
        throw refusal(subject, `layer ${quoted(base.layer)} called without inputs`, "inputs");
      const named = isObject(node) ? [node.kwargs] : arrayOf(node).map((reference) => arrayOf(reference)[3]);
      return { ...base, value: `${base.layer}#${call}`, inputs, hasArguments: named.some(areArguments) };
    });
  });
  return {
    calls,
    outputs: outputsOf(config.output_layers).map((reference) => valueName(reference, subject)),
  };
}

function callOf(layer: JsonObject): Pick<LayerCall, "layer" | "className" | "config"> {
  return { layer: nameOf(layer), className: String(layer.class_name), config: objectOf(layer.config) };
}

/** Keras 2 has a layer's name beside its configuration, and in it. */
function nameOf(layer: JsonObject): string {
  return String(layer.name ?? objectOf(layer.config).name);
}

/**
 * How to read the references of a call: `[["conv1", 0, 0, {}], …]`, for which tfjs takes any list; Keras 3 has them
 * inside its arguments, as `keras_history`.
 */
function referencesOf(model: TfjsLayersModel): (node: Json) => readonly Json[] {
  if (!isKeras3(model)) return arrayOf;
  return (node) =>
    arrayOf(objectOf(node).args).flatMap((argument): readonly Json[] => {
      const tensors: readonly Json[] = Array.isArray(argument) ? argument : [argument];
      return tensors.flatMap((tensor) => {
        const { keras_history: history } = objectOf(objectOf(tensor).config);
        return history === undefined ? [] : [history];
      });
    });
}

/** Arguments that are null or false are the usual ones: a layer in training, or a mask. */
function areArguments(named: Json = null): boolean {
  return isObject(named)
    ? Object.values(named).some((value) => value !== null && value !== false)
    : named !== null;
}

/** A single output may be without an enclosing list. */
function outputsOf(outputs: Json | undefined): readonly Json[] {
  const list = arrayOf(outputs);
  return typeof list[0] === "string" ? [list] : list;
}

function valueName(reference: Json, subject: string): string {
  const [layer, call, output] = arrayOf(reference);
  if (typeof layer === "string" && typeof call === "number" && output === 0) return `${layer}#${call}`;
  throw refusal(
    subject,
    `${JSON.stringify(reference).slice(0, 80)} as a layer's input`,
    "a layer, its call and its output 0",
  );
}

/**
 * The weights of a layers model by layer and role, `conv1/kernel`, as tfjs finds them (`Container.loadWeights`): it also
 * drops the last but one part of a name, `conv1/conv1/kernel`, unless there is a layer of the whole name.
 *
 * @throws InputError (`format`) if a layer has two weights for one role
 */
export function layerWeights(
  { weights }: TfjsLayersModel,
  calls: readonly LayerCall[],
  subject: string,
): ReadonlyMap<string, StoredTensor> {
  const places = placesOfKeras3(calls);
  const layers = new Set(calls.map(({ layer }) => layer));
  const placeOf = (name: string): string => {
    const layer = outerOf(name);
    const outer = outerOf(layer);
    return !layers.has(layer) && layers.has(outer) ? `${outer}${name.slice(layer.length)}` : name;
  };
  const named = new Map<string, StoredTensor>();
  for (const [name, { tensor, stored }] of weights) {
    const place = places.get(name) ?? placeOf(name);
    if (named.has(place))
      throw refusal(subject, `a second weight ${quoted(name)} for ${quoted(place)}`, "one");
    named.set(place, stored ? { ...tensor, stored } : tensor);
  }
  return named;
}

/** A name without its last part. */
function outerOf(name: string): string {
  return name.replace(/\/?[^/]*$/, "");
}

/**
 * The weights of each Keras layer, in Keras's order, which skips those that a layer is configured without.
 */
const ROLES: Readonly<Record<string, (config: JsonObject) => readonly string[]>> = {
  BatchNormalization: (config) => [...affine(config), "moving_mean", "moving_variance"],
  Conv2D: () => ["kernel", "bias"],
  Dense: () => ["kernel", "bias"],
  DepthwiseConv2D: () => ["kernel", "bias"],
  LayerNormalization: affine,
};

function affine({ scale, center }: JsonObject): readonly string[] {
  return [...(scale === false ? [] : ["gamma"]), ...(center === false ? [] : ["beta"])];
}

/**
 * tensorflowjs's names for the weights of a .keras file: `layers/conv2d_1/vars/0` is the first weight of the model's
 * second `Conv2D`, whatever its name (Keras's `saving_lib.py`).
 */
function placesOfKeras3(calls: readonly LayerCall[]): ReadonlyMap<string, string> {
  const layers = new Map(calls.map((call) => [call.layer, call]));
  const counts = new Map<string, number>();
  const places = new Map<string, string>();
  for (const { layer, className, config } of layers.values()) {
    const kind = snakeCase(className);
    const count = counts.get(kind) ?? 0;
    counts.set(kind, count + 1);
    const roles = Object.hasOwn(ROLES, className) ? (ROLES[className]?.(config) ?? []) : [];
    for (const [at, role] of roles.entries())
      places.set(`layers/${kind}${count === 0 ? "" : `_${count}`}/vars/${at}`, `${layer}/${role}`);
  }
  return places;
}

/** Keras's `to_snake_case`: `DepthwiseConv2D` is `depthwise_conv2d`. */
function snakeCase(name: string): string {
  return name
    .replaceAll(/\W+/g, "")
    .replaceAll(/(.)([A-Z][a-z]+)/g, "$1_$2")
    .replaceAll(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase();
}
