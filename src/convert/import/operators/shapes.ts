import { elementCount, type Shape } from "../../../core/tensor.js";
import { wholeNumbers } from "../../formats/onnx/model.js";
import { type ForeignNode, isKind, type Places, type Size, type Value } from "./foreign.js";
import { NCHW } from "./layouts.js";
import {
  asNode,
  asTensor,
  attributeOrInput,
  int,
  ints,
  MAX_LIST,
  numbers,
  type OperatorReader,
  type OperatorSite,
} from "./site.js";

/** Shapes that graphs compute, of constants and of activations, some of whose sizes are dynamic. */

/** The sizes of an activation's axes, in the file's order. */
export function sizesOf({ layout = NCHW, batch }: OperatorSite, node: ForeignNode): readonly Size[] {
  const { rank, channels, size, isGuess } = node.form;
  if (isGuess) return [undefined, undefined, undefined, undefined];
  if (rank === "flat") return [batch ?? "batch", channels];
  // The result of a window that is larger than its map depends on the runtime.
  const open = (axis: number): Size => {
    const known = size?.[axis - 2] ?? 0;
    return known > 0 ? known : { of: node, axis };
  };
  const plane = rank === "pooled" ? [1, 1] : [open(2), open(3)];
  const isJoined = isKind(node, "other") && node.op.opType === "Concat" && node.op.axes?.[0] !== 1;
  const images = isJoined ? undefined : (batch ?? "batch");
  const sizes: readonly Size[] = [images, channels, ...plane];
  return layout.map((axis) => sizes[axis]);
}

/** Whether two sizes are equal for any images. */
export function sameSize(a: Size, b: Size): boolean {
  if (a === undefined || b === undefined) return false;
  if (typeof a !== "object" || typeof b !== "object") return a === b;
  return a.of === b.of && a.axis === b.axis;
}

/** The sizes in a list that is constant or computed from shapes. */
export function listedSizes(value: Value | undefined): readonly Size[] | undefined {
  return value?.kind === "shape" ? value.sizes : numbers(value);
}

/** The target of a Reshape; undefined if it is not known, or has zeros that are sizes (`allowzero`) and do not copy any. */
export function reshapeTarget({ node, inputs }: OperatorSite): readonly Size[] | undefined {
  const target = ints(node, "shape") ?? listedSizes(inputs[1]);
  return int(node, "allowzero", 0) !== 0 && target?.includes(0) ? undefined : target;
}

/** The shape of a constant, or what is known about that of an activation. */
export const readShape: OperatorReader = (site) => {
  const { node, inputs } = site;
  const [input] = inputs;
  const constant =
    input?.kind === "shape" && input.length !== undefined ? [input.length] : asTensor(input)?.shape;
  const length = constant?.length ?? rankOf(input);
  if (length === undefined) return undefined;
  const [start, end] = [int(node, "start", 0), int(node, "end", length)];
  if (constant) return { kind: "constant", tensor: wholeNumbers(constant.slice(start, end)) };
  const own = asNode(input);
  const sizes = own && !site.isLine ? sizesOf(site, own) : [];
  return {
    kind: "shape",
    length: Array(length).slice(start, end).length,
    ...(sizes.length === length ? { sizes: sizes.slice(start, end) } : {}),
  };
};

/** The number of elements of a constant, or of a list of sizes, which is a rank. */
export const readSize: OperatorReader = ({ inputs: [input] }) => {
  const count = asTensor(input)?.data.length ?? (input?.kind === "shape" ? input.length : undefined);
  return count === undefined ? undefined : { kind: "constant", tensor: wholeNumbers([count], []) };
};

function rankOf(value: Value | undefined): number | undefined {
  const node = asNode(value);
  // An unknown operator may change the rank.
  const mayChange = node && isKind(node, "other") && node.op.opType !== "Concat";
  if (value?.kind !== "node" || !node || mayChange || node.form.isGuess) return undefined;
  if (value.planes) return value.planes.rank;
  if (value.reading?.isLine) return 3;
  return node.form.rank === "flat" || value.reading?.isFlat ? 2 : 4;
}

/** Concatenates shapes, which are one-dimensional; other concatenations do not occur in an OSNet. */
export const readConcat: OperatorReader = ({ inputs }) => {
  if (inputs.some((input) => (asTensor(input)?.shape.length ?? 1) > 1)) return undefined;
  const parts = inputs.map(listedSizes);
  const sizes = parts.flatMap((part) => part ?? []);
  if (parts.includes(undefined) || sizes.length > MAX_LIST) return undefined;
  if (inputs.some((input) => input?.kind === "shape")) return { kind: "shape", length: sizes.length, sizes };
  const values = sizes.filter((size) => typeof size === "number");
  return values.every(Number.isInteger) ? { kind: "constant", tensor: wholeNumbers(values) } : undefined;
};

/** The sizes that an operator passes on, some or all of them; undefined for other operators. */
export function sizesPassedOn(site: OperatorSite): Value | undefined {
  const { node, inputs } = site;
  const [list, ...others] = inputs;
  if (list?.kind !== "shape" || !list.sizes) return undefined;
  const { sizes } = list;
  const { isNumber = false } = list;
  const target = node.opType === "Reshape" ? numbers(others[0]) : undefined;
  if (target && target.length < 2) return { ...list, isNumber: target.length === 0 };
  if (node.opType === "Identity") return list;
  if (node.opType === "Squeeze") return { ...list, isNumber: sizes.length === 1 };
  // A list with another axis has rows.
  if (node.opType === "Unsqueeze") return isNumber ? { ...list, isNumber: false } : undefined;
  if (node.opType === "Slice") {
    const [starts, ends] = [attributeOrInput(site, "starts", 1), attributeOrInput(site, "ends", 2)];
    // A list has one axis; a step that is computed may be any.
    const [axes, steps] = [inputs[3], inputs[4]].map((value) =>
      value ? (whole(value) ?? Number.NaN) : undefined,
    );
    const isPlain =
      starts?.length === 1 && ends?.length === 1 && [0, -1].includes(axes ?? 0) && (steps ?? 1) === 1;
    return isPlain ? sizesValue(sizes.slice(starts[0], ends[0])) : undefined;
  }
  // A part of a size, such as the number of images of a batch that is split.
  if (Object.hasOwn(ARITHMETIC, node.opType) && sizes.length === 1 && numbers(others[0])?.length === 1)
    return {
      kind: "shape",
      length: 1,
      sizes: [undefined],
      isNumber: isNumber && asTensor(others[0])?.shape.length === 0,
    };
  if (node.opType !== "Gather" || int(node, "axis", 0) !== 0) return undefined;
  const places = numbers(others[0]);
  if ((asTensor(others[0])?.shape.length ?? 0) > 1) return undefined;
  return (
    places &&
    sizesValue(
      places.map((place) => sizes.at(place)),
      asTensor(others[0])?.shape,
    )
  );
}

/**
 * Lists that are compared and chosen from element by element: torch's exporter takes the sizes of `expand(-1, -1, h, w)` that are not
 * −1 in this way. No size is negative.
 */
export function chosenSizes({ node, inputs }: OperatorSite): Value | undefined {
  const lists = inputs.map((value) => (isList(value) ? listedSizes(value) : undefined));
  if (node.opType === "Equal" && inputs.length === 2) {
    const [a = [], b = []] = lists;
    const equal = a.map((size, at) => {
      const other = b[at];
      if (typeof size === "number" && typeof other === "number") return size === other;
      // What is calculated from sizes is not known, and may be negative.
      const isNegative = [size, other].some((one) => typeof one === "number" && one < 0);
      return isNegative && size !== undefined && other !== undefined ? false : undefined;
    });
    if (a.length === 0 || a.length !== b.length || equal.includes(undefined)) return undefined;
    return {
      kind: "constant",
      tensor: { dtype: "bool", shape: [a.length], data: Uint8Array.from(equal, Number) },
    };
  }
  const condition = node.opType === "Where" ? asTensor(inputs[0]) : undefined;
  const [, yes, no] = lists;
  if (condition?.dtype !== "bool" || condition.shape.length !== 1 || !yes || !no) return undefined;
  const { length } = condition.data;
  if (yes.length !== length || no.length !== length) return undefined;
  return sizesValue(yes.map((size, at) => (condition.data[at] === 1 ? size : no[at])));
}

/** A list of more than one whole number. */
function isList(value: Value | undefined): boolean {
  const tensor = asTensor(value);
  // Different integers beyond 2^53 may be equal as numbers.
  const isExact = (value: number | bigint): boolean => Number.isSafeInteger(Number(value));
  if (tensor)
    return (
      tensor.dtype === "int64" && tensor.shape.length === 1 && (tensor.data as BigInt64Array).every(isExact)
    );
  return value?.kind === "shape" && value.length !== undefined && value.length > 1;
}

/** A list of sizes, or one size: constants if all of them are numbers. */
function sizesValue(sizes: readonly Size[], shape: Shape = [sizes.length]): Value {
  const values = sizes.filter((size) => typeof size === "number");
  return values.length === sizes.length
    ? { kind: "constant", tensor: wholeNumbers(values, shape) }
    : { kind: "shape", length: sizes.length, sizes, isNumber: shape.length === 0 };
}

/**
 * Indices into a line of elements that are computed from its sizes, as torch's exporter writes `as_strided`.
 */

/** Indices as strides, if each is a sum of multiples of its position along the axes. */
export function placesOf(value: Value | undefined): Places | undefined {
  if (value?.kind === "places") return value;
  const tensor = asTensor(value);
  if (tensor?.dtype !== "int64" || tensor.data.length > MAX_PLACES) return undefined;
  const { shape } = tensor;
  const data = tensor.data as BigInt64Array;
  const steps = shape.map((_, axis) => elementCount(shape.slice(axis + 1)));
  const strides = steps.map((step, axis) => ((shape[axis] ?? 0) > 1 ? Number(data[step]) : 0));
  const isSum = data.every((place, at) => {
    const sum = strides.reduce(
      (total, stride, axis) => total + stride * (Math.floor(at / (steps[axis] ?? 1)) % (shape[axis] ?? 1)),
      0,
    );
    return Number(place) === sum;
  });
  return isSum ? { sizes: shape, strides } : undefined;
}

/** Limit on indices: images times channels of a layer. */
const MAX_PLACES = 1 << 16;

/** A single int64: indices of other types wrap around, or are rounded. */
function whole(value: Value | undefined): number | undefined {
  const list = asTensor(value)?.dtype === "int64" ? numbers(value) : undefined;
  return list?.length === 1 ? list[0] : undefined;
}

/** Reads ranges over computed sizes, multiples of them, and sums along several axes. */
export function readPlaces(site: OperatorSite): Value | undefined {
  const { node, inputs } = site;
  const [a, b, step] = inputs;
  if (node.opType === "Range") {
    const [limit, ...others] = b?.kind === "shape" ? (b.sizes ?? []) : [];
    const isPlain = whole(a) === 0 && whole(step) === 1 && others.length === 0;
    return isPlain && limit !== undefined ? { kind: "places", sizes: [limit], strides: [1] } : undefined;
  }
  const places = [a, b].find((value) => value?.kind === "places");
  if (places?.kind !== "places") return undefined;
  const { sizes, strides } = places;
  if (node.opType === "Mul") {
    const factor = whole(places === a ? b : a);
    if (factor === undefined) return undefined;
    return { kind: "places", sizes, strides: strides.map((stride) => stride * factor) };
  }
  const axes = node.opType === "Unsqueeze" ? attributeOrInput(site, "axes", 1) : undefined;
  if (axes && sizes.length === 1 && axes.every((axis, at) => axis === at + 1))
    return {
      kind: "places",
      sizes: [...sizes, ...axes.map(() => 1)],
      strides: [...strides, ...axes.map(() => 0)],
    };
  const other = node.opType === "Add" ? placesOf(places === a ? b : a) : undefined;
  if (other?.sizes.length !== sizes.length) return undefined;
  // Along each axis, at least one of the two is repeated, or both have the same size.
  if (
    !sizes.every((size, axis) => size === 1 || other.sizes[axis] === 1 || sameSize(size, other.sizes[axis]))
  )
    return undefined;
  return {
    kind: "places",
    sizes: sizes.map((size, axis) => (size === 1 ? other.sizes[axis] : size)),
    strides: strides.map((stride, axis) => stride + (other.strides[axis] ?? 0)),
  };
}

/** Integer arithmetic as in runtimes: modulo 2⁶⁴, and towards zero. */
export function wholeArithmetic({ node, inputs }: OperatorSite): Value | undefined {
  const operation = Object.hasOwn(ARITHMETIC, node.opType) ? ARITHMETIC[node.opType] : undefined;
  const [a, b] = inputs.map(asTensor);
  if (!operation || inputs.length !== 2 || a?.dtype !== "int64" || b?.dtype !== "int64") return undefined;
  const [left, right] = [a.data as BigInt64Array, b.data as BigInt64Array];
  const { shape } = a.shape.length >= b.shape.length ? a : b;
  const isSpread = [a, b].every(({ data }) => data.length === 1 || data.length === elementCount(shape));
  if (!isSpread || elementCount(shape) > MAX_LIST || [a, b].some((one) => one.shape.length > 1))
    return undefined;
  const data = new BigInt64Array(elementCount(shape));
  for (const at of data.keys()) {
    const result = operation(
      left[left.length === 1 ? 0 : at] ?? 0n,
      right[right.length === 1 ? 0 : at] ?? 0n,
    );
    if (result === undefined) return undefined;
    data[at] = BigInt.asIntN(64, result);
  }
  return { kind: "constant", tensor: { dtype: "int64", shape, data } };
}

const ARITHMETIC: Readonly<Record<string, (a: bigint, b: bigint) => bigint | undefined>> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => (b === 0n ? undefined : a / b),
  // For operands of opposite signs, the result depends on an attribute.
  Mod: (a, b) => (a >= 0n && b > 0n ? a % b : undefined),
};
