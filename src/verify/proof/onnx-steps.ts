import type { LayerGraph, LayerNode, Op, OpKind, ParameterRole } from "../../arch/index.js";
import { IMAGENET } from "../../convert/export/options.js";
import type { OnnxNode } from "../../convert/formats/onnx/model.js";
import { permute, type Shape, type Tensor } from "../../core/tensor.js";
import { type Constants, reshaped } from "./constants.js";
import { flattens, floatOf, intOf, intsOf, type OnnxDocument } from "./onnx-document.js";
import type { Goal, InputForm, Step, StepOf } from "./prover.js";

/**
 * How ONNX operators compute each layer, exactly, for every finite input. Values are float32 and have the layer's own shape, NCHW
 * or NC: what is proven to be a layer has its shape, which is what makes broadcasting known.
 *
 * @param forms what the input is found to be is added
 */
export function onnxSteps(
  graph: LayerGraph,
  document: OnnxDocument,
  constants: Constants,
  forms: Set<InputForm>,
): StepOf {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const { origin, node: nodeOf, constant, axes } = document;

  /** The node of an operator that computes a value, behind what hands it on. */
  const operator = (value: string | undefined, ...types: readonly string[]): OnnxNode | undefined => {
    const found = value === undefined ? undefined : nodeOf(origin(value));
    return found && types.includes(found.opType) ? found : undefined;
  };

  /** A product or sum of a value and a constant, in either order. */
  const withConstant = (found: OnnxNode): { readonly value: string; readonly tensor: Tensor } | undefined => {
    const [a = "", b = ""] = found.inputs;
    const [left, right] = [constant(a), constant(b)];
    if (right) return { value: a, tensor: right };
    return left && { value: b, tensor: left };
  };

  const isNumber = (value: string | undefined, wanted: number): boolean => {
    const tensor = constant(value);
    return (
      tensor?.dtype === "float32" &&
      tensor.data.length === 1 &&
      tensor.shape.length <= 1 &&
      tensor.data[0] === Math.fround(wanted)
    );
  };

  const isWindow = (found: OnnxNode, op: Windowed, kernelDefault?: Shape): boolean => {
    const [height, width] = op.padding ?? [0, 0];
    return (
      same(intsOf(found, "kernel_shape", kernelDefault ?? []), op.kernel) &&
      same(intsOf(found, "strides", [1, 1]), op.stride) &&
      same(intsOf(found, "pads", [0, 0, 0, 0]), [height, width, height, width])
    );
  };

  const hasEpsilon = (found: OnnxNode, epsilon: number): boolean =>
    Math.fround(floatOf(found, "epsilon", 1e-5)) === Math.fround(epsilon);

  /** A layer's own input, behind parameters that are all equal. */
  const parameters = (
    found: OnnxNode,
    layer: LayerNode,
    roles: readonly ParameterRole[],
    shape?: readonly Shape[],
  ): Step => {
    for (const [index, role] of roles.entries()) {
      const name = found.inputs[index + 1];
      const tensor = constant(name);
      if (name !== undefined && !tensor) return refused(found, `${name} is not a constant`);
      const problem = constants.differs(
        layer,
        role,
        shape ? reshaped(tensor, shape, channelShape(layer)) : tensor,
      );
      if (problem) return refused(found, problem);
    }
    return { goals: [goal(found.inputs[0], layer)] };
  };

  /** A convolution or product by the weight and bias that `differs` accepts. */
  const weighted = (found: OnnxNode, layer: LayerNode, differs: Differs): Step => {
    const [, weightName, biasName] = found.inputs;
    const [weight, bias] = [constant(weightName), constant(biasName)];
    if (!weight || (biasName !== undefined && !bias)) return refused(found, "weights that are not constants");
    if (layer.op.kind === "conv") {
      const { op } = layer;
      if (found.opType !== "Conv") return refused(found, "a convolution is expected");
      if (intOf(found, "group", 1) !== op.groups || !isWindow(found, op, weight.shape.slice(2)))
        return refused(found, "another window, stride, padding or number of groups");
    } else if (found.opType !== "Gemm") return refused(found, "a product of matrices is expected");
    const isRow = found.opType === "Gemm" && bias?.shape.length === 2 && bias.shape[0] === 1;
    const laidOut = found.opType === "Gemm" && intOf(found, "transB", 0) === 0 && weight.shape.length === 2;
    const problem =
      differs("weight", laidOut ? permute(weight, [1, 0]) : weight) ??
      differs("bias", isRow && bias ? { ...bias, shape: bias.shape.slice(1) } : bias);
    return problem ? refused(found, problem) : { goals: [goal(found.inputs[0], layer)] };
  };

  /** `Add(MatMul(x, W), b)` as the Gemm that it is. */
  const asGemm = (found: OnnxNode): OnnxNode | undefined => {
    if (found.opType === "Gemm") return found;
    const sum = found.opType === "Add" ? withConstant(found) : undefined;
    const product = sum && operator(sum.value, "MatMul");
    if (!product) return undefined;
    const bias = found.inputs.find((name) => name !== sum.value) ?? "";
    return { ...product, opType: "Gemm", inputs: [...product.inputs, bias] };
  };

  const linear = (found: OnnxNode, layer: LayerNode, differs: Differs): Step => {
    const gemm = layer.op.kind === "linear" ? asGemm(found) : found;
    return gemm ? weighted(gemm, layer, differs) : refused(found, "a product of matrices is expected");
  };

  const plain =
    (layer: LayerNode): Differs =>
    (role, tensor) =>
      role === "bias" && layer.parameters.bias === undefined
        ? tensor && "a bias that the layer has not"
        : constants.differs(layer, role, tensor);

  const batchNorm = (found: OnnxNode, layer: Of<"batchNorm">): Step => {
    if (found.opType === "BatchNormalization")
      return hasEpsilon(found, layer.op.epsilon)
        ? parameters(found, layer, ROLES)
        : refused(found, "another epsilon");
    const source = layers.get(layer.inputs[0] ?? "");
    if (source?.op.kind !== "conv" && source?.op.kind !== "linear")
      return refused(found, "a batch norm is expected");
    return linear(found, source, (role, tensor) =>
      constants.differsFolded(source, layer, role as "weight" | "bias", tensor),
    );
  };

  /** (x − mean) / √(mean((x − mean)²) + ε) · weight + bias over all but the batch, in these operators. */
  const spelledLayerNorm = (found: OnnxNode, layer: Of<"layerNorm">): Step => {
    const sum = found.opType === "Add" ? withConstant(found) : undefined;
    const product = operator(sum?.value, "Mul");
    const scaled = product && withConstant(product);
    const quotient = operator(scaled?.value, "Div");
    const root = operator(quotient?.inputs[1], "Sqrt");
    const stabilised = operator(root?.inputs[0], "Add");
    const [epsilon] = stabilised?.inputs.filter((name) => isNumber(name, layer.op.epsilon)) ?? [];
    const variance = operator(
      stabilised?.inputs.find((name) => name !== epsilon),
      "ReduceMean",
    );
    const square = operator(variance?.inputs[0], "Mul", "Pow");
    const centred = operator(quotient?.inputs[0], "Sub");
    const mean = operator(centred?.inputs[1], "ReduceMean");
    const [value = ""] = centred?.inputs ?? [];
    const isCentred = (name = ""): boolean => centred !== undefined && nodeOf(origin(name)) === centred;
    const isSquare =
      square &&
      isCentred(square.inputs[0]) &&
      (square.opType === "Mul" ? isCentred(square.inputs[1]) : isNumber(square.inputs[1], 2));
    const overAll = (reduction: OnnxNode | undefined): boolean =>
      reduction !== undefined &&
      intOf(reduction, "keepdims", 1) === 1 &&
      same(axes(reduction, 4) ?? [], [1, 2, 3]);
    if (
      !sum ||
      !scaled ||
      epsilon === undefined ||
      !isSquare ||
      !overAll(mean) ||
      !overAll(variance) ||
      origin(mean?.inputs[0] ?? "") !== origin(value)
    )
      return refused(found, "a layer norm is expected");
    const shape = channelShape(layer);
    const problem =
      constants.differs(layer, "weight", reshaped(scaled.tensor, [[1, ...shape]], shape)) ??
      constants.differs(layer, "bias", reshaped(sum.tensor, [[1, ...shape]], shape));
    return problem ? refused(found, problem) : { goals: [goal(value, layer)] };
  };

  const spatial = (found: OnnxNode, global: string, reduction: string, keepdims: number): boolean =>
    (found.opType === global && keepdims === 1) ||
    (found.opType === reduction &&
      intOf(found, "keepdims", 1) === keepdims &&
      same(axes(found, 4) ?? [], [2, 3]));

  const unary = (found: OnnxNode, layer: LayerNode, isLayer: boolean): Step =>
    isLayer
      ? { goals: [goal(found.inputs[0], layer)] }
      : refused(found, `${layer.op.kind} is expected, as ${layer.name} is`);

  const sum = (value: string): readonly string[] | undefined => operator(value, "Add", "Sum")?.inputs;

  const RULES: { readonly [K in OpKind]: Rule<K> } = {
    input: (found) => pixels(found),
    conv: (found, layer) => linear(found, layer, plain(layer)),
    linear: (found, layer) => linear(found, layer, plain(layer)),
    batchNorm,
    instanceNorm: (found, layer) =>
      found.opType === "InstanceNormalization" && hasEpsilon(found, layer.op.epsilon)
        ? parameters(found, layer, ["weight", "bias"])
        : refused(found, "an instance norm is expected"),
    layerNorm: (found, layer) =>
      found.opType === "LayerNormalization" &&
      hasEpsilon(found, layer.op.epsilon) &&
      [1, -3].includes(intOf(found, "axis", -1))
        ? parameters(found, layer, ["weight", "bias"])
        : spelledLayerNorm(found, layer),
    relu: (found, layer) => unary(found, layer, found.opType === "Relu"),
    sigmoid: (found, layer) => unary(found, layer, found.opType === "Sigmoid"),
    maxPool: (found, layer) => unary(found, layer, found.opType === "MaxPool" && isWindow(found, layer.op)),
    avgPool: (found, layer) =>
      unary(found, layer, found.opType === "AveragePool" && isWindow(found, layer.op)),
    globalAvgPool: (found, layer) =>
      unary(found, layer, spatial(found, "GlobalAveragePool", "ReduceMean", 1)),
    globalMaxPool: (found, layer) => unary(found, layer, spatial(found, "GlobalMaxPool", "ReduceMax", 1)),
    flatten: (found, layer) => {
      const pool = layers.get(layer.inputs[0] ?? "");
      const reduction = pool?.op.kind === "globalMaxPool" ? "ReduceMax" : "ReduceMean";
      if (pool && spatial(found, "", reduction, 0)) return { goals: [goal(found.inputs[0], pool)] };
      return unary(found, layer, flattens(found, document, channelsOf(graph, layer)));
    },
    scale: (found) =>
      found.opType === "Mul" ? { terms: found.inputs } : refused(found, "a product is expected"),
    add: (found) =>
      ["Add", "Sum"].includes(found.opType)
        ? { terms: found.inputs, parts: sum }
        : refused(found, "a sum is expected"),
  };

  /** (x / 255 − mean) / deviation by channel, of pixels in either order. */
  const pixels = (found: OnnxNode): Step => {
    const centred = found.opType === "Div" ? operator(found.inputs[0], "Sub") : undefined;
    const scaled = operator(centred?.inputs[0], "Div");
    const isPixels =
      isPerChannel(constant(found.inputs[1]), IMAGENET.deviation) &&
      isPerChannel(constant(centred?.inputs[1]), IMAGENET.mean) &&
      isNumber(scaled?.inputs[1], IMAGENET.white);
    const swap = operator(scaled?.inputs[0], "Gather");
    const raw = swap ? swap.inputs[0] : scaled?.inputs[0];
    const isSwap =
      !swap || (intOf(swap, "axis", 0) === 1 && same(document.integers(swap.inputs[1]) ?? [], [2, 1, 0]));
    if (!isPixels || !isSwap || origin(raw ?? "") !== document.input)
      return refused(found, "normalised images, or pixels through torchreid's statistics, are expected");
    forms.add(swap ? "bgr" : "rgb");
    return { goals: [] };
  };

  const refused = (found: OnnxNode, why: string): Step => ({
    refused: `${document.describe(found.outputs[0] ?? "")}: ${why}`,
  });

  return (value, layer) => {
    const source = origin(value);
    if (layer.op.kind === "input" && source === document.input) {
      forms.add("normalised");
      return { goals: [] };
    }
    const found = nodeOf(source);
    if (!found) return { refused: document.describe(source) };
    // One lookup over a union of operations: the table's type pairs each kind with its own function.
    return (RULES[layer.op.kind] as (found: OnnxNode, layer: LayerNode) => Step)(found, layer);
  };
}

/** What is wrong with a tensor as a weight or bias; undefined if nothing is. */
type Differs = (role: ParameterRole, tensor: Tensor | undefined) => string | undefined;

/** A layer of one kind. */
type Of<K extends OpKind> = LayerNode & { readonly op: Op<K> };

type Rule<K extends OpKind> = (found: OnnxNode, layer: Of<K>) => Step;

type Windowed = Pick<Op<"avgPool">, "kernel" | "stride"> & Partial<Pick<Op<"maxPool">, "padding">>;

const ROLES: readonly ParameterRole[] = ["weight", "bias", "runningMean", "runningVar"];

function goal(value: string | undefined, layer: LayerNode): Goal {
  return [value ?? "", layer.inputs[0] ?? ""];
}

function same(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** Of a norm's parameters: by channel; a layer norm's are images of one pixel. */
function channelShape({ op }: LayerNode): Shape {
  return op.kind === "layerNorm" ? [op.channels, 1, 1] : "channels" in op ? [op.channels] : [];
}

function isPerChannel(tensor: Tensor | undefined, wanted: readonly number[]): boolean {
  return (
    tensor?.dtype === "float32" &&
    [
      [3, 1, 1],
      [1, 3, 1, 1],
    ].some((shape) => same(shape, tensor.shape)) &&
    wanted.every((value, channel) => tensor.data[channel] === Math.fround(value))
  );
}

/** The channels of a layer, which are those of the last convolution or linear layer before it. */
function channelsOf({ nodes }: LayerGraph, layer: LayerNode): number {
  const layers = new Map(nodes.map((node) => [node.name, node]));
  let current: LayerNode | undefined = layer;
  while (current) {
    if (current.op.kind === "conv") return current.op.outChannels;
    if (current.op.kind === "linear") return current.op.outFeatures;
    current = layers.get(current.inputs[0] ?? "");
  }
  return 0;
}
