import {
  type LayerGraph,
  type LayerNode,
  type Op,
  type OpKind,
  outputShapes,
  type ParameterRole,
} from "../../arch/index.js";
import { IMAGENET } from "../../convert/export/options.js";
import { permute, type Shape, sameShape, type Tensor } from "../../core/tensor.js";
import type { Constants } from "./constants.js";
import type { Goal, InputForm, Step, StepOf } from "./prover.js";
import type { Call, Operation, TfDocument } from "./tf-values.js";

type Kind = Operation["kind"];
type OperationOf<K extends Kind> = Extract<Operation, { readonly kind: K }>;
type Of<K extends OpKind> = LayerNode & { readonly op: Op<K> };
type Rule<K extends OpKind> = (value: string, layer: Of<K>) => Step;

/** float32's lowest, below which no number wins a maximum. */
const LOWEST = -(2 ** 128 - 2 ** 104);
const ROLES: readonly ParameterRole[] = ["weight", "bias", "runningMean", "runningVar"];

/**
 * How TensorFlow's operators compute each layer, exactly, for every finite input. Values are float32 and have the layer's shape,
 * NHWC or NC: what is proven to be a layer has its shape.
 */
export function tfSteps(
  graph: LayerGraph,
  document: TfDocument,
  constants: Constants,
  forms: Set<InputForm>,
): StepOf {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const { size } = document;
  const shapes = size && outputShapes(graph, [1, 3, ...size]);
  const { constant } = document;

  const origin = (value: string): string => {
    let name = value;
    for (let steps = 0; steps < MAX_STEPS; steps++) {
      const found = document.operation(name);
      if (found?.kind !== "call" || found.name !== "identity") break;
      name = found.inputs[0] ?? "";
    }
    return name;
  };
  const at = <K extends Kind>(value: string | undefined, kind: K): OperationOf<K> | undefined => {
    const found = value === undefined ? undefined : document.operation(origin(value));
    return found?.kind === kind ? (found as OperationOf<K>) : undefined;
  };
  const call = (value: string | undefined, name: Call): readonly [string, string] | undefined => {
    const found = at(value, "call");
    const [a = "", b = ""] = found?.inputs ?? [];
    return found?.name === name ? [a, b] : undefined;
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
  const isScalar = (value: string, wanted: number): boolean => {
    const tensor = constant(value);
    return tensor?.dtype === "float32" && tensor.shape.length === 0 && tensor.data[0] === Math.fround(wanted);
  };
  const refused = (value: string, why: string): Step => ({
    refused: `${document.describe(origin(value))}: ${why}`,
  });
  const accepted = (
    value: string,
    x: string | undefined,
    layer: LayerNode,
    problem: string | undefined,
  ): Step => (problem === undefined ? { goals: [goal(x, layer)] } : refused(value, problem));

  /** What a value is the mean of over height and width, which stay as ones; `shape` is that of the map, if it is fixed. */
  const meanOf = (value: string, shape: Shape | undefined): string | undefined => {
    const inner = plainMean(value, shape, "average");
    if (inner !== undefined) return inner;
    // A mean, and the mean of what is left without it, which is zero but for rounding.
    for (const [rough, off] of orders(value, "add")) {
      const x = plainMean(rough, shape, "average");
      const rest = call(plainMean(off, shape, "average"), "subtract");
      if (x !== undefined && rest && same(rest[0], x) && same(rest[1], rough)) return x;
    }
    return undefined;
  };
  const plainMean = (
    value: string,
    shape: Shape | undefined,
    type: "average" | "max",
  ): string | undefined => {
    const [, , height = 0, width = 0] = shape ?? [];
    // One axis after the other, or both at once; an axis of one needs no step.
    let [left, x] = [new Set([1, 2]), origin(value)];
    for (let steps = 0; steps < 2 && left.size > 0; steps++) {
      const reduce = at(x, "reduce");
      const pool = at(x, "pool");
      if (
        reduce &&
        reduce.type === (type === "max" ? "max" : "mean") &&
        reduce.axes.every((axis) => left.has(axis))
      ) {
        left = new Set([...left].filter((axis) => !reduce.axes.includes(axis)));
        x = origin(reduce.x);
      } else if (pool && shape && pool.type === type) {
        const [rows, columns] = pool.window;
        const isWhole = (rows === height || rows === 1) && (columns === width || columns === 1);
        if (!isWhole || !sameShape(pool.window, pool.stride)) break;
        left = new Set([...left].filter((axis) => (axis === 1 ? rows !== height : columns !== width)));
        x = origin(pool.x);
      } else break;
    }
    const isDone = [...left].every((axis) => shape !== undefined && shape[axis + 1] === 1);
    return isDone ? x : undefined;
  };
  const inputShape = ({ inputs: [source = ""] }: LayerNode): Shape | undefined => shapes?.get(source);

  /** The x of γ / √(x + ε). */
  const scaleOf = (
    value: string,
    epsilon: number,
    gamma: (tensor: Tensor | undefined) => boolean,
  ): string | undefined => {
    for (const [root, weight] of orders(value, "multiply")) {
      const inverse = call(root, "rsqrt");
      if (!inverse || !gamma(constant(weight))) continue;
      for (const [variance, added] of orders(inverse[0], "add"))
        if (isScalar(added, epsilon)) return variance;
    }
    return undefined;
  };
  const isParameter = (layer: LayerNode, role: ParameterRole, tensor: Tensor | undefined): boolean =>
    tensor !== undefined && constants.differs(layer, role, shaped(tensor, layer)) === undefined;

  /** The convolution or product of a value, its bias added or within. */
  const weighted = (value: string): OperationOf<"conv" | "dense"> | undefined => {
    const found = at(value, "conv") ?? at(value, "dense");
    if (found) return found;
    for (const [product, bias] of orders(value, "add")) {
      const plain = at(product, "conv") ?? at(product, "dense");
      const tensor = constant(bias);
      if (plain && !plain.bias && tensor) return { ...plain, bias: tensor };
    }
    return undefined;
  };
  const linear = (value: string, layer: LayerNode, differs: Differs): Step => {
    const { op } = layer;
    const found = weighted(value);
    if (found?.kind === "dense" && op.kind === "linear") {
      const { weight, bias } = found;
      const problem =
        weight.shape.length === 2 ? differs("weight", permute(weight, [1, 0])) : "another weight";
      return accepted(value, found.x, layer, problem ?? differs("bias", bias));
    }
    if (found?.kind !== "conv" || op.kind !== "conv" || found.weight.shape.length !== 4)
      return refused(value, `${layer.name} is expected`);
    const { isDepthwise, weight, bias, stride } = found;
    const padding = found.padding === "same" ? op.kernel.map((length) => (length - 1) / 2) : found.padding;
    const pad = found.padding === "same" ? undefined : at(found.x, "pad");
    // Zeros around the map, by an operator of their own.
    const isPadded = pad !== undefined && pad.value === 0 && sameShape(padding, [0, 0]);
    const isRight =
      sameShape(stride, op.stride) &&
      sameShape(isPadded ? pad.sizes : padding, op.padding) &&
      isDepthwise === (op.groups !== 1) &&
      (op.groups === 1 || op.groups === op.outChannels);
    if (!isRight) return refused(value, "another stride, padding or number of groups");
    const laidOut = permute(weight, isDepthwise ? [2, 3, 0, 1] : [3, 2, 0, 1]);
    return accepted(
      value,
      isPadded ? pad.x : found.x,
      layer,
      differs("weight", laidOut) ?? differs("bias", bias),
    );
  };
  const plain =
    (layer: LayerNode): Differs =>
    (role, tensor) =>
      role === "bias" && layer.parameters.bias === undefined
        ? tensor && "a bias that the layer has not"
        : constants.differs(layer, role, tensor);

  const batchNorm = (value: string, layer: Of<"batchNorm">): Step => {
    const { epsilon } = layer.op;
    const norm = at(value, "batchNorm");
    if (norm) {
      const problem = ROLES.flatMap(
        (role, index) => constants.differs(layer, role, norm.constants[index]) ?? [],
      )[0];
      return accepted(
        value,
        norm.x,
        layer,
        Math.fround(norm.epsilon) === Math.fround(epsilon) ? problem : "another epsilon",
      );
    }
    for (const [scaled, beta] of orders(value, "add"))
      for (const [centred, scale] of orders(scaled, "multiply")) {
        const [x, mean = ""] = call(centred, "subtract") ?? [];
        const variance = scaleOf(scale, epsilon, (gamma) => isParameter(layer, "weight", gamma));
        const isNorm =
          variance !== undefined &&
          isParameter(layer, "runningVar", constant(variance)) &&
          isParameter(layer, "runningMean", constant(mean)) &&
          isParameter(layer, "bias", constant(beta));
        if (x !== undefined && isNorm) return { goals: [goal(x, layer)] };
      }
    const source = layers.get(layer.inputs[0] ?? "");
    if (source?.op.kind !== "conv" && source?.op.kind !== "linear")
      return refused(value, "a batch norm is expected");
    return linear(value, source, (role, tensor) => constants.differsFolded(source, layer, role, tensor));
  };

  /** x · s + (β − mean · s), s = γ / √(variance + ε). */
  const instanceNorm = (value: string, layer: Of<"instanceNorm">): Step => {
    const shape = inputShape(layer);
    for (const [scaled, shift] of orders(value, "add"))
      for (const [x, scale] of orders(scaled, "multiply")) {
        const variance = scaleOf(scale, layer.op.epsilon, (gamma) => isParameter(layer, "weight", gamma));
        const [beta = "", moved] = call(shift, "subtract") ?? [];
        if (variance === undefined || !isParameter(layer, "bias", constant(beta))) continue;
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

  /** −x. */
  const opposite = (value: string | undefined): string | undefined => {
    const found = at(value, "rescale");
    return found?.factor === -1 && found.offset === 0 ? found.x : undefined;
  };

  /** −c², as a product of c with its opposite. */
  const minusSquare = (value: string | undefined): string | undefined => {
    for (const [x, mirrored] of orders(value, "multiply")) if (same(opposite(mirrored), x)) return x;
    return undefined;
  };

  /**
   * γ, β by a depthwise convolution of y + y · e / 2, with y = c / √(v + ε) of c = x − mean and e = v / (v + ε) − mean(y²), which is zero.
   */
  const kerasInstanceNorm = (value: string, layer: Of<"instanceNorm">, shape: Shape | undefined): Step => {
    const { epsilon, channels } = layer.op;
    const scaled = at(value, "conv");
    for (const [y, correction] of orders(scaled?.x, "add"))
      for (const [factor, half] of orders(correction, "multiply")) {
        const norm = at(y, "normalise");
        const halved = at(half, "rescale");
        if (!norm || !same(factor, y) || halved?.factor !== 0.5 || halved.offset !== 0) continue;
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
            norm.epsilon === epsilon && sameShape(norm.axes, [1, 2]) && !norm.gamma && !norm.beta;
          if (x === undefined || !isVariance || !isEnergy || !isNorm || !scaled) continue;
          const isOnePixel =
            scaled.isDepthwise &&
            sameShape(scaled.stride, [1, 1]) &&
            (scaled.padding === "same" || sameShape(scaled.padding, [0, 0]));
          const { weight, bias } = scaled;
          const isScale = isOnePixel && sameShape(weight.shape, [1, 1, channels, 1]);
          if (
            isScale &&
            isParameter(layer, "weight", { ...weight, shape: [channels] }) &&
            isParameter(layer, "bias", bias)
          )
            return { goals: [goal(x, layer)] };
        }
      }
    return refused(value, "an instance norm is expected");
  };

  /** (x − mean) · γ / √(variance + ε) + β of one pixel, over all its channels. */
  const layerNorm = (value: string, layer: Of<"layerNorm">): Step => {
    const { epsilon } = layer.op;
    const norm = at(value, "normalise");
    if (
      norm?.epsilon === epsilon &&
      sameShape(norm.axes, [3]) &&
      isParameter(layer, "weight", norm.gamma) &&
      isParameter(layer, "bias", norm.beta)
    )
      return { goals: [goal(norm.x, layer)] };
    const overAll = (name: string | undefined): string | undefined => {
      const reduce = at(name, "reduce");
      return reduce?.type === "mean" && sameShape(reduce.axes, [1, 2, 3]) ? reduce.x : undefined;
    };
    for (const [scaled, beta] of orders(value, "add"))
      for (const [centred, scale] of orders(scaled, "multiply")) {
        const variance = scaleOf(scale, epsilon, (gamma) => isParameter(layer, "weight", gamma));
        const [x, mean] = call(centred, "subtract") ?? [];
        const square = call(overAll(variance), "square");
        if (
          same(overAll(mean), x) &&
          square &&
          same(square[0], centred) &&
          isParameter(layer, "bias", constant(beta))
        )
          return { goals: [goal(x, layer)] };
      }
    return refused(value, "a layer norm is expected");
  };

  const unary = (value: string, layer: LayerNode, x: string | undefined): Step =>
    x === undefined
      ? refused(value, `${layer.op.kind} is expected, as ${layer.name} is`)
      : { goals: [goal(x, layer)] };

  const maxPool = (value: string, layer: Of<"maxPool">): Step => {
    const { kernel, stride, padding } = layer.op;
    const pool = at(value, "pool");
    if (pool?.type !== "max" || !sameShape(pool.window, kernel) || !sameShape(pool.stride, stride))
      return refused(value, `${layer.name} is expected`);
    if (sameShape(padding, [0, 0])) return { goals: [goal(pool.x, layer)] };
    const pad = at(pool.x, "pad");
    // Zeros never win over what a ReLU gives.
    const fromRelu = layers.get(layer.inputs[0] ?? "")?.op.kind === "relu";
    const isPadding =
      pad && sameShape(pad.sizes, padding) && (pad.value === LOWEST || (pad.value === 0 && fromRelu));
    return unary(value, layer, isPadding ? pad.x : undefined);
  };

  const sum = (value: string): readonly string[] | undefined => {
    const found = at(value, "call");
    return found?.name === "add" ? found.inputs : undefined;
  };

  /** (x / 255 − mean) / deviation, or the same as a convolution of one pixel without padding. */
  const pixels = (value: string): Step => {
    const [centred, deviation = ""] = call(value, "divide") ?? [];
    const [scaled, mean = ""] = call(centred, "subtract") ?? [];
    const [pixel = "", white = ""] = call(scaled, "divide") ?? [];
    const swap = at(pixel, "reverse");
    const isPixels =
      isVector(constant(deviation), IMAGENET.deviation) &&
      isVector(constant(mean), IMAGENET.mean) &&
      isScalar(white, IMAGENET.white);
    if (!isPixels || origin(swap?.x ?? pixel) !== document.input) return kerasPixels(value);
    forms.add(swap ? "bgr" : "rgb");
    return { goals: [] };
  };
  const kerasPixels = (value: string): Step => {
    const conv = at(value, "conv");
    const { white, mean, deviation } = IMAGENET;
    const isOnePixel =
      conv &&
      !conv.isDepthwise &&
      sameShape(conv.weight.shape, [1, 1, 3, 3]) &&
      sameShape(conv.stride, [1, 1]) &&
      conv.padding !== "same" &&
      sameShape(conv.padding, [0, 0]);
    const shift = deviation.map((size, channel) => -(mean[channel] ?? 0) / size);
    for (const order of ["rgb", "bgr"] as const) {
      const kernel = Array.from({ length: 9 }, (_, index) => {
        const channel = index % 3;
        const from = order === "bgr" ? 2 - channel : channel;
        return Math.floor(index / 3) === from ? 1 / (white * (deviation[channel] ?? 1)) : 0;
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
    avgPool: (value, layer) => {
      const pool = at(value, "pool");
      const isPool =
        pool?.type === "average" &&
        sameShape(pool.window, layer.op.kernel) &&
        sameShape(pool.stride, layer.op.stride);
      return unary(value, layer, isPool ? pool.x : undefined);
    },
    globalAvgPool: (value, layer) => unary(value, layer, meanOf(value, inputShape(layer))),
    globalMaxPool: (value, layer) => unary(value, layer, plainMean(value, inputShape(layer), "max")),
    flatten: (value, layer) => {
      const found = at(value, "flatten");
      const channels = outputShapes(graph, [1, 3, 64, 64]).get(layer.name)?.[1];
      return unary(value, layer, found && (found.width ?? channels) === channels ? found.x : undefined);
    },
    scale: (value) => {
      const inputs = at(value, "call");
      return inputs?.name === "multiply" ? { terms: inputs.inputs } : refused(value, "a product is expected");
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
    if (!document.operation(source))
      return refused(value, "not among the operators and forms of them that the proof knows");
    // One lookup over a union of operations: the table's type pairs each kind with its own function.
    return (RULES[layer.op.kind] as Rule<OpKind>)(source, layer);
  };
}

/** What is wrong with a tensor as a weight or bias; undefined if nothing is. */
type Differs = (role: "weight" | "bias", tensor: Tensor | undefined) => string | undefined;

/** Operators that hand on what they are given, in a row. */
const MAX_STEPS = 64;

function goal(value: string | undefined, layer: LayerNode): Goal {
  return [value ?? "", layer.inputs[0] ?? ""];
}

/** Layer norm's [channels, 1, 1] is [channels] where channels come last. */
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
