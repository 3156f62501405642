import type { Size2d } from "../../arch/index.js";
import type { TfjsAttribute, TfjsGraphModel, TfjsNode } from "../../convert/formats/tfjs/model.js";
import { permute, sameShape, type Tensor } from "../../core/tensor.js";
import { isDType } from "../../core/tensor-cast.js";
import { type Call, type Operation, type ProofDocument, unknown } from "./operations.js";

/**
 * A graph model as the proof reads it: which operators it supports, with which attributes.
 *
 * Source: tfjs-converter's `src/operations/op_list` and executors (4.22), which read the attributes below.
 */

const CALLS: ReadonlyMap<string, readonly [name: Call, inputs: number]> = new Map([
  ["AddV2", ["add", 2]],
  ["Add", ["add", 2]],
  ["BiasAdd", ["add", 2]],
  ["Sub", ["subtract", 2]],
  ["Mul", ["multiply", 2]],
  ["RealDiv", ["divide", 2]],
  ["SquaredDifference", ["squaredDifference", 2]],
  ["Square", ["square", 1]],
  ["Rsqrt", ["rsqrt", 1]],
  ["Relu", ["relu", 1]],
  ["Sigmoid", ["sigmoid", 1]],
  ["Identity", ["identity", 1]],
] as const);

type Attributes = ReadonlyMap<string, TfjsAttribute>;

/** Attributes without effect on the result, and attributes that must have one value. */
const FIXED: ReadonlyMap<string, (attribute: TfjsAttribute) => boolean> = new Map(
  Object.entries<(attribute: TfjsAttribute) => boolean>({
    T: isType("DT_FLOAT"),
    U: isType("DT_FLOAT"),
    Tidx: isType("DT_INT32"),
    Tshape: isType("DT_INT32"),
    Tpaddings: isType("DT_INT32"),
    data_format: ({ type, value }) => type === "string" && value === "NHWC",
    dilations: ({ type, value }) => type === "ints" && value.every((step) => step === 1),
    is_training: ({ type, value }) => type === "bool" && !value,
    transpose_a: ({ type, value }) => type === "bool" && !value,
    transpose_b: ({ type, value }) => type === "bool" && !value,
    keep_dims: ({ type, value }) => type === "bool" && value,
  }),
);

function isType(name: string): (attribute: TfjsAttribute) => boolean {
  return ({ type, value }) => type === "dtype" && value === name;
}

/** Marks the value before the last step of a fused operator. */
const INNER = "\n";

/** @returns the model's values, or why the proof cannot read it */
export function readGraph({
  nodes,
  weights,
  signature,
  metadata,
  missing,
}: TfjsGraphModel): ProofDocument | string {
  if (missing) return `weights are missing: ${missing.join(", ")}`;
  const [[, declared] = [], ...others] = signature.inputs;
  // Values inside fused operators are named with that mark below.
  if (nodes.some(({ name }) => name.includes(INNER))) return "a name with a line break";
  const placeholders = nodes.filter(({ op }) => op.startsWith("Placeholder"));
  const [input] = placeholders;
  if (
    !input ||
    placeholders.length !== 1 ||
    others.length > 0 ||
    (declared && nodeName(declared.name) !== input.name)
  )
    return "the model has inputs other than the images";
  // tfjs prefers a signature there to the one that osnet-convert reads.
  if (metadata?.signature !== undefined) return "a second signature, in userDefinedMetadata";
  const dtype = input.attributes.get("dtype");
  if (input.op !== "Placeholder" || !dtype || !isType("DT_FLOAT")(dtype))
    return "images that are not float32";
  const shape = input.attributes.get("shape");
  const [, height = -1, width = -1] = (shape?.type === "shape" ? shape.value : undefined) ?? [];
  const byName = new Map(nodes.map((node) => [node.name, node]));

  const constant = (value: string): Tensor | undefined => {
    const node = byName.get(value);
    const weight = node?.op === "Const" && node.inputs.length === 0 ? weights.get(value) : undefined;
    return weight?.stored ? undefined : weight?.tensor;
  };
  const vector = (value: string | undefined): readonly number[] | undefined => {
    const tensor = constant(value ?? "");
    return tensor && isDType(tensor, "int32") ? Array.from(tensor.data) : undefined;
  };
  const node = (value: string): TfjsNode | undefined => byName.get(value.replaceAll(INNER, ""));

  const operation = (value: string): Operation => {
    const found = node(value);
    // Control inputs and second outputs are not values of a supported operator.
    if (!found || found.inputs.some((name) => name.startsWith("^") || /:[1-9]/.test(name))) return unknown();
    const steps = fusedSteps(found);
    const inner = value.length - found.name.length;
    if (!steps || inner > steps.length) return unknown();
    // In a fused operator, the activation comes last.
    if (inner < steps.length) return { kind: "call", name: "relu", inputs: [`${value}${INNER}`] };
    return read(found, found.inputs.map(nodeName)) ?? unknown();
  };

  /** The activations at the end of a fused operator; undefined for others. */
  const fusedSteps = ({ op, attributes, inputs }: TfjsNode): readonly string[] | undefined => {
    if (!FUSED.has(op)) return [];
    const fused = attributes.get("fused_ops");
    const count = attributes.get("num_args");
    const [bias, ...activations] = fused?.type === "strings" ? fused.value : [];
    const isKnown = bias === "BiasAdd" && count?.type === "int" && count.value === 1 && inputs.length === 3;
    return isKnown && (activations.length === 0 || String(activations) === "Relu") ? activations : undefined;
  };

  const read = ({ op, attributes }: TfjsNode, inputs: readonly string[]): Operation | undefined => {
    const [x = "", second = "", third = ""] = inputs;
    const weight = constant(second);
    const bias = constant(third);
    const call = CALLS.get(op);
    if (call) {
      const [name, count] = call;
      return inputs.length === count && known(attributes) ? { kind: "call", name, inputs } : undefined;
    }
    switch (op) {
      case "Conv2D":
      case "DepthwiseConv2dNative":
      case "_FusedConv2D":
      case "FusedDepthwiseConv2dNative": {
        const stride = overImage(attributes, "strides");
        const padding = paddingOf(attributes);
        const isFused = FUSED.has(op);
        if (!weight || !stride || !padding || inputs.length !== (isFused ? 3 : 2) || (isFused && !bias))
          return undefined;
        if (!known(attributes, "strides", "padding", "explicit_paddings", ...FUSION)) return undefined;
        return convolution(x, { weight, bias, stride, padding, isDepthwise: op.includes("epthwise") });
      }
      case "MatMul":
        return weight && known(attributes) && inputs.length === 2 ? product(x, weight) : undefined;
      case "_FusedMatMul":
        return weight && bias && known(attributes, ...FUSION) ? product(x, weight, bias) : undefined;
      case "FusedBatchNormV3": {
        const epsilon = attributes.get("epsilon");
        const constants = inputs.slice(1).flatMap((name) => constant(name) ?? []);
        const isKnown = constants.length === 4 && epsilon?.type === "float" && attributes.has("is_training");
        return isKnown && known(attributes, "epsilon")
          ? { kind: "batchNorm", x, constants, epsilon: epsilon.value }
          : undefined;
      }
      case "MaxPool":
      case "AvgPool": {
        const [window, stride] = [overImage(attributes, "ksize"), overImage(attributes, "strides")];
        const padding = attributes.get("padding");
        if (
          !window ||
          !stride ||
          padding?.value !== "VALID" ||
          !known(attributes, "ksize", "strides", "padding")
        )
          return undefined;
        return { kind: "pool", type: op === "MaxPool" ? "max" : "mean", x, window, stride, padding: [0, 0] };
      }
      case "PadV2": {
        const sizes = constant(second);
        const [n0, n1, top = -1, bottom, left = -1, right, c0, c1] = vector(second) ?? [];
        const isEven =
          sizes &&
          sameShape(sizes.shape, [4, 2]) &&
          [n0, n1, c0, c1].every((size) => size === 0) &&
          top === bottom &&
          left === right;
        const value =
          bias && bias.shape.length === 0 && bias.dtype === "float32" ? Number(bias.data[0]) : undefined;
        return isEven && value !== undefined && known(attributes)
          ? { kind: "pad", x, sizes: [top, left], value }
          : undefined;
      }
      case "Mean":
      case "Max": {
        const axes = vector(second)?.toSorted((a, b) => a - b);
        if (
          !axes ||
          axes.length === 0 ||
          axes.some((axis) => axis < 0) ||
          !attributes.has("keep_dims") ||
          !known(attributes)
        )
          return undefined;
        return { kind: "reduce", type: op === "Mean" ? "mean" : "max", x, axes: inNchw(axes), keeps: true };
      }
      case "Reshape": {
        const [rows, width, ...rest] = vector(second) ?? [];
        return rows === -1 && width !== undefined && width > 0 && rest.length === 0 && known(attributes)
          ? { kind: "flatten", x, width }
          : undefined;
      }
      case "ReverseV2":
        return String(vector(second)) === "3" && known(attributes) ? { kind: "reverse", x } : undefined;
      default:
        return undefined;
    }
  };

  return {
    input: input.name,
    size: height > 0 && width > 0 ? [height, width] : undefined,
    outputs: Array.from(signature.outputs, ([name, info]) => ({ name, value: nodeName(info.name) })),
    operation,
    number(value) {
      const tensor = constant(value);
      return tensor?.dtype === "float32" && tensor.shape.length === 0 ? Number(tensor.data[0]) : undefined;
    },
    channels(value) {
      const tensor = constant(value);
      return tensor?.shape.length === 1 ? tensor : undefined;
    },
    tails: () => [],
    describe: (value) => {
      const found = node(value);
      return found ? `node ${JSON.stringify(found.name)} (${found.op})` : JSON.stringify(value);
    },
  };
}

const FUSED: ReadonlySet<string> = new Set(["_FusedConv2D", "FusedDepthwiseConv2dNative", "_FusedMatMul"]);

/** Further attributes of a fused operator; ε and slopes belong to unsupported activations. */
const FUSION = ["fused_ops", "num_args", "epsilon", "leakyrelu_alpha"] as const;

/** Whether all attributes are either read or have the only supported value. */
function known(attributes: Attributes, ...read: readonly string[]): boolean {
  return Array.from(attributes).every(
    ([name, attribute]) => read.includes(name) || FIXED.get(name)?.(attribute),
  );
}

/** `NAME:0` and `NAME` are both a node's first output. */
function nodeName(reference: string): string {
  return reference.endsWith(":0") ? reference.slice(0, -2) : reference;
}

function overImage(attributes: Attributes, name: string): Size2d | undefined {
  const attribute = attributes.get(name);
  const [batch, height = 0, width = 0, channels] = attribute?.type === "ints" ? attribute.value : [];
  return batch === 1 && channels === 1 ? [height, width] : undefined;
}

function paddingOf(attributes: Attributes): Size2d | "same" | undefined {
  const padding = attributes.get("padding");
  const explicit = attributes.get("explicit_paddings");
  const sizes = explicit?.type === "ints" ? explicit.value : [];
  if (padding?.type !== "string") return undefined;
  if (padding.value !== "EXPLICIT") {
    if (sizes.length > 0) return undefined;
    return padding.value === "SAME" ? "same" : padding.value === "VALID" ? [0, 0] : undefined;
  }
  const [n0, n1, top = -1, bottom, left = -1, right, c0, c1] = sizes;
  const isEven = [n0, n1, c0, c1].every((size) => size === 0) && top === bottom && left === right;
  return isEven && sizes.length === 8 ? [top, left] : undefined;
}

/**
 * A convolution of NHWC maps by [height, width, in, out], or by [height, width, channels, 1].
 *
 * @param convolution `same` keeps the size: at another stride it pads by the size of the map, of an even kernel one side more
 */
export function convolution(
  x: string,
  {
    weight,
    bias,
    stride,
    padding,
    isDepthwise,
  }: {
    readonly weight: Tensor;
    readonly bias: Tensor | undefined;
    readonly stride: Size2d;
    readonly padding: Size2d | "same";
    readonly isDepthwise: boolean;
  },
): Operation | undefined {
  const [height = 0, width = 0, channels = 0] = weight.shape;
  const isCentred = stride.every((step) => step === 1) && height % 2 === 1 && width % 2 === 1;
  if (weight.shape.length !== 4 || (padding === "same" && !isCentred)) return undefined;
  return {
    kind: "conv",
    x,
    weight: permute(weight, isDepthwise ? [2, 3, 0, 1] : [3, 2, 0, 1]),
    bias,
    groups: isDepthwise ? channels : 1,
    stride,
    padding: padding === "same" ? [(height - 1) / 2, (width - 1) / 2] : padding,
  };
}

/** x · W + b with W [in, out]. */
export function product(x: string, weight: Tensor, bias?: Tensor): Operation | undefined {
  if (weight.shape.length !== 2) return undefined;
  return { kind: "linear", x, weight: permute(weight, [1, 0]), bias };
}

/** Axes of an NHWC map as axes of NCHW. */
export function inNchw(axes: readonly number[]): readonly number[] {
  return axes.map((axis) => [0, 2, 3, 1][axis] ?? axis).sort((a, b) => a - b);
}
