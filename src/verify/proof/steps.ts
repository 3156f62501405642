import {
  type LayerGraph,
  type LayerNode,
  type Op,
  type OpKind,
  outputShapes,
  type ParameterRole,
} from "../../arch/index.js";
import { type Shape, sameShape, type Tensor } from "../../core/tensor.js";
import { decompositionsOf } from "./decompositions.js";
import { type Constants, type OperationOf, operationsOf, type ProofDocument } from "./operations.js";
import type { Goal, InputForm, Step, StepOf } from "./prover.js";

type Of<K extends OpKind> = LayerNode & { readonly op: Op<K> };
type Rule<K extends OpKind> = (value: string, layer: Of<K>) => Step;

/** The difference between a tensor and a weight or bias; undefined if there is none. */
type Differs = (role: "weight" | "bias", tensor: Tensor | undefined) => string | undefined;

/** float32's lowest number, which never changes a maximum. */
const LOWEST = -(2 ** 128 - 2 ** 104);

const ROLES: readonly ParameterRole[] = ["weight", "bias", "runningMean", "runningVar"];

/**
 * How operations compute each layer, exactly, for every finite input. Values are float32 and have the layer's own
 * shape: a value that is proven to be a layer has its shape, so broadcasting is known.
 *
 * @param forms the form of the input is added to it
 */
export function stepsOf(
  graph: LayerGraph,
  document: ProofDocument,
  constants: Constants,
  forms: Set<InputForm>,
): StepOf {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const operations = operationsOf(graph, document, constants);
  const { operation, origin, at, call, orders, channels, isParameter } = operations;
  const decomposed = decompositionsOf(operations);
  const { size } = document;
  const shapes = size && outputShapes(graph, [1, 3, ...size]);

  const refused = (value: string, why: string): Step => ({
    refused: `${document.describe(origin(value))}: ${why}`,
  });
  const accepted = (
    value: string,
    x: string | undefined,
    layer: LayerNode,
    problem: string | undefined,
  ): Step => (problem === undefined ? { goals: [goal(x, layer)] } : refused(value, problem));
  const unary = (value: string, layer: LayerNode, x: string | undefined): Step =>
    accepted(value, x, layer, x === undefined ? `${layer.op.kind} is expected for ${layer.name}` : undefined);

  const inputShape = ({ inputs: [source = ""] }: LayerNode): Shape | undefined => shapes?.get(source);

  /** The convolution or matrix product of a value, with its bias inside or added separately. */
  const weighted = (value: string): OperationOf<"conv" | "linear"> | undefined => {
    const found = at(value, "conv") ?? at(value, "linear");
    if (found) return found;
    for (const [product, bias] of orders(value, "add")) {
      const plain = at(product, "conv") ?? at(product, "linear");
      const tensor = channels(bias, plain?.kind === "conv" ? 4 : 2);
      if (plain && !plain.bias && tensor) return { ...plain, bias: tensor };
    }
    return undefined;
  };
  const linear = (value: string, layer: LayerNode, differs: Differs): Step => {
    const { op } = layer;
    const found = weighted(value);
    if (!found || found.kind !== op.kind) return refused(value, `${layer.name} is expected`);
    const problem = differs("weight", found.weight) ?? differs("bias", found.bias);
    if (found.kind === "linear" || op.kind !== "conv") return accepted(value, found.x, layer, problem);
    // Zero padding of the map may be a separate operator.
    const pad = sameShape(found.padding, [0, 0]) ? at(found.x, "pad") : undefined;
    const isPadded = pad?.value === 0;
    const isRight =
      found.groups === op.groups &&
      sameShape(found.stride, op.stride) &&
      sameShape(isPadded ? pad.sizes : found.padding, op.padding);
    if (!isRight) return refused(value, "another stride, padding or number of groups");
    return accepted(value, isPadded ? pad.x : found.x, layer, problem);
  };
  const plain =
    (layer: LayerNode): Differs =>
    (role, tensor) =>
      role === "bias" && layer.parameters.bias === undefined
        ? tensor && "a bias that the layer does not have"
        : constants.differs(layer, role, tensor);

  const batchNorm = (value: string, layer: Of<"batchNorm">): Step => {
    const norm = at(value, "batchNorm");
    if (norm) {
      const problem = ROLES.flatMap(
        (role, index) => constants.differs(layer, role, norm.constants[index]) ?? [],
      )[0];
      return accepted(
        value,
        norm.x,
        layer,
        isEpsilon(norm.epsilon, layer.op.epsilon) ? problem : "another epsilon",
      );
    }
    const x = decomposed.batchNorm(value, layer);
    if (x !== undefined) return { goals: [goal(x, layer)] };
    const source = layers.get(layer.inputs[0] ?? "");
    if (source?.op.kind !== "conv" && source?.op.kind !== "linear")
      return refused(value, "a batch norm is expected");
    return linear(value, source, (role, tensor) => constants.differsFolded(source, layer, role, tensor));
  };

  const instanceNorm = (value: string, layer: Of<"instanceNorm">): Step => {
    const norm = at(value, "normalise");
    if (norm && isNormOver(norm, layer, [2, 3])) return { goals: [goal(norm.x, layer)] };
    const x = decomposed.instanceNorm(value, layer, inputShape(layer));
    return accepted(value, x, layer, x === undefined ? "an instance norm is expected" : undefined);
  };
  const isNormOver = (
    { axes, epsilon, gamma, beta }: OperationOf<"normalise">,
    layer: Of<"instanceNorm" | "layerNorm">,
    ...over: readonly (readonly number[])[]
  ): boolean =>
    over.some((wanted) => sameShape(axes, wanted)) &&
    isEpsilon(epsilon, layer.op.epsilon) &&
    isParameter(layer, "weight", gamma) &&
    isParameter(layer, "bias", beta);

  const layerNorm = (value: string, layer: Of<"layerNorm">): Step => {
    const norm = at(value, "normalise");
    if (norm && isNormOver(norm, layer, [1], [1, 2, 3])) return { goals: [goal(norm.x, layer)] };
    const x = decomposed.layerNorm(value, layer);
    return accepted(value, x, layer, x === undefined ? "a layer norm is expected" : undefined);
  };

  const maxPool = (value: string, layer: Of<"maxPool">): Step => {
    const { kernel, stride, padding } = layer.op;
    const pool = at(value, "pool");
    if (pool?.type !== "max" || !sameShape(pool.window, kernel) || !sameShape(pool.stride, stride))
      return refused(value, `${layer.name} is expected`);
    if (sameShape(pool.padding, padding)) return { goals: [goal(pool.x, layer)] };
    const pad = sameShape(pool.padding, [0, 0]) ? at(pool.x, "pad") : undefined;
    // Zeros never exceed the result of a ReLU.
    const fromRelu = layers.get(layer.inputs[0] ?? "")?.op.kind === "relu";
    const isPadding =
      pad && sameShape(pad.sizes, padding) && (pad.value === LOWEST || (pad.value === 0 && fromRelu));
    return unary(value, layer, isPadding ? pad.x : undefined);
  };
  const avgPool = (value: string, layer: Of<"avgPool">): Step => {
    const pool = at(value, "pool");
    const isPool =
      pool?.type === "mean" &&
      sameShape(pool.window, layer.op.kernel) &&
      sameShape(pool.stride, layer.op.stride) &&
      sameShape(pool.padding, [0, 0]);
    return unary(value, layer, isPool ? pool.x : undefined);
  };
  /** [N, C] of a map of one pixel, or of the map before its pool, reduced without keeping its axes. */
  const flatten = (value: string, layer: Of<"flatten">): Step => {
    const pool = layers.get(layer.inputs[0] ?? "");
    const type =
      pool?.op.kind === "globalAvgPool" ? "mean" : pool?.op.kind === "globalMaxPool" ? "max" : undefined;
    const reduce = at(value, "reduce");
    if (pool && reduce && !reduce.keeps && reduce.type === type && sameShape(reduce.axes, [2, 3]))
      return { goals: [goal(reduce.x, pool)] };
    const found = at(value, "flatten");
    const width = outputShapes(graph, [1, 3, 64, 64]).get(layer.name)?.[1];
    return unary(value, layer, found && (found.width ?? width) === width ? found.x : undefined);
  };

  const input = (value: string): Step => {
    const order = decomposed.pixels(value, document.input);
    if (!order)
      return refused(value, "normalised images, or pixels through torchreid's statistics, are expected");
    forms.add(order);
    return { goals: [] };
  };
  const sum = (value: string): readonly string[] | undefined => {
    const found = at(value, "call");
    return found?.name === "add" ? found.inputs : undefined;
  };

  const RULES: { readonly [K in OpKind]: Rule<K> } = {
    input,
    conv: (value, layer) => linear(value, layer, plain(layer)),
    linear: (value, layer) => linear(value, layer, plain(layer)),
    batchNorm,
    instanceNorm,
    layerNorm,
    relu: (value, layer) => unary(value, layer, call(value, "relu")?.[0]),
    sigmoid: (value, layer) => unary(value, layer, call(value, "sigmoid")?.[0]),
    maxPool,
    avgPool,
    globalAvgPool: (value, layer) => unary(value, layer, decomposed.pooled(value, inputShape(layer), "mean")),
    globalMaxPool: (value, layer) => unary(value, layer, decomposed.pooled(value, inputShape(layer), "max")),
    flatten,
    scale: (value) => {
      const found = at(value, "call");
      return found?.name === "multiply" ? { terms: found.inputs } : refused(value, "a product is expected");
    },
    add: (value) => {
      const terms = sum(value);
      return terms ? { terms, parts: sum } : refused(value, "a sum is expected");
    },
  };

  return (value, layer) => {
    const source = origin(value);
    if (layer.op.kind === "input" && source === document.input) {
      forms.add("normalised");
      return { goals: [] };
    }
    const found = operation(source);
    if (found.kind === "unknown")
      return refused(source, found.why || "not an operator, or a form of one, that the proof covers");
    // One lookup over a union of operations: the table's type pairs each kind with its own function.
    return (RULES[layer.op.kind] as Rule<OpKind>)(source, layer);
  };
}

function goal(value: string | undefined, layer: LayerNode): Goal {
  return [value ?? "", layer.inputs[0] ?? ""];
}

function isEpsilon(found: number, wanted: number): boolean {
  return Math.fround(found) === Math.fround(wanted);
}
