import {
  type LayerGraph,
  type LayerNode,
  type Op,
  type OpKind,
  outputShapes,
  type ParameterRole,
} from "../../arch/index.js";
import { IMAGENET } from "../../convert/export/options.js";
import { type Shape, sameShape, type Tensor } from "../../core/tensor.js";
import type { Constants } from "./constants.js";
import type { Call, Operation, ProofDocument } from "./operations.js";
import type { Goal, InputForm, Step, StepOf } from "./prover.js";

type Kind = Operation["kind"];
type OperationOf<K extends Kind> = Extract<Operation, { readonly kind: K }>;
type Of<K extends OpKind> = LayerNode & { readonly op: Op<K> };
type Rule<K extends OpKind> = (value: string, layer: Of<K>) => Step;

/** What is wrong with a tensor as a weight or bias; undefined if nothing is. */
type Differs = (role: "weight" | "bias", tensor: Tensor | undefined) => string | undefined;

/** float32's lowest, below which no number wins a maximum. */
const LOWEST = -(2 ** 128 - 2 ** 104);

const ROLES: readonly ParameterRole[] = ["weight", "bias", "runningMean", "runningVar"];

/** Operators that hand on what they are given, in a row: a document may have any number. */
const MAX_STEPS = 1000;

/** Calls of one input; all others have two, but for sums and products as layers, which may have more. */
const UNARY: ReadonlySet<Call> = new Set([
  "square",
  "sqrt",
  "rsqrt",
  "relu",
  "sigmoid",
  "softsign",
  "identity",
]);

/**
 * How operations compute each layer, exactly, for every finite input. Values are float32 and have the layer's own shape: what is
 * proven to be a layer has its shape, which is what makes broadcasting known.
 *
 * @param forms what the input is found to be is added
 */
export function stepsOf(
  graph: LayerGraph,
  document: ProofDocument,
  constants: Constants,
  forms: Set<InputForm>,
): StepOf {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const { size } = document;
  /** Shapes of any images tell ranks and channels; heights and widths only where the document fixes them. */
  const anyShapes = outputShapes(graph, [1, 3, 64, 64]);
  const shapes = size && outputShapes(graph, [1, 3, ...size]);

  /** Each is read once: weights that are laid out anew are then compared once. */
  const read = new Map<string, Operation>();
  const operation = (value: string): Operation => {
    const found = read.get(value) ?? document.operation(value);
    read.set(value, found);
    return found;
  };
  const origin = (value: string): string => {
    let name = value;
    for (let steps = 0; steps < MAX_STEPS; steps++) {
      const found = operation(name);
      if (found.kind !== "call" || found.name !== "identity") break;
      name = found.inputs[0] ?? "";
    }
    return name;
  };
  const at = <K extends Kind>(value: string | undefined, kind: K): OperationOf<K> | undefined => {
    const found = value === undefined ? undefined : operation(origin(value));
    return found?.kind === kind ? (found as OperationOf<K>) : undefined;
  };
  /** The input, or both, of a call; of a sum of more there are none. */
  const call = (value: string | undefined, name: Call): readonly [string, string] | undefined => {
    const found = at(value, "call");
    const [a = "", b = ""] = found?.inputs ?? [];
    return found?.name === name && found.inputs.length === (UNARY.has(name) ? 1 : 2) ? [a, b] : undefined;
  };
  const same = (a: string | undefined, b: string | undefined): boolean =>
    a !== undefined && b !== undefined && origin(a) === origin(b);
  /** Both orders of a sum's or product's two inputs. */
  const orders = (
    value: string | undefined,
    name: "add" | "multiply",
  ): readonly (readonly [string, string])[] => {
    const inputs = call(value, name);
    return inputs ? [inputs, [inputs[1], inputs[0]]] : [];
  };
  const isNumber = (value: string, wanted: number): boolean => document.number(value) === Math.fround(wanted);
  const rankOf = ({ name }: LayerNode): 2 | 4 => (anyShapes.get(name)?.length === 2 ? 2 : 4);

  const byChannel = new Map<string, Tensor | undefined>();
  const channels = (value: string, rank: 2 | 4): Tensor | undefined => {
    const key = `${rank} ${value}`;
    if (!byChannel.has(key)) byChannel.set(key, document.channels(value, rank));
    return byChannel.get(key);
  };
  const isParameter = (layer: LayerNode, role: ParameterRole, tensor: Tensor | undefined): boolean =>
    tensor !== undefined && constants.differs(layer, role, shaped(tensor, layer)) === undefined;
  const isChannels = (layer: LayerNode, role: ParameterRole, value: string): boolean =>
    isParameter(layer, role, channels(value, rankOf(layer)));

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
    accepted(
      value,
      x,
      layer,
      x === undefined ? `${layer.op.kind} is expected, as ${layer.name} is` : undefined,
    );

  /** What a value is the mean of over height and width, which stay as ones; `shape` is that of the map, if it is fixed. */
  const meanOf = (value: string, shape: Shape | undefined): string | undefined => {
    const inner = reduced(value, shape, "mean");
    if (inner !== undefined) return inner;
    // A mean, and the mean of what is left without it, which is zero but for rounding.
    for (const [rough, off] of orders(value, "add")) {
      const x = reduced(rough, shape, "mean");
      const rest = call(reduced(off, shape, "mean"), "subtract");
      if (x !== undefined && rest && same(rest[0], x) && same(rest[1], rough)) return x;
    }
    return undefined;
  };
  const reduced = (value: string, shape: Shape | undefined, type: "mean" | "max"): string | undefined => {
    const [, , height = 0, width = 0] = shape ?? [];
    // One axis after the other, or both at once; an axis of one needs no step.
    let [left, x] = [new Set([2, 3]), origin(value)];
    for (let steps = 0; steps < 2 && left.size > 0; steps++) {
      const reduce = at(x, "reduce");
      const pool = at(x, "pool");
      if (reduce?.keeps && reduce.type === type && reduce.axes.every((axis) => left.has(axis))) {
        left = new Set([...left].filter((axis) => !reduce.axes.includes(axis)));
        x = origin(reduce.x);
      } else if (pool && shape && pool.type === type && sameShape(pool.padding, [0, 0])) {
        const [rows, columns] = pool.window;
        const isWhole = (rows === height || rows === 1) && (columns === width || columns === 1);
        if (!isWhole || !sameShape(pool.window, pool.stride)) break;
        left = new Set([...left].filter((axis) => (axis === 2 ? rows !== height : columns !== width)));
        x = origin(pool.x);
      } else break;
    }
    return [...left].every((axis) => shape?.[axis] === 1) ? x : undefined;
  };
  const inputShape = ({ inputs: [source = ""] }: LayerNode): Shape | undefined => shapes?.get(source);

  /** A value times the weight of a norm over √(variance + ε), by the ways to write that. */
  const scalings = (
    value: string | undefined,
    layer: Of<"batchNorm" | "instanceNorm" | "layerNorm">,
  ): readonly { readonly x: string; readonly variance: string; readonly scale: string }[] => {
    const stabilised = (root: string | undefined): string | undefined =>
      orders(root, "add").find(([, added]) => isNumber(added, layer.op.epsilon))?.[0];
    return orders(value, "multiply").flatMap(([x, scale]) => {
      const quotient = call(x, "divide");
      const variance = stabilised(call(quotient?.[1], "sqrt")?.[0]);
      if (quotient && variance !== undefined && isChannels(layer, "weight", scale))
        return [{ x: quotient[0], variance, scale }];
      return orders(scale, "multiply").flatMap(([root, gamma]) => {
        const inside = stabilised(call(root, "rsqrt")?.[0]);
        return inside !== undefined && isChannels(layer, "weight", gamma)
          ? [{ x, variance: inside, scale }]
          : [];
      });
    });
  };

  /** The convolution or product of a value, its bias added or within. */
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
    // Zeros around the map may be an operator of their own.
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
        ? tensor && "a bias that the layer has not"
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
    for (const [scaled, beta] of orders(value, "add"))
      for (const { x: centred, variance } of scalings(scaled, layer)) {
        const [x, mean = ""] = call(centred, "subtract") ?? [];
        const isNorm =
          isChannels(layer, "runningVar", variance) &&
          isChannels(layer, "runningMean", mean) &&
          isChannels(layer, "bias", beta);
        if (x !== undefined && isNorm) return { goals: [goal(x, layer)] };
      }
    const source = layers.get(layer.inputs[0] ?? "");
    if (source?.op.kind !== "conv" && source?.op.kind !== "linear")
      return refused(value, "a batch norm is expected");
    return linear(value, source, (role, tensor) => constants.differsFolded(source, layer, role, tensor));
  };

  /** x · s + (β − mean · s), s = γ / √(variance + ε). */
  const instanceNorm = (value: string, layer: Of<"instanceNorm">): Step => {
    const norm = at(value, "normalise");
    if (norm && isNormOver(norm, layer, [2, 3])) return { goals: [goal(norm.x, layer)] };
    const shape = inputShape(layer);
    for (const [scaled, shift] of orders(value, "add"))
      for (const { x, variance, scale } of scalings(scaled, layer)) {
        const [beta = "", moved] = call(shift, "subtract") ?? [];
        if (!isChannels(layer, "bias", beta)) continue;
        for (const [mean, again] of orders(moved, "multiply")) {
          const squares = call(meanOf(variance, shape), "squaredDifference");
          const isNorm =
            same(again, scale) &&
            same(meanOf(mean, shape), x) &&
            squares &&
            same(squares[0], x) &&
            same(squares[1], mean);
          if (isNorm) return { goals: [goal(x, layer)] };
        }
      }
    return kerasInstanceNorm(value, layer, shape);
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

  /** −x. */
  const opposite = (value: string | undefined): string | undefined => {
    const found = at(value, "rescale");
    return found?.factor === -1 && found.offset === 0 ? found.x : undefined;
  };
  /** −c², as a product of c with its opposite. */
  const minusSquare = (value: string | undefined): string | undefined =>
    orders(value, "multiply").find(([x, mirrored]) => same(opposite(mirrored), x))?.[0];

  /**
   * γ, β by a depthwise convolution of y + y · e / 2, with y = c / √(v + ε) of c = x − mean and e = v / (v + ε) − mean(y²), which is zero.
   */
  const kerasInstanceNorm = (value: string, layer: Of<"instanceNorm">, shape: Shape | undefined): Step => {
    const { epsilon, channels: count } = layer.op;
    const scaled = at(value, "conv");
    for (const [y, correction] of orders(scaled?.x, "add"))
      for (const [factor, half] of orders(correction, "multiply")) {
        const norm = at(y, "normalise");
        const halved = at(half, "rescale");
        if (!scaled || !norm || !same(factor, y) || halved?.factor !== 0.5 || halved.offset !== 0) continue;
        for (const [expected, energy] of orders(halved.x, "add")) {
          const ratio = at(call(expected, "softsign")?.[0], "rescale");
          const isRatio = ratio?.offset === 0 && ratio.factor === -1 / epsilon;
          const centred = norm.x;
          const isVariance = isRatio && same(minusSquare(meanOf(ratio.x, shape)), centred);
          const isEnergy = same(minusSquare(meanOf(energy, shape)), y);
          const [x] = orders(centred, "add").flatMap(([left, mean]) =>
            same(meanOf(opposite(mean) ?? "", shape), left) ? [left] : [],
          );
          const isNorm =
            norm.epsilon === epsilon && sameShape(norm.axes, [2, 3]) && !norm.gamma && !norm.beta;
          const isScale =
            scaled.groups === count &&
            sameShape(scaled.stride, [1, 1]) &&
            sameShape(scaled.padding, [0, 0]) &&
            sameShape(scaled.weight.shape, [count, 1, 1, 1]) &&
            isParameter(layer, "weight", { ...scaled.weight, shape: [count] }) &&
            isParameter(layer, "bias", scaled.bias);
          if (x !== undefined && isVariance && isEnergy && isNorm && isScale)
            return { goals: [goal(x, layer)] };
        }
      }
    return refused(value, "an instance norm is expected");
  };

  /** (x − mean) · γ / √(variance + ε) + β of one pixel, over all its channels. */
  const layerNorm = (value: string, layer: Of<"layerNorm">): Step => {
    const norm = at(value, "normalise");
    if (norm && isNormOver(norm, layer, [1], [1, 2, 3])) return { goals: [goal(norm.x, layer)] };
    const overAll = (name: string | undefined): string | undefined => {
      const reduce = at(name, "reduce");
      return reduce?.keeps && reduce.type === "mean" && sameShape(reduce.axes, [1, 2, 3])
        ? reduce.x
        : undefined;
    };
    const squareOf = (name: string | undefined): string | undefined => {
      const [a, b] = call(name, "multiply") ?? [];
      return call(name, "square")?.[0] ?? (same(a, b) ? a : undefined);
    };
    for (const [scaled, beta] of orders(value, "add"))
      for (const { x: centred, variance } of scalings(scaled, layer)) {
        const [x, mean] = call(centred, "subtract") ?? [];
        const isNorm =
          same(overAll(mean), x) &&
          same(squareOf(overAll(variance)), centred) &&
          isChannels(layer, "bias", beta);
        if (isNorm) return { goals: [goal(x, layer)] };
      }
    return refused(value, "a layer norm is expected");
  };

  const maxPool = (value: string, layer: Of<"maxPool">): Step => {
    const { kernel, stride, padding } = layer.op;
    const pool = at(value, "pool");
    if (pool?.type !== "max" || !sameShape(pool.window, kernel) || !sameShape(pool.stride, stride))
      return refused(value, `${layer.name} is expected`);
    if (sameShape(pool.padding, padding)) return { goals: [goal(pool.x, layer)] };
    const pad = sameShape(pool.padding, [0, 0]) ? at(pool.x, "pad") : undefined;
    // Zeros never win over what a ReLU gives.
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
    const width = anyShapes.get(layer.name)?.[1];
    return unary(value, layer, found && (found.width ?? width) === width ? found.x : undefined);
  };

  const sum = (value: string): readonly string[] | undefined => {
    const found = at(value, "call");
    return found?.name === "add" ? found.inputs : undefined;
  };

  /** (x / 255 − mean) / deviation by channel, of pixels in either order. */
  const pixels = (value: string): Step => {
    const [centred, deviation = ""] = call(value, "divide") ?? [];
    const [scaled, mean = ""] = call(centred, "subtract") ?? [];
    const [pixel = "", white = ""] = call(scaled, "divide") ?? [];
    const swap = at(pixel, "reverse");
    const isPixels =
      isVector(channels(deviation, 4), IMAGENET.deviation) &&
      isVector(channels(mean, 4), IMAGENET.mean) &&
      isNumber(white, IMAGENET.white);
    if (!isPixels || origin(swap?.x ?? pixel) !== document.input) return convolvedPixels(value);
    forms.add(swap ? "bgr" : "rgb");
    return { goals: [] };
  };
  /** The same as a convolution of one pixel without padding. */
  const convolvedPixels = (value: string): Step => {
    const conv = at(value, "conv");
    const { white, mean, deviation } = IMAGENET;
    const isOnePixel =
      conv?.groups === 1 &&
      sameShape(conv.weight.shape, [3, 3, 1, 1]) &&
      sameShape(conv.stride, [1, 1]) &&
      sameShape(conv.padding, [0, 0]);
    const shift = deviation.map((spread, channel) => -(mean[channel] ?? 0) / spread);
    for (const order of ["rgb", "bgr"] as const) {
      const kernel = Array.from({ length: 9 }, (_, index) => {
        const [channel, from] = [Math.floor(index / 3), index % 3];
        const taken = order === "bgr" ? 2 - channel : channel;
        return from === taken ? 1 / (white * (deviation[channel] ?? 1)) : 0;
      });
      const isOrder =
        isOnePixel && kernel.every((number, index) => conv.weight.data[index] === Math.fround(number));
      if (!isOrder || !isVector(conv.bias, shift) || origin(conv.x) !== document.input) continue;
      forms.add(order);
      return { goals: [] };
    }
    return refused(value, "normalised images, or pixels through torchreid's statistics, are expected");
  };

  const RULES: { readonly [K in OpKind]: Rule<K> } = {
    input: pixels,
    conv: (value, layer) => linear(value, layer, plain(layer)),
    linear: (value, layer) => linear(value, layer, plain(layer)),
    batchNorm,
    instanceNorm,
    layerNorm,
    relu: (value, layer) => unary(value, layer, call(value, "relu")?.[0]),
    sigmoid: (value, layer) => unary(value, layer, call(value, "sigmoid")?.[0]),
    maxPool,
    avgPool,
    globalAvgPool: (value, layer) => unary(value, layer, meanOf(value, inputShape(layer))),
    globalMaxPool: (value, layer) => unary(value, layer, reduced(value, inputShape(layer), "max")),
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
      return refused(source, found.why || "not among the operators and forms of them that the proof knows");
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

/** Layer norm's parameters are images [channels, 1, 1] of one pixel. */
function shaped(tensor: Tensor, { op }: LayerNode): Tensor {
  const isVector = op.kind === "layerNorm" && sameShape(tensor.shape, [op.channels]);
  return isVector ? { ...tensor, shape: [op.channels, 1, 1] } : tensor;
}

function isVector(tensor: Tensor | undefined, wanted: readonly number[]): boolean {
  return (
    tensor?.dtype === "float32" &&
    sameShape(tensor.shape, [wanted.length]) &&
    wanted.every((value, index) => tensor.data[index] === Math.fround(value))
  );
}
