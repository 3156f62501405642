import { elementCount } from "../../../core/tensor.js";
import { cutsOf, isAll, oneColour, reordered } from "./colours.js";
import { perChannel, reshaped, resolveShape, transposed, unsqueezedShape } from "./constants.js";
import {
  type ForeignNode,
  inForm,
  isKind,
  type Layout,
  type Reading,
  type Size,
  type Value,
} from "./foreign.js";
import { isNchw, NCHW, NHWC, permuted } from "./layouts.js";
import { reshapedBack } from "./norms.js";
import { asPlanes } from "./planes.js";
import { listedSizes, reshapeTarget, sameSize, sizesOf } from "./shapes.js";
import {
  asNode,
  asTensor,
  attributeOrInput,
  floats,
  frontAxes,
  int,
  ints,
  nodeValue,
  numbers,
  type OperatorReader,
  type OperatorSite,
  text,
} from "./site.js";
import { globalPool, pointwiseOp, pooledPixels } from "./windows.js";

/** Operators that move elements without changing them, and reductions over a plane. */

export const readFlatten: OperatorReader = (site) => {
  const axis = int(site.node, "axis", 1);
  const tensor = asTensor(site.inputs[0]);
  if (tensor) {
    const sides = [tensor.shape.slice(0, axis), tensor.shape.slice(axis)];
    return constant(reshaped(tensor, sides.map(elementCount)));
  }
  const sizes = vectorSizes(site);
  const isByImage = (site.layout?.[0] ?? 0) === 0 && sizes && (axis < 0 ? axis + sizes.length : axis) === 1;
  return isByImage ? asVector(site, channelSizes(site).flat) : undefined;
};

/**
 * A reshape of a pooled map or vector to a shape of the same vector, for any number of images: exporters compute the
 * shape from that of the input.
 */
export const readReshape: OperatorReader = (site) => {
  const { node, inputs, output, layout } = site;
  const target = ints(node, "shape") ?? numbers(inputs[1]);
  const [input, tensor] = [asNode(inputs[0]), asTensor(inputs[0])];
  if (tensor) return target && constant(reshaped(tensor, resolveShape(target, tensor.shape)));
  if (!input) return undefined;
  const planes = asPlanes(site) ?? (target && !layout && reshapedBack(input, target, output));
  if (planes) return planes;
  const [sizes, own] = [reshapeTarget(site), vectorSizes(site)];
  if (!sizes || !own) return undefined;
  return asVector(
    site,
    sizes.map((size, axis) => (size === 0 ? own[axis] : size)),
  );
};

export const readSqueeze: OperatorReader = (site) => {
  const given = attributeOrInput(site, "axes", 1);
  if (!given && site.inputs[1]) return undefined;
  // An empty list of axes means all axes of size 1.
  const axes = given?.length === 0 ? undefined : given;
  const tensor = asTensor(site.inputs[0]);
  const rest = <Item>(sizes: readonly Item[]): readonly Item[] => {
    const at = new Set(axes?.map((axis) => (axis < 0 ? axis + sizes.length : axis)));
    return sizes.filter((size, axis) => (axes ? !at.has(axis) : size !== 1));
  };
  if (tensor) return constant(reshaped(tensor, rest(tensor.shape)));
  const sizes = vectorSizes(site);
  if (!sizes) return undefined;
  const [batch, ...others] = sizes;
  // Without axes, every axis of size 1 is removed, except that of the images.
  return asVector(site, axes ? rest(sizes) : [batch, ...rest(others)]);
};

export const readUnsqueeze: OperatorReader = (site) => {
  const axes = attributeOrInput(site, "axes", 1);
  const tensor = asTensor(site.inputs[0]);
  if (tensor) return axes && constant(reshaped(tensor, unsqueezedShape(tensor.shape, axes)));
  const sizes = vectorSizes(site);
  return sizes && axes && asVector(site, unsqueezedShape(sizes, axes));
};

/** The sizes of [N, C] with axes of size 1 added at these positions. */
function channelSizes(
  site: OperatorSite,
): Readonly<Record<"flat" | "line" | "nchw" | "nhwc", readonly Size[]>> {
  const { inputs } = site;
  const batch = site.batch ?? "batch";
  const channels = asNode(inputs[0])?.form.channels;
  return {
    flat: [batch, channels],
    line: [batch, channels, 1],
    nchw: [batch, channels, 1, 1],
    nhwc: [batch, 1, 1, channels],
  };
}

/** The sizes of an activation of single pixels, as the file has it; undefined for a map, and where images are not its first axis. */
function vectorSizes(site: OperatorSite): readonly Size[] | undefined {
  const [value] = site.inputs;
  if (value?.kind !== "node" || value.node.form.rank === "map") return undefined;
  const { flat, line, nchw } = channelSizes(site);
  if (site.isLine) return line;
  if (value.node.form.rank === "flat" || value.reading?.isFlat) return flat;
  const { layout = NCHW } = site;
  return layout.indexOf(0) < layout.indexOf(1) ? layout.map((axis) => nchw[axis]) : undefined;
}

/** A pooled map or vector in another shape. One size may be unknown, since it follows from the others. */
function asVector(site: OperatorSite, sizes: readonly Size[]): Value | undefined {
  const { output } = site;
  const input = asNode(site.inputs[0]);
  const { flat, line, nchw, nhwc } = channelSizes(site);
  const fits = (known: readonly Size[]): boolean =>
    known.length === sizes.length && known.filter((size, axis) => !sameSize(size, sizes[axis])).length <= 1;
  if (!input) return undefined;
  if (fits(flat)) return site.isLine ? { kind: "node", node: input } : flattened(input, output);
  if (fits(line)) return onLine(input, output);
  if (fits(nchw)) return unflattened(input, site, NCHW);
  return fits(nhwc) ? unflattened(input, site, NHWC) : undefined;
}

/** [N, C] or [N, C, 1, 1] as [N, C, 1]: the same vector with one more axis. */
function onLine(input: ForeignNode, output: string): Value | undefined {
  const reading: Reading = { isLine: true };
  if (input.form.rank === "flat") return { kind: "node", node: input, reading };
  const flat = asNode(flattened(input, output));
  return flat && { kind: "node", node: { ...flat, reading }, reading };
}

/** The same activation in another layout. */
export const readTranspose: OperatorReader = ({ node, inputs, layout = NCHW }) => {
  const order = ints(node, "perm");
  const [input, tensor] = [asNode(inputs[0]), asTensor(inputs[0])];
  if (tensor) return isOrder(order, tensor.shape.length) ? constant(transposed(tensor, order)) : undefined;
  if (!input || order?.length !== 4 || input.form.rank === "flat") return undefined;
  const changed = permuted(layout, order);
  return { kind: "node", node: input, ...(isNchw(changed) ? {} : { reading: { layout: changed } }) };
};

/** Whether this is a permutation. Without `perm`, the axes are reversed. */
function isOrder(order: readonly number[] | undefined, rank: number): boolean {
  if (!order) return true;
  return (
    order.length === rank && order.every((axis, at) => axis >= 0 && axis < rank && order.indexOf(axis) === at)
  );
}

/** @param output undefined if the result is not a value of the file */
function reduced(
  pool: "globalAvgPool" | "globalMaxPool",
  site: OperatorSite,
  output: string | undefined,
): Value | undefined {
  const input = asNode(site.inputs[0]);
  const axes = attributeOrInput(site, "axes", 1);
  if (!input || !axes || input.form.rank !== "map") return undefined;
  const [source, first] = firstReduction(input, site.node.opType);
  const isGone = first !== undefined && isKind(input, "other") && input.op.isReduced === true;
  // Without an axis, those after it move one to the front.
  const own = axes.map((axis) => {
    const at = isGone && axis < 0 ? axis + 3 : axis;
    return isGone && at >= first ? at + 1 : at;
  });
  if (String(frontAxes([...(first === undefined ? [] : [first]), ...own], source.form)) !== "2,3")
    return undefined;
  if (int(site.node, "keepdims", 1) === 1) return globalPool(pool, source, output);
  const { layout = NCHW } = site;
  if (layout.indexOf(0) > layout.indexOf(1)) return undefined;
  // Without `keepdims` the result is [N, C], and the pooled map is not a value of the file.
  const pooled = asNode(globalPool(pool, source, undefined));
  return pooled && flattened(pooled, output);
}

/** The source and axis of an earlier reduction, if a plane is reduced one axis at a time. */
function firstReduction(
  input: ForeignNode,
  opType: string,
): readonly [source: ForeignNode, axis: number | undefined] {
  const [source] = input.inputs;
  const { op } = input;
  const isFirst = op.kind === "other" && op.opType === opType && op.axes?.length === 1 && source;
  return isFirst ? [source, frontAxes(op.axes, source.form)[0]] : [input, undefined];
}

export const readReduceMean: OperatorReader = (site) =>
  pixelReduced(site) ?? reduced("globalAvgPool", site, site.output);
export const readReduceMax: OperatorReader = (site) =>
  pixelReduced(site) ?? reduced("globalMaxPool", site, site.output);

/** What any reduction over the plane of a pooled map leaves: its pixel. */
function pixelReduced(site: OperatorSite): Value | undefined {
  const [value] = site.inputs;
  const input = asNode(value);
  const axes = attributeOrInput(site, "axes", 1) ?? [];
  // Without axes, it is a reduction over all of them.
  if (!input || input.form.isGuess || axes.length === 0 || vectorSizes(site)?.length !== 4) return undefined;
  if (frontAxes(axes, input.form).some((axis) => axis < 2)) return undefined;
  if (int(site.node, "keepdims", 1) === 1) return value;
  if (axes.length > 1) return flattened(input, site.output);
  return isNchw(site.layout ?? NCHW) ? onLine(input, site.output) : undefined;
}

/**
 * A sum over the pixels of a map of known size: their mean times their number, by which programs divide next. In half precision
 * a sum may overflow where the mean does not.
 */
export const readReduceSum: OperatorReader = (site) => {
  const pixel = pixelReduced(site);
  if (pixel) return pixel;
  const mean = site.isHalf ? undefined : asNode(reduced("globalAvgPool", site, undefined));
  const pixels = pooledPixels(mean);
  if (!mean || pixels === undefined) return undefined;
  const weight = perChannel({ dtype: "float32", shape: [], data: Float32Array.of(pixels) }, mean.form);
  return weight && nodeValue({ kind: "affine" }, [mean], mean.form, site.output, { weight });
};

/** A pooled map after pointwise convolutions as the vector that it is; undefined for a pool itself, and for a gate. */
export function pixelAsVector(pixel: ForeignNode): ForeignNode | undefined {
  return isKind(pixel, "conv", "relu", "batchNorm", "affine") ? onVector(pixel, MAX_STEPS) : undefined;
}

function flattened(input: ForeignNode, output: string | undefined): Value | undefined {
  const { rank } = input.form;
  if (rank === "flat")
    return { kind: "node", node: input.op.kind === "flatten" ? { ...input, value: output } : input };
  if (rank !== "pooled") return undefined;
  const vector = pixelAsVector(input);
  return vector
    ? { kind: "node", node: vector }
    : nodeValue({ kind: "flatten" }, [input], inForm(input.form, "flat"), output);
}

/**
 * Pointwise convolutions and activations on a pooled map, read as linear layers of the flattened one: how a network that is
 * flattened last has its embedding. The values in the file have two more axes.
 */
function onVector(node: ForeignNode, steps: number): ForeignNode | undefined {
  const { op, constants, form, inputs, reading } = node;
  const known = vectors.get(node);
  if (known) return known;
  if (isKind(node, "globalAvgPool", "globalMaxPool"))
    return asNode(nodeValue({ kind: "flatten" }, [node], inForm(form, "flat"), undefined));
  const [input] = inputs;
  const before = input && inputs.length === 1 && steps > 0 ? onVector(input, steps - 1) : undefined;
  if (!before || !isKind(node, "conv", "relu", "batchNorm", "affine")) return undefined;
  const vector: ForeignNode = {
    ...node,
    inputs: [before],
    form: inForm(form, "flat"),
    reading: { ...reading, isLine: true },
  };
  const { weight } = constants;
  if (op.kind !== "conv") return vector;
  const { inChannels: inFeatures, outChannels: outFeatures } = op;
  const isPointwise = String(weight?.shape) === String([outFeatures, inFeatures, 1, 1]);
  if (!weight || !isPointwise || op.padding.some((size) => size !== 0)) return undefined;
  return {
    ...vector,
    op: { kind: "linear", inFeatures, outFeatures },
    constants: { ...constants, weight: { ...weight, shape: [outFeatures, inFeatures] } },
  };
}

/**
 * [N, C] as [N, C, 1, 1] or [N, 1, 1, C] again: the pooled map that was flattened, which now has a value in the file.
 */
function unflattened(
  input: ForeignNode,
  { output, readersOf }: OperatorSite,
  layout: Layout,
): Value | undefined {
  // A step inside an operator has no name.
  const isOutput = output !== "" && readersOf?.(output).size === 0;
  const reading = isNchw(layout) ? {} : { reading: { layout } };
  if (input.form.rank === "pooled") return { kind: "node", node: input, ...reading };
  const [pooled] = input.inputs;
  if (input.op.kind === "flatten" && pooled) {
    const node = pooled.value === undefined ? { ...pooled, value: output, ...reading } : pooled;
    return { kind: "node", node, ...reading };
  }
  // A gate's vector is read by a product with a map; an output may have axes of size 1.
  if (isOutput) return { kind: "node", node: input };
  const node = onPixel(input, MAX_STEPS);
  return node && { kind: "node", node, ...reading };
}

/** Limit on steps: more than a gate has from its pool to its product. */
const MAX_STEPS = 16;

/**
 * Linear layers and activations on a flattened map, read as pointwise convolutions of a single pixel: some exporters
 * write a gate as a small network of vectors. The values in the file have two axes fewer.
 */
function onPixel(node: ForeignNode, steps: number): ForeignNode | undefined {
  const [input] = node.inputs;
  if (node.op.kind === "flatten")
    // A mean without `keepdims` is the pooled map, and this is its value.
    return input && input.value === undefined
      ? { ...input, value: node.value, reading: { ...input.reading, isFlat: true } }
      : input;
  const before = input && node.inputs.length === 1 && steps > 0 ? onPixel(input, steps - 1) : undefined;
  if (!before || !isKind(node, "linear", "affine", "batchNorm", "relu", "sigmoid", "other")) return undefined;
  const { op, constants } = node;
  const { weight } = constants;
  const pixel: ForeignNode = {
    ...node,
    inputs: [before],
    form: { ...node.form, rank: "pooled" },
    reading: { ...node.reading, isFlat: true },
    ...(op.kind !== "linear" || !weight
      ? {}
      : {
          op: pointwiseOp(op.inFeatures, op.outFeatures),
          constants: { ...constants, weight: { ...weight, shape: [op.outFeatures, op.inFeatures, 1, 1] } },
        }),
  };
  vectors.set(pixel, node);
  return pixel;
}

/** The vector that a pixel was read from, which may be flattened again. */
const vectors = new WeakMap<ForeignNode, ForeignNode>();

function constant(tensor: ReturnType<typeof reshaped>): Value | undefined {
  return tensor && { kind: "constant", tensor };
}

/**
 * Operators that pass on a value unchanged because of their parameters: one copy, a scale of 1, the whole of an axis.
 */

/** The input of an operator that passes it on for any images. */
export function passedOn(site: OperatorSite): Value | undefined {
  const { node, inputs } = site;
  const [value] = inputs;
  const input = asNode(value);
  const isIdle = node.domain === "" && Object.hasOwn(IDLE, node.opType) ? IDLE[node.opType] : undefined;
  return input && !site.isLine && isIdle?.(site, sizesOf(site, input)) ? value : undefined;
}

const IDLE: Readonly<Record<string, (site: OperatorSite, sizes: readonly Size[]) => boolean>> = {
  Concat: ({ inputs }) => inputs.length === 1,
  // A target size of 1 broadcasts to the value's own size, and a product broadcasts the single pixels of a gate anyway.
  Expand: (site, sizes) => {
    const target = listedSizes(site.inputs[1]) ?? [0];
    const first = sizes.length - target.length;
    const fits = target.every(
      (size, at) =>
        size === 1 ||
        sameSize(size, sizes[first + at]) ||
        (size !== undefined && size !== 0 && isBroadcast(site, sizes, first + at)),
    );
    return first >= 0 && fits;
  },
  Gather: ({ node, inputs }, sizes) => {
    const places = asTensor(inputs[1]);
    const size = sizes.at(int(node, "axis", 0));
    if (typeof size !== "number" || places?.shape.length !== 1 || places.data.length !== size) return false;
    return Array.from(places.data as ArrayLike<number | bigint>).every((place, at) => Number(place) === at);
  },
  // With a scale of 1, every rule of rounding and interpolation takes each pixel from its own position, except for
  // cropping.
  Resize: ({ node, inputs }, sizes) => {
    const scales = numbers(inputs[inputs.length < 3 ? 1 : 2]);
    const isCut = text(node, "coordinate_transformation_mode", "") === "tf_crop_and_resize";
    return !isCut && inputs[3] === undefined && isOnes(scales, ints(node, "axes")?.length ?? sizes.length);
  },
  Reshape: (site, sizes) => {
    const target = reshapeTarget(site);
    if (target?.length !== sizes.length || sizes.length !== 4) return false;
    // One axis may be unknown: if all others are unchanged, this one is too.
    return target.filter((size, axis) => size !== 0 && !sameSize(size, sizes[axis])).length <= 1;
  },
  Slice: (site, sizes) => cutsOf(site)?.every((cut) => isAll(cut, sizes)) === true,
  Split: ({ node }) => node.outputs.length === 1,
  Tile: (site, sizes) => {
    const times = numbers(site.inputs[1]);
    const fits = (count: number, axis: number): boolean =>
      count === 1 || (count > 0 && isBroadcast(site, sizes, axis));
    return times?.length === sizes.length && times.every(fits);
  },
  Upsample: ({ node, inputs }, sizes) => isOnes(floats(node, "scales") ?? numbers(inputs[1]), sizes.length),
};

/** Whether an axis is one pixel of a plane, in a value that only products read: these broadcast the pixels of a gate anyway. */
function isBroadcast(
  { output, readersOf, layout = NCHW }: OperatorSite,
  sizes: readonly Size[],
  axis: number,
): boolean {
  const readers = readersOf?.(output);
  const isFactor = readers?.has("Mul") === true && readers.size === 1 && sizes.length === 4;
  return isFactor && sizes[axis] === 1 && (layout[axis] ?? 0) > 1;
}

function isOnes(values: readonly number[] | undefined, length: number): boolean {
  return values?.length === length && values.every((value) => value === 1);
}

/** The only element of an axis, or channels in another order, such as BGR to RGB. */
export const readChannelGather: OperatorReader = (site) => {
  const axis = int(site.node, "axis", 0);
  const places = numbers(site.inputs[1]);
  const sizes = vectorSizes(site);
  const isNumber = asTensor(site.inputs[1])?.shape.length === 0;
  // The only element of an axis, as in `pooled[:, :, 0, 0]`.
  if (isNumber && sizes?.at(axis) === 1 && (places?.[0] === 0 || places?.[0] === -1))
    return asVector(
      site,
      sizes.filter((_, at) => at !== (axis < 0 ? axis + sizes.length : axis)),
    );
  if (axis !== 1) return undefined;
  return places?.length === 1 && !isNumber ? oneColour(site, places[0] ?? 0) : reordered(site, places);
};
