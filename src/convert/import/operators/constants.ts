import { filled } from "../../../core/functions.js";
import { DTYPES, type DType, elementCount, permute, type Shape, type Tensor } from "../../../core/tensor.js";
import { castFloat, FLOAT_DTYPES, type FloatDType, isDType, toReal } from "../../../core/tensor-cast.js";
import { codeToDType, type OnnxGraph, type OnnxNode } from "../../formats/onnx/model.js";
import { type ForeignNode, type Form, isKind, type Value } from "./foreign.js";
import {
  asTensor,
  int,
  MAX_LIST,
  nodeValue,
  numbers,
  type OperatorReader,
  type OperatorSite,
} from "./site.js";

/** Arithmetic on constants that exporters leave in their graphs. */

/** The tensor of a `Constant` node; undefined for strings and sparse tensors. */
export function constantOf({ attributes }: OnnxNode): Tensor | undefined {
  for (const { type, value } of attributes.values()) {
    if (type === "tensor") return value;
    if (type === "float") return { dtype: "float32", shape: [], data: Float32Array.of(value) };
    if (type === "floats") return { dtype: "float32", shape: [value.length], data: Float32Array.from(value) };
    if (type === "int") return { dtype: "int64", shape: [], data: BigInt64Array.of(int64(value)) };
    if (type === "ints")
      return { dtype: "int64", shape: [value.length], data: BigInt64Array.from(value, int64) };
  }
  return undefined;
}

/** Attributes are clamped to ±(2⁵³ − 1); those that are read as larger are the ends of an int64, which mean "to the end". */
function int64(value: number): bigint {
  if (Math.abs(value) < Number.MAX_SAFE_INTEGER) return BigInt(value);
  return value > 0 ? 2n ** 63n - 1n : -(2n ** 63n);
}

/** The same elements in another shape; undefined if they do not fill it. */
export function reshaped(tensor: Tensor, shape: Shape): Tensor | undefined {
  return elementCount(shape) === tensor.data.length ? { ...tensor, shape } : undefined;
}

/** The target shape of `Reshape`: 0 keeps a dimension, one −1 takes the rest. */
export function resolveShape(target: readonly number[], from: Shape): Shape {
  const kept = target.map((size, axis) => (size === 0 ? (from[axis] ?? 0) : size));
  const known = kept.reduce((product, size) => (size < 0 ? product : product * size), 1);
  return kept.map((size) => (size < 0 ? Math.floor(elementCount(from) / Math.max(1, known)) : size));
}

/** Shape with dimensions of 1 put in at these axes of the result. */
export function unsqueezedShape<Size>(
  shape: readonly Size[],
  axes: readonly number[],
): readonly (Size | 1)[] {
  const rank = shape.length + axes.length;
  const at = new Set(axes.map((axis) => (axis < 0 ? axis + rank : axis)));
  const rest = [...shape];
  return Array.from({ length: rank }, (_, axis) => (at.has(axis) ? 1 : (rest.shift() ?? 1)));
}

/** A tensor with its axes in another order; the reverse order if none is given, as `Transpose` has it. */
export function transposed(tensor: Tensor, order?: readonly number[]): Tensor {
  return permute(tensor, order ?? tensor.shape.map((_, axis) => tensor.shape.length - 1 - axis));
}

/** The elements of a tensor at some places along one axis, as `Gather` and `Slice` take them. */
export function taken(tensor: Tensor, axis: number, places: readonly number[]): Tensor | undefined {
  const { shape, data } = tensor;
  const size = shape[axis];
  if (
    size === undefined ||
    places.some((place) => !Number.isInteger(place) || place < 0 || place >= size) ||
    places.length > MAX_CHANNELS
  )
    return undefined;
  const inner = elementCount(shape.slice(axis + 1));
  const outer = elementCount(shape.slice(0, axis));
  const resultShape = shape.with(axis, places.length);
  if (outer * places.length * inner > data.length) return undefined;
  const Data = DTYPES[tensor.dtype];
  const elements = new Data(outer * places.length * inner);
  let target = 0;
  for (let row = 0; row < outer; row++)
    for (const place of places)
      for (let index = 0; index < inner; index++)
        // One array type on both sides.
        (elements as Float32Array)[target++] = (data as Float32Array)[
          (row * size + place) * inner + index
        ] as number;
  return { ...tensor, shape: resultShape, data: elements };
}

/** Limit on channels, far above any OSNet's: a file may declare a number without containing as much. */
const MAX_CHANNELS = 1 << 20;

/** A constant with one value per channel, or one for all, as a vector. */
export function perChannel(tensor: Tensor, { rank, channels }: Form): Tensor<"float32"> | undefined {
  const dimensions = rank === "flat" ? 2 : 4;
  const { shape } = tensor;
  if (channels === undefined || channels > MAX_CHANNELS || shape.length > dimensions || !isFloat(tensor))
    return undefined;
  const channelAxis = shape.length - (dimensions - 1);
  const alongChannels = shape.every((size, axis) => size === 1 || axis === channelAxis);
  const { length } = tensor.data;
  if (!alongChannels || (length !== 1 && length !== channels)) return undefined;
  const values = toReal(tensor, "constant").data;
  const data = Float32Array.from({ length: channels }, (_, index) => values[length === 1 ? 0 : index] ?? 0);
  // A number whose rounding to float32 makes it an exact factor is another factor.
  if (data.some((value, index) => value !== values[length === 1 ? 0 : index] && isExactFactor(value)))
    return undefined;
  return { ...tensor, dtype: "float32", shape: [channels], data };
}

/** The same, bit for bit and in its own type if the constant has a value for each channel. */
export function channelVector(tensor: Tensor | undefined, form: Form): Tensor | undefined {
  const vector = tensor && perChannel(tensor, form);
  return vector?.data.length === tensor?.data.length && vector
    ? ({ ...tensor, shape: vector.shape } as Tensor)
    : vector;
}

/** Whether a constant is one number and does not add axes to a value. */
export function isOneNumber({ data, shape }: Tensor, { rank }: Form): boolean {
  return data.length === 1 && shape.length <= (rank === "flat" ? 2 : 4);
}

/** The number that all elements of a constant are; undefined if they differ. */
export function uniform(tensor: Tensor): number | undefined {
  if (!isFloat(tensor) || tensor.data.length === 0) return undefined;
  const { data } = toReal(tensor, "constant");
  return data.every((value) => value === data[0]) ? data[0] : undefined;
}

/** The one number that a node multiplies its input by; undefined if it does anything else. */
export function factorOf(node: ForeignNode): number | undefined {
  const { weight, bias } = node.constants;
  return isKind(node, "affine") && weight && !bias ? uniform(weight) : undefined;
}

/** Limit on exponents: larger than files have, and small enough that a network's values do not overflow. */
const MAX_EXPONENT = { single: 16, half: 1 };

/** Whether products with a factor are exact: powers of two, unless they may overflow or become subnormal on the way. */
export function isExactFactor(factor: number, isHalf = false): boolean {
  const exponent = Math.log2(Math.abs(factor));
  return Number.isInteger(exponent) && Math.abs(exponent) <= MAX_EXPONENT[isHalf ? "half" : "single"];
}

export function isFloat({ dtype }: Tensor): boolean {
  return FLOAT_DTYPES.some((float) => float === dtype);
}

/** Integers that graphs compute from shapes, and what depends on them. */

/**
 * Constants are cast as runtimes do: towards zero, integers modulo the type's range. Activations are floats of any
 * width, and a cast to a float has no meaning, except for one to fewer bits that is followed by another cast.
 */
export const readCast: OperatorReader = ({ node, inputs: [input, like], output, isHalf = false }) => {
  const dtype = node.opType === "CastLike" ? dtypeOf(like) : codeToDType(int(node, "to", 0));
  const tensor = asTensor(input);
  if (!dtype) return undefined;
  if (tensor) return isWidened(tensor, dtype) ? input : cast(tensor, dtype);
  // In a narrower type, sizes of large images or of many would wrap around.
  if (input?.kind === "places") return dtype === "int64" ? input : undefined;
  if (input?.kind !== "node") return SIZE_DTYPES.has(dtype) ? input : undefined;
  if (!isFloatType(dtype)) return undefined;
  const { node: source, narrowed } = input;
  // In a network in half precision, values are float16 already.
  if (dtype === "bfloat16" || (dtype === "float16" && !isHalf)) return { ...input, narrowed: dtype };
  return narrowed
    ? nodeValue(
        { kind: "other", opType: `Cast to ${narrowed} and back`, operands: [input] },
        [source],
        source.form,
        output,
      )
    : input;
};

/** Types that have every size of a tensor that fits into memory. */
const SIZE_DTYPES: ReadonlySet<DType> = new Set(["int32", "int64", "float32", "float64"]);

/**
 * Whether a cast changes no number. Such a weight keeps its bits and its type, which shows how it was stored.
 */
function isWidened(tensor: Tensor, dtype: DType): boolean {
  return tensor.dtype === dtype || (dtype === "float32" && isFloat(tensor) && tensor.dtype !== "float64");
}

function dtypeOf(value: Value | undefined): DType | undefined {
  if (value?.kind === "shape") return "int64";
  if (value?.kind !== "node") return asTensor(value)?.dtype;
  // Unknown operators may compute integers or truth values.
  const isReal = !isKind(value.node, "other") && value.reading?.quantised === undefined;
  return isReal ? (value.narrowed ?? "float32") : undefined;
}

export function isFloatType(dtype: DType | undefined): dtype is FloatDType {
  return FLOAT_DTYPES.some((float) => float === dtype);
}

/** Undefined if a runtime's result is undefined, such as NaN as an integer. */
function cast(tensor: Tensor, dtype: DType): Value | undefined {
  const { shape, data } = tensor;
  if (isFloat(tensor) && isFloatType(dtype))
    return { kind: "constant", tensor: castFloat(tensor, dtype, "constant") };
  if (data.length > MAX_EXPANDED) return undefined;
  const numbers = isFloat(tensor)
    ? Array.from(toReal(tensor, "constant").data)
    : Array.from(data as ArrayLike<number | bigint>);
  if (isFloatType(dtype)) {
    const real: Tensor<"float64"> = { dtype: "float64", shape, data: Float64Array.from(numbers, Number) };
    return { kind: "constant", tensor: dtype === "float64" ? real : castFloat(real, dtype, "constant") };
  }
  if (dtype === "bool")
    return {
      kind: "constant",
      tensor: { dtype, shape, data: Uint8Array.from(numbers, (value) => Number(Number(value) !== 0)) },
    };
  const whole = numbers.map((value) =>
    typeof value === "bigint" ? value : towardsZero(value, tensor, dtype),
  );
  const integers = BigInt64Array.from(whole, (value) => value ?? 0n);
  if (whole.includes(undefined)) return undefined;
  if (dtype === "int64") return { kind: "constant", tensor: { dtype, shape, data: integers } };
  const narrow = new DTYPES[dtype](integers.length);
  for (const [index, value] of integers.entries()) narrow[index] = Number(BigInt.asIntN(32, value));
  return { kind: "constant", tensor: { dtype, shape, data: narrow } as Tensor };
}

/** A number without its fraction; undefined if a float is beyond the type's range, where processors differ. */
function towardsZero(value: number, from: Tensor, dtype: DType): bigint | undefined {
  const whole = Math.trunc(value);
  if (!isFloat(from)) return BigInt(whole);
  const [least, most] = INTEGER_RANGES[dtype] ?? [0, -1];
  return whole >= least && whole <= most ? BigInt(whole) : undefined;
}

const INTEGER_RANGES: Readonly<Partial<Record<DType, readonly [number, number]>>> = {
  int8: [-128, 127],
  uint8: [0, 255],
  int16: [-32_768, 32_767],
  int32: [-(2 ** 31), 2 ** 31 - 1],
  int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
};

/** Whether two integers are equal: exporters compare ranks, and choose the branch of an `If` by that. */
export const readEqual: OperatorReader = ({ inputs }) => {
  const [left, right] = inputs.map(asTensor);
  // Not as numbers: two int64 may be the same double.
  const isExact =
    left !== undefined && left.dtype === right?.dtype && !["float16", "bfloat16"].includes(left.dtype);
  if (left?.data.length !== 1 || right?.data.length !== 1 || !isExact) return undefined;
  const { shape } = left.shape.length > right.shape.length ? left : right;
  return { kind: "constant", tensor: { ...truth(left.data[0] === right.data[0]), shape } };
};

export const readNot: OperatorReader = ({ inputs: [input] }) => {
  const values = numbers(input);
  return values?.length === 1 ? { kind: "constant", tensor: truth(values[0] === 0) } : undefined;
};

/** One number repeated in a shape, such as a bias of zeros; or a vector that has the shape already. */
export const readExpand: OperatorReader = ({ inputs }) => {
  const [tensor, target] = [asTensor(inputs[0]), numbers(inputs[1])];
  if (tensor?.shape.length === 1 && (String(target) === "1" || String(target) === String(tensor.shape)))
    return inputs[0];
  if (tensor?.data.length !== 1 || !target?.every((size) => size >= 0)) return undefined;
  const count = elementCount(target);
  if (count > MAX_EXPANDED) return undefined;
  const data = new DTYPES[tensor.dtype](count);
  // One array type on both sides.
  (data as Float32Array).fill(tensor.data[0] as number);
  // Axes that only the number has remain, in front.
  const shape = [...tensor.shape.slice(0, Math.max(0, tensor.shape.length - target.length)), ...target];
  return { kind: "constant", tensor: { ...tensor, shape, data } };
};

/** A vector repeated several times. */
export const readTile: OperatorReader = ({ inputs }) => {
  const [tensor, repeats] = [asTensor(inputs[0]), numbers(inputs[1])];
  const [times = 0] = repeats ?? [];
  if (tensor?.shape.length !== 1 || repeats?.length !== 1 || times < 0 || !Number.isInteger(times))
    return undefined;
  const { length } = tensor.data;
  if (times * length > MAX_EXPANDED) return undefined;
  const data = new DTYPES[tensor.dtype](times * length);
  for (let time = 0; time < times; time++)
    (data as Float32Array).set(tensor.data as Float32Array, time * length);
  return { kind: "constant", tensor: { ...tensor, shape: [times * length], data } };
};

/** Limit on repeated elements: more than an OSNet has channels for a batch; a file may declare any number. */
const MAX_EXPANDED = 1 << 16;

/** Zeros of a constant shape, or another value. Only short lists are of use. */
export const readConstantOfShape: OperatorReader = ({ node, inputs }) => {
  const shape = numbers(inputs[0]);
  // An empty list is the shape of a single number.
  const [length = 1, ...rest] = shape ?? [];
  const value = node.attributes.get("value");
  const fill: Tensor =
    value?.type === "tensor" ? value.value : { dtype: "float32", shape: [1], data: Float32Array.of(0) };
  if (!shape || rest.length > 0 || length > MAX_LIST || length < 0 || fill.data.length !== 1)
    return undefined;
  const data = new DTYPES[fill.dtype](length);
  // One array type on both sides.
  (data as Float32Array).fill(fill.data[0] as number);
  return { kind: "constant", tensor: { ...fill, shape: shape.length === 0 ? [] : [length], data } };
};

function truth(value: boolean): Tensor {
  return { dtype: "bool", shape: [], data: Uint8Array.of(Number(value)) };
}

/**
 * Arithmetic on float32 constants as runtimes fold it before they run, such as a batch norm folded by operators of the graph:
 * operator by operator, each result rounded to float32. All but powers are correctly rounded in IEEE 754, so that every runtime has
 * the same bits; a file is refused if its runtime has others. Half precision has no one meaning: runtimes compute chains of it in float32.
 */
export function floatArithmetic({ node, inputs }: OperatorSite): Value | undefined {
  const compute =
    node.domain === "" && Object.hasOwn(ARITHMETIC, node.opType) ? ARITHMETIC[node.opType] : undefined;
  const operands = inputs.flatMap((value) =>
    value?.kind === "constant" && !value.rounding && isDType(value.tensor, "float32") ? value.tensor : [],
  );
  const [a, b = ONE] = operands;
  if (!a || !compute || operands.length !== inputs.length || operands.length !== compute.length)
    return undefined;
  const shape = spread(a.shape, b.shape);
  // At least one operand must have all elements of the result, so that a few bytes of node cannot ask for a
  // large outer product.
  if (!shape || elementCount(shape) > Math.max(a.data.length, b.data.length)) return undefined;
  const [left, right] = [placesIn(a.shape, shape), placesIn(b.shape, shape)];
  const data = filled(new Float32Array(elementCount(shape)), (at) =>
    // Rounded once by a float32: float64 has more than twice its bits, so that nothing is rounded twice.
    compute(a.data[left(at)] as number, b.data[right(at)] as number),
  );
  return { kind: "constant", tensor: { dtype: "float32", shape, data } };
}

const ARITHMETIC: Readonly<Record<string, (a: number, b: number) => number>> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
  Pow: (a, b) => a ** b,
  // Declared with one parameter, since the operators have one input.
  Neg: (a: number) => -a,
  Reciprocal: (a: number) => 1 / a,
  Sqrt: (a: number) => Math.sqrt(a),
};

/** A second input for operators that have only one. */
const ONE: Tensor<"float32"> = { dtype: "float32", shape: [], data: Float32Array.of(1) };

/** The shape of a result, by ONNX's multidirectional broadcasting; undefined if two sizes do not fit. */
function spread(a: Shape, b: Shape): Shape | undefined {
  const rank = Math.max(a.length, b.length);
  const sizes = Array.from({ length: rank }, (_, axis) => {
    // Missing axes are in front.
    const [left = 1, right = 1] = [a[axis - rank + a.length], b[axis - rank + b.length]];
    return left === right || right === 1 ? left : left === 1 ? right : undefined;
  });
  const known = sizes.filter((size) => size !== undefined);
  return known.length === rank ? known : undefined;
}

/** Where each element of a result is read from in an operand, whose axes of size 1 are repeated. */
function placesIn(own: Shape, result: Shape): (at: number) => number {
  const missing = result.length - own.length;
  const axes = own.flatMap((size, axis) =>
    size === 1
      ? []
      : [
          {
            size,
            below: elementCount(result.slice(axis + missing + 1)),
            step: elementCount(own.slice(axis + 1)),
          },
        ],
  );
  return (at) =>
    axes.reduce((place, { size, below, step }) => place + (Math.floor(at / below) % size) * step, 0);
}

/**
 * Whether most elements that the outputs depend on are in half precision. Vectors do not count, since networks in half
 * precision may have wider scales and statistics.
 */
export function isHalfPrecision(graph: OnnxGraph): boolean {
  const { initializers, nodes, outputs } = graph;
  const needed = new Set(outputs.map(({ name }) => name));
  for (const node of nodes.toReversed())
    if (node.outputs.some((name) => needed.has(name))) for (const name of node.inputs) needed.add(name);
  const weights = [...initializers].flatMap(([name, tensor]) => (needed.has(name) ? [tensor] : []));
  return isMostlyHalf(weights, "float16", weightsOfHalf(graph));
}

/**
 * Whether most elements of weights are in a type of half precision, or are multiplied with values that were.
 *
 * @param tensors vectors among them do not count
 */
export function isMostlyHalf(
  tensors: readonly Tensor[],
  narrow: DType,
  ofHalf: ReadonlySet<Tensor> = new Set(),
): boolean {
  let [half, all] = [0, 0];
  for (const tensor of tensors) {
    if (tensor.shape.length < 2) continue;
    all += tensor.data.length;
    if (tensor.dtype === narrow || ofHalf.has(tensor)) half += tensor.data.length;
  }
  return 2 * half > all;
}

const PRODUCTS: ReadonlySet<string> = new Set(["Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul"]);

/**
 * The weights that are multiplied with values cast from float16 and used for nothing else, as converters leave the
 * products that they keep in float32: all that goes into these was rounded.
 */
export function weightsOfHalf({ inputs, initializers, nodes }: OnnxGraph): ReadonlySet<Tensor> {
  const types = new Map<string, DType | undefined>(inputs.map(({ name, dtype }) => [name, dtype]));
  for (const [name, { dtype }] of initializers) types.set(name, dtype);
  const widened = new Set<string>();
  const found = new Set<Tensor>();
  const others = new Set<Tensor>();
  for (const node of nodes) {
    const [input = ""] = node.inputs;
    const isCast = node.opType === "Cast";
    const type = isCast ? codeToDType(int(node, "to", 0)) : types.get(input);
    for (const output of node.outputs) types.set(output, type);
    if (isCast && (types.get(input) === "float16" || widened.has(input))) widened.add(node.outputs[0] ?? "");
    const isProduct = PRODUCTS.has(node.opType) && widened.has(input);
    for (const [index, name] of node.inputs.entries()) {
      const tensor = initializers.get(name);
      if (tensor) (isProduct && index === 1 ? found : others).add(tensor);
    }
  }
  return new Set([...found].filter((tensor) => !others.has(tensor)));
}
