import type { Size2d } from "../../arch/index.js";
import { InputError } from "../../core/errors.js";
import { formatShape, type Shape, type Tensor } from "../../core/tensor.js";
import { quoted } from "../../core/text.js";
import {
  fedInputs,
  type OnnxDimension,
  type OnnxGraph,
  type OnnxModel,
  type OnnxNode,
  type OnnxValue,
} from "../formats/onnx/model.js";
import { unblocked } from "./nchwc.js";
import { isHalfPrecision } from "./operators/constants.js";
import type { ForeignGraph, ForeignNode, Form, Layout, Reading, Value } from "./operators/foreign.js";
import { isNchw, NCHW, NHWC, NHWC_DOMAIN, towardsNchw } from "./operators/layouts.js";
import { meaning } from "./operators/meaning.js";
import { pixelAsVector } from "./operators/reshape.js";
import { numbers } from "./operators/site.js";
import { preprocessing } from "./preprocess.js";

/**
 * Reads an ONNX graph in the vocabulary of the architecture: constants resolved, operators without effect in inference
 * skipped, decompositions recognised, dead nodes dropped. Each model is read once: to find its network, and again to find that
 * network's layers.
 *
 * @throws InputError (`format`) if a value has two sources or none
 */
export function normalise(model: OnnxModel, subject: string): ForeignGraph {
  const known = normalised.get(model) ?? readModel(model, subject);
  normalised.set(model, known);
  return known;
}

const normalised = new WeakMap<OnnxModel, ForeignGraph>();

function readModel(model: OnnxModel, subject: string): ForeignGraph {
  const { graph, blocks } = unblocked(model.graph, subject);
  const read = readGraph(graph, subject);
  const { values, census, computed, isHalf, input, first } = read;
  const outputs = graph.outputs.map(({ name }) => {
    const value = values.get(name);
    if (value?.kind !== "node" || value.planes) return undefined;
    // What a network with an embedding of 1×1 convolutions ends with; a gate's vector is read further.
    const isEnd =
      value.node.form.rank === "pooled" && !graph.nodes.some(({ inputs }) => inputs.includes(name));
    const vector = isEnd ? pixelAsVector(value.node) : undefined;
    return vector ? { ...value, node: vector } : value;
  });
  const alive = live(outputs.flatMap((value) => value?.node ?? []));
  return {
    ...alive,
    ...preprocessing(first, { dtype: input.dtype, isHalf }, alive),
    outputs: graph.outputs.map(({ name }, index) => {
      const { node, reading } = outputs[index] ?? {};
      return { name, node, ...(reading ? { reading } : {}) };
    }),
    blocks,
    census,
    computed,
    quantiser: quantiserIn(graph, read),
  };
}

const QUANTISERS = /^(QuantizeLinear|DynamicQuantize\w+|QLinear\w+|QGemm)$/;

/** The first live operator that rounds an activation to integers. Constants are rounded without a run. */
function quantiserIn(graph: OnnxGraph, { values, taken }: ReadGraph): ForeignGraph["quantiser"] {
  if (!hasQuantiser(graph, taken)) return undefined;
  const writers = new Map(graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node])));
  const pending = graph.outputs.map(({ name }) => name);
  const live = new Set<OnnxNode>();
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const node = writers.get(name);
    if (!node || live.has(node)) continue;
    live.add(node);
    pending.push(...node.inputs);
  }
  for (const node of graph.nodes) {
    if (!live.has(node)) continue;
    const branch = taken.get(node);
    if (branch && hasQuantiser(branch, taken)) return { opType: node.opType, of: undefined };
    const of = QUANTISERS.test(node.opType) ? nodeAt(values, node.inputs[0] ?? "") : undefined;
    if (of) return { opType: node.opType, of };
  }
  return undefined;
}

function hasQuantiser({ nodes }: OnnxGraph, taken: ReadGraph["taken"]): boolean {
  return nodes.some((node) => {
    const branch = taken.get(node);
    return QUANTISERS.test(node.opType) || (branch !== undefined && hasQuantiser(branch, taken));
  });
}

/** The meaning of each value of a graph, and what was read along the way. */
interface ReadGraph extends Pick<NodeReader, "census" | "computed" | "taken" | "isHalf"> {
  readonly values: ReadonlyMap<string, Value>;
  /** The graph's input for images, and its node. */
  readonly input: OnnxValue;
  readonly first: ForeignNode;
}

/** @throws InputError (`format`) if a value has two sources or none, or nothing takes images */
export function readGraph(graph: OnnxGraph, subject: string): ReadGraph {
  const values = new Map<string, Value>();
  const images = fedInputs(graph);
  for (const value of images) values.set(value.name, inputValue(value, graph));
  const [input] = images;
  const first = input && nodeAt(values, input.name);
  if (!first) throw malformed(subject, "a graph without inputs", "one that takes images");
  const [batch] = towardsNchw(first.reading?.layout ?? NCHW).map((axis) => input.shape?.[axis]);
  const reader = nodeReader(graph, subject, typeof batch === "number" ? batch : undefined);
  readNodes(graph, { values, around: undefined }, reader);
  const { census, computed, taken, isHalf } = reader;
  return { values, census, computed, taken, isHalf, input, first };
}

/**
 * Why a runtime may not survive a model on images of a shape; undefined if it should. A window that is larger than its padded map
 * makes onnxruntime divide by zero, which ends the process; a padding of a few bytes may need all memory; a Loop may never end.
 */
export function runHazard(model: OnnxModel, images: Shape, subject: string): string | undefined {
  if (hasLoop(model.graph)) return "a Loop, whose number of iterations is not limited";
  const [input] = fedInputs(model.graph);
  const inputs = model.graph.inputs.map((each) => (each === input ? { ...each, shape: images } : each));
  const { graph } = unblocked({ ...model.graph, inputs }, subject);
  const { values, first } = readGraph(graph, subject);
  const [rows = 0, columns = 0] = first.form.size ?? [];
  const most = MAX_GROWTH * rows * columns + PADDED_PIXELS;
  for (const [name, value] of values) {
    const [height = 1, width = 1] = (value.kind === "node" && value.node.form.size) || [];
    const at = `on images ${formatShape(images)}, at ${quoted(name)}`;
    if (Math.min(height, width) < 1) return `a window that is larger than its map ${at}`;
    if (height * width > most) return `a map of ${height}×${width} ${at}`;
  }
  return undefined;
}

/** No map of an OSNet has more pixels than its images, except for padding, which is most of a tiny image's. */
const MAX_GROWTH = 16;
const PADDED_PIXELS = 1 << 16;

/** Whether a graph, or one inside it, has a Loop. */
export function hasLoop({ nodes }: Pick<OnnxGraph, "nodes">): boolean {
  return nodes.some(
    ({ opType, attributes }) =>
      opType === "Loop" ||
      [...attributes.values()].some((attribute) => attribute.type === "graph" && hasLoop(attribute.value)),
  );
}

/** Batch, channels, height and width of the images that a model reads, as far as it fixes them. */
export function imageShape({ graph }: OnnxModel): readonly (OnnxDimension | undefined)[] {
  const [input] = fedInputs(graph);
  const shape = input?.shape ?? [];
  return input && shape.length === 4
    ? towardsNchw(inputLayout(input.name, shape, graph.nodes)).map((axis) => shape[axis])
    : shape;
}

function inputValue({ name, shape = [] }: OnnxValue, { nodes }: OnnxGraph): Value {
  const layout = inputLayout(name, shape, nodes);
  const [, channels, height, width] = towardsNchw(layout).map((axis) => shape[axis]);
  const size: Size2d | undefined =
    typeof height === "number" && typeof width === "number" ? [height, width] : undefined;
  const rank = shape.length === 2 ? "flat" : "map";
  const form: Form = { rank, channels: typeof channels === "number" ? channels : RGB, size, intended: size };
  const laid: { readonly reading?: Reading } = isNchw(layout) ? {} : { reading: { layout } };
  const node: ForeignNode = { op: { kind: "input" }, inputs: [], constants: {}, form, value: name, ...laid };
  return { kind: "node", node, ...laid };
}

/** The number of channels of an image, if the file does not state it. */
const RGB = 3;

/**
 * NHWC if the shape has three channels last or, if no axis has a fixed size, if the graph transposes them to the
 * front.
 */
function inputLayout(name: string, shape: readonly OnnxDimension[], nodes: readonly OnnxNode[]): Layout {
  const [, second, , last] = shape;
  if (shape.length === 4 && last === RGB && second !== RGB) return NHWC;
  if (typeof second === "number" || typeof last === "number") return NCHW;
  const fromInput = new Set([name]);
  for (const { opType, domain, inputs, outputs, attributes } of nodes) {
    if (!fromInput.has(inputs[0] ?? "")) continue;
    if (domain === NHWC_DOMAIN) return NHWC;
    const order = attributes.get("perm");
    if (opType === "Transpose")
      return order?.type === "ints" && String(order.value) === "0,3,1,2" ? NHWC : NCHW;
    if (opType === "Conv") return NCHW;
    for (const output of outputs) fromInput.add(output);
  }
  return NCHW;
}

function nodeAt(values: ReadonlyMap<string, Value>, name: string): ForeignNode | undefined {
  const value = values.get(name);
  return value?.kind === "node" ? value.node : undefined;
}

/** The nodes that outputs depend on, in topological order, and the readers of each. */
function live(outputs: readonly ForeignNode[]): Pick<ForeignGraph, "nodes" | "consumers"> {
  const consumers = new Map<ForeignNode, ForeignNode[]>();
  const nodes: ForeignNode[] = [];
  // Depth first without recursion: a graph may be a chain of any length.
  const pending = outputs.toReversed().map((node) => ({ node, next: 0 }));
  for (let top = pending.at(-1); top; top = pending.at(-1)) {
    const { node, next } = top;
    if (next === 0) {
      if (consumers.has(node)) {
        pending.pop();
        continue;
      }
      consumers.set(node, []);
    }
    const input = node.inputs[next];
    if (input) {
      top.next++;
      if (!consumers.has(input)) pending.push({ node: input, next: 0 });
      continue;
    }
    pending.pop();
    nodes.push(node);
  }
  for (const node of nodes) for (const input of new Set(node.inputs)) consumers.get(input)?.push(node);
  return { nodes, consumers };
}

/**
 * Reading a graph: the meaning of each value, in the order of computation, and into branches that are taken.
 */

/** The values of a graph, or of a branch with those of the graph around it. */
interface Scope {
  readonly values: Map<string, Value>;
  readonly around: Scope | undefined;
}

interface NodeReader {
  readonly subject: string;
  /** Whether most weights, or the values that they are multiplied with, are half precision. */
  readonly isHalf: boolean;
  /** How many images the file takes, where it fixes that. */
  readonly batch: number | undefined;
  readonly census: Map<string, number>;
  /** The constants of the graph, but not of its branches, that were computed from others. */
  readonly computed: Map<string, Tensor>;
  /** Counts the elements of constants that were derived from others. */
  readonly meter: (elements: number) => void;
  /** The scope in which each node was first the meaning of a value. */
  readonly origins: Map<ForeignNode, Scope>;
  /** The branch of each `If` whose condition is known beforehand. */
  readonly taken: Map<OnnxNode, OnnxGraph>;
}

function nodeReader(graph: OnnxGraph, subject: string, batch: number | undefined): NodeReader {
  return {
    subject,
    batch,
    isHalf: isHalfPrecision(graph),
    census: new Map(),
    computed: new Map(),
    meter: budget([...graph.initializers.values()], subject),
    origins: new Map(),
    taken: new Map(),
  };
}

function readNodes({ initializers, nodes }: OnnxGraph, scope: Scope, reader: NodeReader): void {
  const { subject, isHalf, batch, census, computed, meter, origins } = reader;
  for (const [name, tensor] of initializers) scope.values.set(name, { kind: "constant", tensor });
  const readersOf = readersIn(nodes);
  for (const node of nodes) {
    const inputs = node.inputs.map((name) => (name === "" ? undefined : valueAt(scope, name, subject)));
    const taken = takenBranch(node, inputs, scope, reader);
    // An undecided `If` reads whatever its branches read from the enclosing graph.
    if (!taken && node.opType === "If") for (const value of captured(node, scope)) inputs.push(value);
    // A decided `If` counts as the nodes of its branch.
    if (!taken) census.set(node.opType, (census.get(node.opType) ?? 0) + 1);
    node.outputs.forEach((output, index) => {
      if (output === "") return;
      if (lookUp(scope, output))
        throw malformed(
          subject,
          `two definitions of the value ${JSON.stringify(output)}`,
          "one definition of each value",
        );
      const value = taken?.[index] ?? meaning({ node, inputs, output, isHalf, batch, readersOf }, index);
      const visible = scope.around ? unnamed(value, output) : value;
      scope.values.set(output, visible);
      if (visible.kind === "node" && !origins.has(visible.node)) origins.set(visible.node, scope);
      const made = newTensors(value, inputs);
      meter(elementsOf(made));
      if (value.kind === "constant" && !scope.around && !isGiven(node) && (made.length > 0 || isCast(node)))
        computed.set(output, value.tensor);
    });
  }
}

/** Operators that pass on their first input, in another order or precision. */
const PASSES_ON: ReadonlySet<string> = new Set([
  ...["Identity", "Cast", "Dropout", "Transpose", "QuantizeLinear", "DequantizeLinear"],
]);

/** The operators that read a value, possibly through operators that pass it on. */
function readersIn(nodes: readonly OnnxNode[]): (value: string) => ReadonlySet<string> {
  let readers: Map<string, OnnxNode[]> | undefined;
  const byInput = (): Map<string, OnnxNode[]> => {
    const found = new Map<string, OnnxNode[]>();
    for (const node of nodes)
      for (const input of node.inputs) {
        const known = found.get(input);
        if (known) known.push(node);
        else found.set(input, [node]);
      }
    return found;
  };
  return (value) => {
    readers ??= byInput();
    const found = new Set<string>();
    const seen = new Set<string>();
    const pending = [value];
    for (let next = pending.pop(); next !== undefined && seen.size < MAX_PASSED_ON; next = pending.pop()) {
      if (seen.has(next)) continue;
      seen.add(next);
      for (const { opType, outputs } of readers.get(next) ?? [])
        if (PASSES_ON.has(opType)) pending.push(...outputs.slice(0, 1));
        else found.add(opType);
    }
    return found;
  };
}

/** Maximum number of values that are followed to find the readers of one. */
const MAX_PASSED_ON = 64;

/**
 * The results of an `If` with a known condition: those of the branch taken, under the names of the node's outputs.
 * Undefined for all other nodes.
 */
function takenBranch(
  node: OnnxNode,
  [condition]: readonly (Value | undefined)[],
  scope: Scope,
  reader: NodeReader,
): readonly Value[] | undefined {
  const { opType, domain, attributes, outputs } = node;
  const [choice, ...others] = opType === "If" && domain === "" ? (numbers(condition) ?? []) : [];
  const branch = attributes.get(choice === 0 ? "else_branch" : "then_branch");
  if (choice === undefined || others.length > 0 || branch?.type !== "graph") return undefined;
  const inside: Scope = { values: new Map(), around: scope };
  readNodes(branch.value, inside, reader);
  reader.taken.set(node, branch.value);
  return branch.value.outputs.map(({ name }, index): Value => {
    const value = valueAt(inside, name, reader.subject);
    const output = outputs[index];
    if (value.kind !== "node" || value.node.value !== undefined || !output) return value;
    // A value that the branch passes on from outside remains the same node.
    return reader.origins.get(value.node) === inside
      ? { ...value, node: { ...value.node, value: output } }
      : value;
  });
}

/** The values around an `If` that its branches read. */
function captured(node: OnnxNode, scope: Scope): readonly (Value | undefined)[] {
  const names = new Set<string>();
  const visit = ({ attributes }: OnnxNode): void => {
    for (const attribute of attributes.values())
      if (attribute.type === "graph")
        for (const inner of attribute.value.nodes) {
          for (const name of inner.inputs) names.add(name);
          visit(inner);
        }
  };
  visit(node);
  return [...names].flatMap((name) => lookUp(scope, name) ?? []);
}

/** Outside its branch a value has no name, so no output can be it. */
function unnamed(value: Value, name: string): Value {
  return value.kind === "node" && value.node.value === name
    ? { ...value, node: { ...value.node, value: undefined } }
    : value;
}

function lookUp({ values, around }: Scope, name: string): Value | undefined {
  return values.get(name) ?? (around && lookUp(around, name));
}

function valueAt(scope: Scope, name: string, subject: string): Value {
  const value = lookUp(scope, name);
  if (value) return value;
  throw malformed(
    subject,
    `a node that reads ${JSON.stringify(name)}, which nothing before it computes`,
    "nodes in topological order",
  );
}

/**
 * Limit on constants derived from others by transposing or dequantising: a node of a few bytes could ask for a copy
 * of a weight. Quantised gates need two copies of their weights, which are small, for each stream.
 */
const COMPUTED_MULTIPLE = 16;
const COMPUTED_FLOOR = 1 << 22;

function budget(given: readonly Tensor[], subject: string): NodeReader["meter"] {
  const most = COMPUTED_FLOOR + COMPUTED_MULTIPLE * elementsOf(given);
  let computed = 0;
  return (elements) => {
    computed += elements;
    if (computed > most)
      throw malformed(
        subject,
        "constants that expand without limit",
        `constants of at most ${most} elements`,
      );
  };
}

/** Whether a node is a constant that the file has as it is. */
function isGiven({ opType, attributes }: OnnxNode): boolean {
  const values = [...attributes.values()].flatMap(({ type, value }) =>
    type === "int" || type === "ints" ? value : [],
  );
  return opType === "Constant" && values.every((value) => Math.abs(value) < Number.MAX_SAFE_INTEGER);
}

/** Whether a node may change numbers where it was read as nothing. */
function isCast({ opType }: OnnxNode): boolean {
  return opType === "Cast" || opType === "CastLike";
}

function newTensors(value: Value, inputs: readonly (Value | undefined)[]): readonly Tensor[] {
  const read = new Set(inputs.flatMap((input) => (input ? tensorsOf(input) : [])));
  return tensorsOf(value).filter((tensor) => !read.has(tensor));
}

function tensorsOf(value: Value): readonly Tensor[] {
  if (value.kind === "constant") return [value.tensor];
  return value.kind === "node" ? Object.values(value.node.constants) : [];
}

function elementsOf(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, { data }) => sum + data.length, 0);
}

/** An error about a graph that no runtime accepts. */
function malformed(subject: string, found: string, expected: string): InputError {
  return new InputError({ code: "format", subject, found, expected, remedy: "export the model again" });
}
