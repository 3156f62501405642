import type { Op, OpKind, Size2d } from "../../arch/graph.js";
import type { Tensor } from "../../core/tensor.js";
import { castFloat } from "../../core/tensor-cast.js";
import {
  dtypeToCode,
  float,
  int,
  ints,
  type OnnxAttributeRecord,
  type OnnxNode,
  onnxNode,
} from "../formats/onnx/model.js";
import type { NormFloor, OnnxDType } from "./options.js";

/** One layer as ONNX: nodes, the last of which outputs the value named after the layer, and its own constants. */
export interface OnnxFragment {
  readonly nodes: readonly OnnxNode[];
  readonly initializers?: ReadonlyMap<string, Tensor>;
}

/**
 * The place of a layer in the graph: the value that its nodes must produce, and the values that they read.
 */
interface OnnxSite {
  /** The layer's name: that of its last node and of that node's output. */
  readonly name: string;
  /** Activations first, then the layer's weights in the order weight, bias, runningMean, runningVar. */
  readonly inputs: readonly string[];
  readonly opset: number;
  /** Element type of the activations. */
  readonly dtype: OnnxDType;
}

/** A value in another element type. */
export function castNode(output: string, input: string, dtype: OnnxDType): OnnxNode {
  return onnxNode(output, "Cast", [input], { to: int(dtypeToCode(dtype)) });
}

/** The opset that introduced `LayerNormalization`. */
const LAYER_NORMALIZATION_OPSET = 17;

/**
 * LayerNorm over channels, height and width of [N, C, 1, 1], weights [C, 1, 1]: `LayerNormalization` (opset 17), with
 * the biased variance as in PyTorch, or its decomposition for older opsets: (x − mean) / √(mean((x − mean)²) + ε) ·
 * weight + bias. The decomposition is float32 in a float16 network too, like runtimes' own operator, because 1e-5 is
 * subnormal in float16.
 */
function lowerLayerNorm(op: Op<"layerNorm">, { name, inputs, opset, dtype }: OnnxSite): OnnxFragment {
  if (opset >= LAYER_NORMALIZATION_OPSET)
    return {
      nodes: [onnxNode(name, "LayerNormalization", inputs, { axis: int(1), epsilon: float(op.epsilon) })],
    };
  const [values = "", weight = "", bias = ""] = inputs;
  const part = (suffix: string): string => `${name}.${suffix}`;
  const narrow = dtype !== "float32";
  const x = narrow ? part("float32") : values;
  const normalized = narrow ? part("quotient") : part("normalized");
  // Before opset 18 the axes are an attribute.
  const overLayer = { axes: ints(1, 2, 3), keepdims: int(1) };
  const epsilon: Tensor = { dtype: "float32", shape: [], data: Float32Array.of(op.epsilon) };
  return {
    nodes: [
      ...(narrow ? [castNode(x, values, "float32")] : []),
      onnxNode(part("mean"), "ReduceMean", [x], overLayer),
      onnxNode(part("centered"), "Sub", [x, part("mean")]),
      onnxNode(part("squared"), "Mul", [part("centered"), part("centered")]),
      onnxNode(part("variance"), "ReduceMean", [part("squared")], overLayer),
      onnxNode(part("stabilized"), "Add", [part("variance"), part("epsilon")]),
      onnxNode(part("deviation"), "Sqrt", [part("stabilized")]),
      onnxNode(normalized, "Div", [part("centered"), part("deviation")]),
      ...(narrow ? [castNode(part("normalized"), normalized, dtype)] : []),
      onnxNode(part("scaled"), "Mul", [part("normalized"), weight]),
      onnxNode(name, "Add", [part("scaled"), bias]),
    ],
    initializers: new Map([[part("epsilon"), epsilon]]),
  };
}

type OnnxLowering<K extends OpKind> = (op: Op<K>, site: OnnxSite) => OnnxFragment;

/** An operation that is one ONNX operator with the same inputs in the same order. */
function operator<K extends OpKind>(
  opType: string,
  attributes: (op: Op<K>) => OnnxAttributeRecord = () => ({}),
): OnnxLowering<K> {
  return (op, { name, inputs }) => ({ nodes: [onnxNode(name, opType, inputs, attributes(op))] });
}

/**
 * Each operation in ONNX operators (https://onnx.ai/onnx/operators/), for opsets 11 to 26. All have the same inputs and
 * attributes in every opset, except for layer norm and the spatial mean. Padding is always explicit.
 */
const LOWERINGS: { readonly [K in OpKind]: OnnxLowering<K> } = {
  // The input is declared with the graph, and has no node.
  input: () => ({ nodes: [] }),
  // Weights are OIHW, as PyTorch's.
  conv: operator("Conv", (op) => ({
    dilations: ints(1, 1),
    group: int(op.groups),
    kernel_shape: ints(...op.kernel),
    pads: symmetric(op.padding),
    strides: ints(...op.stride),
  })),
  // x·Wᵀ + b, so that the weight stays [out, in].
  linear: operator("Gemm", () => ({ transB: int(1) })),
  // Inference is the default mode in every opset.
  batchNorm: operator("BatchNormalization", ({ epsilon }) => ({ epsilon: float(epsilon) })),
  instanceNorm: operator("InstanceNormalization", ({ epsilon }) => ({ epsilon: float(epsilon) })),
  layerNorm: lowerLayerNorm,
  relu: operator("Relu"),
  sigmoid: operator("Sigmoid"),
  maxPool: operator("MaxPool", (op) => ({
    ceil_mode: int(0),
    kernel_shape: ints(...op.kernel),
    pads: symmetric(op.padding),
    strides: ints(...op.stride),
  })),
  avgPool: operator("AveragePool", (op) => ({
    ceil_mode: int(0),
    kernel_shape: ints(...op.kernel),
    pads: ints(0, 0, 0, 0),
    strides: ints(...op.stride),
  })),
  globalAvgPool: lowerSpatialMean,
  globalMaxPool: operator("GlobalMaxPool"),
  flatten: operator("Flatten", () => ({ axis: int(1) })),
  scale: operator("Mul"),
  add: lowerAdd,
};

/** The ONNX nodes that compute one operation. */
export function lowerOperation(op: Op, site: OnnxSite): OnnxFragment {
  // One lookup over a union of operations: the table's type pairs each kind with its own function.
  return (LOWERINGS[op.kind] as (op: Op, site: OnnxSite) => OnnxFragment)(op, site);
}

/**
 * A chain of `Add`, left to right: x₁ + … + xₖ is called `NAME.partial[k]`. Not `Sum`, which gives the same bits in
 * onnxruntime but is 1 % slower, and which its WebGPU backend does not support.
 */
function lowerAdd(_op: Op<"add">, { name, inputs: [first = "", ...rest] }: OnnxSite): OnnxFragment {
  const sumOf = (count: number): string =>
    count === 1 ? first : count > rest.length ? name : `${name}.partial[${count}]`;
  return { nodes: rest.map((term, index) => onnxNode(sumOf(index + 2), "Add", [sumOf(index + 1), term])) };
}

/** The opset in which the axes of `ReduceMean` became an input. */
const AXES_INPUT_OPSET = 18;
const SPATIAL_AXES = "spatial_axes";

/**
 * The mean over height and width as `ReduceMean`. Not `GlobalAveragePool`, because onnxruntime's sums a plane
 * sequentially, and on 64×32 planes is 50 times less accurate than PyTorch, which affects the gates.
 */
function lowerSpatialMean(_op: Op<"globalAvgPool">, { name, inputs, opset }: OnnxSite): OnnxFragment {
  if (opset < AXES_INPUT_OPSET)
    return { nodes: [onnxNode(name, "ReduceMean", inputs, { axes: ints(2, 3), keepdims: int(1) })] };
  const axes: Tensor = { dtype: "int64", shape: [2], data: BigInt64Array.of(2n, 3n) };
  return {
    nodes: [onnxNode(name, "ReduceMean", [...inputs, SPATIAL_AXES], { keepdims: int(1) })],
    initializers: new Map([[SPATIAL_AXES, axes]]),
  };
}

/**
 * x / ‖x‖₂ of each row of [N, D], with floors that keep the norm from being zero: as one ReduceL2, or by the sum of
 * squares if that has a floor.
 */
export function lowerL2(
  name: string,
  x: string,
  floors: readonly NormFloor[],
  { opset, dtype }: Pick<OnnxSite, "opset" | "dtype">,
): OnnxFragment {
  const part = (suffix: string): string => `${name}.${suffix}`;
  const axes = part("axes");
  const initializers = new Map<string, Tensor>();
  const nodes: OnnxNode[] = [];
  const reduced = (opType: string, input: string, output: string, since: number): string => {
    const byInput = opset >= since;
    if (byInput) initializers.set(axes, { dtype: "int64", shape: [1], data: BigInt64Array.of(1n) });
    nodes.push(
      onnxNode(output, opType, byInput ? [input, axes] : [input], {
        ...(byInput ? {} : { axes: ints(1) }),
        keepdims: int(1),
      }),
    );
    return output;
  };
  const raised = (value: string, of: NormFloor["of"]): string =>
    floors
      .filter((floor) => floor.of === of)
      .reduce((current, { how, epsilon }, index) => {
        const constant = part(`${of}.epsilon[${index}]`);
        const tensor: Tensor<"float32"> = { dtype: "float32", shape: [], data: Float32Array.of(epsilon) };
        initializers.set(constant, castFloat(tensor, dtype, constant));
        const output = part(`${of}.floor[${index}]`);
        nodes.push(onnxNode(output, how === "sum" ? "Add" : "Max", [current, constant]));
        return output;
      }, value);
  let length: string;
  if (floors.some(({ of }) => of === "square")) {
    nodes.push(onnxNode(part("squared"), "Mul", [x, x]));
    const square = raised(reduced("ReduceSum", part("squared"), part("square"), 13), "square");
    length = part("length");
    nodes.push(onnxNode(length, "Sqrt", [square]));
  } else length = reduced("ReduceL2", x, part("length"), AXES_INPUT_OPSET);
  nodes.push(onnxNode(name, "Div", [x, raised(length, "length")]));
  return { nodes, initializers };
}

/** ONNX pads: before both spatial axes, then after both. */
function symmetric([height, width]: Size2d): ReturnType<typeof ints> {
  return ints(height, width, height, width);
}
