import type { Op, OpKind, Size2d } from "../../../../arch/graph.js";
import type { Tensor } from "../../../../core/tensor.js";
import type { NormFloor } from "../../results.js";
import {
  type AttributeRecord,
  dtype,
  lowerConv,
  lowerLinear,
  overImage,
  reduction,
  scalar,
  type TfjsFragment,
  type TfjsSite,
  text,
  tfNode,
  wholeNumbers,
} from "./fragment.js";
import { lowerBatchNorm, lowerInstanceNorm, lowerLayerNorm, spatialMean } from "./norms.js";

type TfjsLowering<K extends OpKind> = (op: Op<K>, site: TfjsSite) => TfjsFragment;

/** The lowering of an operation that is one TensorFlow operator on the same inputs. */
function operator<K extends OpKind>(opType: string): TfjsLowering<K> {
  return (_op, { name, inputs }) => ({ nodes: [tfNode(name, opType, inputs)] });
}

/**
 * How each operation is written in TensorFlow operators, all of which every tfjs backend has. Activations are NHWC;
 * a pooled map is [N, 1, 1, C].
 */
const LOWERINGS: { readonly [K in OpKind]: TfjsLowering<K> } = {
  // The placeholder is written with the graph.
  input: () => ({ nodes: [] }),
  conv: lowerConv,
  linear: lowerLinear,
  batchNorm: lowerBatchNorm,
  instanceNorm: lowerInstanceNorm,
  layerNorm: lowerLayerNorm,
  relu: operator("Relu"),
  sigmoid: operator("Sigmoid"),
  maxPool: lowerMaxPool,
  avgPool: (op, { name, inputs }) => ({ nodes: [tfNode(name, "AvgPool", inputs, windows(op))] }),
  globalAvgPool: (_op, { name, inputs: [x = ""], inputShape }) => spatialMean(name, x, inputShape),
  globalMaxPool: lowerGlobalMax,
  flatten: lowerFlatten,
  scale: operator("Mul"),
  add: lowerAdd,
};

/** The graph nodes that compute one operation. */
export function lowerOperation(op: Op, site: TfjsSite): TfjsFragment {
  // One lookup over a union of operations: the table's type pairs each kind with its own function.
  return (LOWERINGS[op.kind] as (op: Op, site: TfjsSite) => TfjsFragment)(op, site);
}

/** x / ‖x‖₂ of each row of [N, D], with what keeps the norm from being zero. */
export function lowerL2(name: string, x: string, floors: readonly NormFloor[]): TfjsFragment {
  const part = (suffix: string): string => `${name}/${suffix}`;
  const axis = part("axis");
  const constants = new Map<string, Tensor<"float32" | "int32">>([[axis, wholeNumbers(1)]]);
  const nodes = [
    tfNode(part("squared"), "Square", [x]),
    reduction(part("square"), "Sum", part("squared"), axis),
  ];
  const raised = (value: string, of: NormFloor["of"]): string =>
    floors
      .filter((floor) => floor.of === of)
      .reduce((current, { how, epsilon }, index) => {
        const output = part(`${of}/floor_${index}`);
        constants.set(`${output}/epsilon`, scalar(epsilon));
        nodes.push(tfNode(output, how === "sum" ? "AddV2" : "Maximum", [current, `${output}/epsilon`]));
        return output;
      }, value);
  nodes.push(tfNode(part("length"), "Sqrt", [raised(part("square"), "square")]));
  nodes.push(tfNode(name, "RealDiv", [x, raised(part("length"), "length")]));
  return { nodes, constants };
}

/** The attributes of a pooling without padding, which drops a last partial window. */
function windows(op: { readonly kernel: Size2d; readonly stride: Size2d }): AttributeRecord {
  return {
    data_format: text("NHWC"),
    ksize: overImage(op.kernel),
    strides: overImage(op.stride),
    padding: text("VALID"),
  };
}

/** Below every finite number, and what a shader can hold where it has no infinity. */
const LOWEST = -(2 ** 128 - 2 ** 104);

/**
 * Max-pooling: tfjs has no explicit padding for it, and `SAME` is asymmetric at a stride of 2, so that the map is padded
 * before, with the lowest float32, which never wins.
 */
function lowerMaxPool(op: Op<"maxPool">, { name, inputs: [x = ""] }: TfjsSite): TfjsFragment {
  const [height, width] = op.padding;
  if (height === 0 && width === 0) return { nodes: [tfNode(name, "MaxPool", [x], windows(op))] };
  const [padded, paddings, lowest] = [`${name}/padded`, `${name}/paddings`, `${name}/lowest`];
  const sizes: Tensor<"int32"> = {
    ...wholeNumbers(0, 0, height, height, width, width, 0, 0),
    shape: [4, 2],
  };
  return {
    nodes: [
      tfNode(padded, "PadV2", [x, paddings, lowest], { Tpaddings: dtype("DT_INT32") }),
      tfNode(name, "MaxPool", [padded], windows(op)),
    ],
    constants: new Map<string, Tensor<"float32" | "int32">>([
      [paddings, sizes],
      [lowest, scalar(LOWEST)],
    ]),
  };
}

const SPATIAL_AXES = "spatial_axes";

/** The largest of a map, as [N, 1, 1, C]. */
function lowerGlobalMax(_op: Op<"globalMaxPool">, { name, inputs: [x = ""] }: TfjsSite): TfjsFragment {
  return {
    nodes: [reduction(name, "Max", x, SPATIAL_AXES)],
    constants: new Map([[SPATIAL_AXES, wholeNumbers(1, 2)]]),
  };
}

/** [N, 1, 1, C] to [N, C]: with one pixel, the order of the axes makes no difference. */
function lowerFlatten(_op: Op<"flatten">, { name, inputs: [x = ""], shape }: TfjsSite): TfjsFragment {
  const sizes = `${name}/shape`;
  return {
    nodes: [tfNode(name, "Reshape", [x, sizes], { Tshape: dtype("DT_INT32") })],
    constants: new Map([[sizes, wholeNumbers(-1, shape[1] ?? 1)]]),
  };
}

/** A chain of additions, left to right: x₁ + … + xₖ is called `NAME/sum-k`. */
function lowerAdd(_op: Op<"add">, { name, inputs: [first = "", ...rest] }: TfjsSite): TfjsFragment {
  const sumOf = (count: number): string =>
    count === 1 ? first : count > rest.length ? name : `${name}/sum-${count}`;
  return { nodes: rest.map((term, index) => tfNode(sumOf(index + 2), "AddV2", [sumOf(index + 1), term])) };
}
