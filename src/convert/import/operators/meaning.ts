import type { Tensor } from "../../../core/tensor.js";
import { formatFloat32 } from "../../../core/text.js";
import { floatArithmetic, isFloat, isOneNumber, perChannel, uniform } from "./constants.js";
import { decomposed } from "./decompositions.js";
import {
  type ForeignNode,
  type ForeignOp,
  type Form,
  isKind,
  type Layout,
  type NearMiss,
  type Pieces,
  type Value,
} from "./foreign.js";
import { axesOf, ELEMENTWISE, isNchw, laidOut, NCHW, NHWC, onNchw } from "./layouts.js";
import { clipBounds, ON_WHOLE_NUMBERS, piecesOf, simplest } from "./pieces.js";
import { inPlanes, joinedForm, ofStacked, onMap } from "./planes.js";
import { laterOutput } from "./quantised.js";
import { readerOf } from "./readers.js";
import { passedOn } from "./reshape.js";
import { chosenSizes, readPlaces, reshapeTarget, sizesPassedOn, wholeArithmetic } from "./shapes.js";
import { asNode, asTensor, attributeOrInput, float, int, type OperatorSite } from "./site.js";
import { pooledPixels } from "./windows.js";

/** What an output of an operator is: of one that no reader knows, an operator by its name. */
export function meaning(site: OperatorSite, index: number): Value {
  const value = readMeaning(site, index);
  if (value.kind === "constant") return site.inputs.some(dependsOnImages) ? withSizes(value) : value;
  if (value.kind !== "node") return value;
  const nodes = site.inputs.flatMap((input) => asNode(input) ?? []);
  // Numbers and indices of the network do not follow from the size or number of images, but a mean's number of pixels does.
  const isIndex = site.node.opType.startsWith("Gather");
  const isSized = site.inputs.some((input) => hasSizes(input) && (isIndex || isFloat(input.tensor)));
  const isMean = !isIndex && pooledPixels(value.node) !== undefined && !nodes.includes(value.node);
  if (isSized && !isMean) return unknown(site, site.node.opType);
  if (nodes.includes(value.node)) return value;
  // A result that is an operand in another shape, or with another constant, is as certain as the operand.
  const isGuess = nodes.some(({ inputs, form }) => inputs === value.node.inputs && form.isGuess);
  const form: Form = isGuess ? { ...value.node.form, isGuess } : sureForm(value.node);
  return form === value.node.form ? value : { ...value, node: { ...value.node, form } };
}

function readMeaning(site: OperatorSite, index: number): Value {
  const { node } = site;
  const later = index > 0 ? laterOutput(node.opType, index) : undefined;
  if (later) return later;
  if (OF_TWO.has(node.opType) && site.inputs.length !== 2) return unknown(site, node.opType);
  if (!OF_SEVERAL.has(node.opType) && site.inputs.slice(1).some((value) => value?.kind === "node"))
    return unknown(site, node.opType);
  // What other operators make of truth values and whole numbers is not what they make of the same floats.
  if (site.inputs.some((value) => asNode(value)?.pieces?.isWhole) && !ON_WHOLE_NUMBERS.has(node.opType))
    return unknown(site, node.opType);
  return narrowed(meaningInPlanes(ofStacked(site) ?? site, index), site);
}

/** Operators over several activations. The parameters of all others, such as a shape, must not depend on the images. */
const OF_SEVERAL: ReadonlySet<string> = new Set([
  ...["Add", "Sub", "Sum", "Mul", "Div", "Max", "Min", "Where", "CastLike", "Einsum"],
  ...[
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Concat",
    "FusedConv",
    "QLinearAdd",
    "QLinearMul",
  ],
]);

/** Operators of two operands, whose Keras layers take more. */
const OF_TWO: ReadonlySet<string> = new Set(["Sub", "Mul", "Div"]);

/** Constants that follow from the sizes of activations: the same for all images only as far as those are. */
const sized = new WeakSet<Tensor>();

type ConstantValue = Value & { readonly kind: "constant" };

function hasSizes(value: Value | undefined): value is ConstantValue {
  return value?.kind === "constant" && sized.has(value.tensor);
}

function dependsOnImages(value: Value | undefined): boolean {
  return value !== undefined && (value.kind !== "constant" || sized.has(value.tensor));
}

function withSizes(value: ConstantValue): Value {
  // A choice between constants is not these constants.
  const tensor = { ...value.tensor };
  sized.add(tensor);
  return { ...value, tensor };
}

/** A shape with only those sizes that are certain: where operands of several shapes are combined, the largest count. */
function sureForm({ op, inputs, form }: ForeignNode): Form {
  const guess: Form = { ...form, isGuess: true };
  if (form.isGuess) return form;
  if (inputs.some((input) => input.form.isGuess || joinsImages(input))) return guess;
  if (op.kind === "add" || op.kind === "scale") return broadcast(form, inputs) ?? guess;
  if (op.kind !== "other" || op.operands.length < 2 || op.opType === "Concat") return form;
  const fits = (operand: Value): boolean =>
    operand.kind === "node" ||
    (operand.kind === "constant" &&
      (perChannel(operand.tensor, form) !== undefined || isOneNumber(operand.tensor, form)));
  const isElementwise = ELEMENTWISE.has(op.opType) && op.opType !== "Expand";
  return isElementwise && op.operands.every(fits) ? (broadcast(form, inputs) ?? guess) : guess;
}

/** The shape of a sum or product; undefined if the operands have other numbers of axes. */
function broadcast(form: Form, inputs: readonly ForeignNode[]): Form | undefined {
  const forms = inputs.map((input) => input.form);
  if (forms.some(({ rank }) => (rank === "flat") !== (form.rank === "flat"))) return undefined;
  const isSame = <Item>(of: (form: Form) => Item): boolean => forms.every((other) => of(other) === of(form));
  const isOfMap = (other: Form): boolean =>
    other.rank === "pooled" || String(other.size) === String(form.size);
  const spreads = (other: Form): boolean => other.channels === form.channels || other.channels === 1;
  if (
    form.rank === "map" &&
    form.channels !== undefined &&
    forms.every((other) => isOfMap(other) && spreads(other))
  )
    return form;
  if (isSame(({ rank }) => rank) && isSame(({ channels }) => channels) && form.rank !== "map") return form;
  const { channels, intended } = form;
  return {
    rank: isSame(({ rank }) => rank) ? form.rank : "map",
    channels: isSame((other) => other.channels) ? channels : undefined,
    size: undefined,
    intended,
  };
}

/** Whether a value has more images than its operands. */
function joinsImages({ op }: ForeignNode): boolean {
  return op.kind === "other" && op.opType === "Concat" && op.axes?.[0] !== 1;
}

/** A value of fewer bits remains one until it is cast back. */
function narrowed(value: Value, { node, inputs }: OperatorSite): Value {
  const fewer = inputs.flatMap((input) => (input?.kind === "node" ? (input.narrowed ?? []) : []))[0];
  const isCast = node.opType === "Cast" || node.opType === "CastLike";
  return fewer && value.kind === "node" && !isCast ? { ...value, narrowed: fewer } : value;
}

function meaningInPlanes(site: OperatorSite, index: number): Value {
  const { node, inputs, output } = site;
  if (!inputs.some((value) => value?.kind === "node" && value.planes)) return meaningOnMaps(site, index);
  const mapped = onMap(site);
  if (!mapped) return unknown(site, `${node.opType} over other axes`);
  if ("kind" in mapped) return mapped;
  const value = meaningOnMaps(mapped, index);
  return mapped.planes ? inPlanes(value, mapped.planes, output) : value;
}

function meaningOnMaps(site: OperatorSite, index: number): Value {
  const { node } = site;
  const read = readerOf(node.opType, node.domain);
  const plain = onNchw(site) ?? onNchw(withExchanges(site));
  const first = index === 0 || node.opType === "Split" ? plain : undefined;
  const pieces = first && piecesOf(first);
  const known =
    first &&
    ((pieces && simplest(pieces, first)) ??
      passedOn(first) ??
      sizesPassedOn(first) ??
      chosenSizes(first) ??
      readPlaces(first) ??
      wholeArithmetic(first) ??
      floatArithmetic(first));
  if (known) return laidOut(known, plain ?? site);
  const { value, nearMisses = [] } = first ? decomposed(first) : {};
  // Only an operator that is known on NCHW can be unknown because of its axes.
  const opType = plain || !read ? node.opType : `${node.opType} over other axes`;
  const whole = value ?? (first && read?.(first)) ?? unknown(plain ?? site, opType);
  return laidOut(withNearMisses(withPieces(whole, pieces), nearMisses, site.output), plain ?? site);
}

/** Records what a sum, a product or an unknown operator computes from the value before it. */
function withPieces(value: Value, pieces: Pieces | undefined): Value {
  if (value.kind !== "node" || !pieces || !isKind(value.node, "add", "scale", "other")) return value;
  return { ...value, node: { ...value.node, pieces } };
}

/** Records on an operator's own node what it nearly is. */
function withNearMisses(value: Value, nearMisses: readonly NearMiss[], output: string): Value {
  const isOwn = value.kind === "node" && value.node.value === output;
  return isOwn && nearMisses.length > 0 ? { ...value, node: { ...value.node, nearMisses } } : value;
}

/** Height and width swapped, which is not a layout of images. */
const TURNED = String([0, 1, 3, 2]);

/** An operator that reads a map with height and width swapped: the swap becomes a separate operator before it. */
function withExchanges(site: OperatorSite): OperatorSite {
  const inputs = site.inputs.map((value): Value | undefined => {
    if (value?.kind !== "node" || String(value.reading?.layout) !== TURNED) return value;
    const { node } = value;
    const known = exchanges.get(node);
    if (known) return { kind: "node", node: known };
    const exchange: ForeignNode = {
      op: { kind: "other", opType: "Transpose", operands: [value] },
      inputs: [node],
      constants: {},
      form: { ...node.form, size: undefined, intended: undefined },
      value: undefined,
    };
    exchanges.set(node, exchange);
    return { kind: "node", node: exchange };
  });
  return { ...site, inputs };
}

/** The swap of each map, so that several readers share one node. */
const exchanges = new WeakMap<ForeignNode, ForeignNode>();

/** The axes that a reshape of a map means by its target, although it leaves the elements where they are: a common mistake. */
function layoutOfReshape(site: OperatorSite): Layout | undefined {
  const { node, inputs } = site;
  const [input] = inputs;
  const target = node.opType === "Reshape" ? reshapeTarget(site) : undefined;
  if (input?.kind !== "node" || target?.length !== 4) return undefined;
  const { channels } = input.node.form;
  const isIn = (layout: Layout): boolean => channels !== undefined && target[layout.indexOf(1)] === channels;
  const { layout = NCHW } = input.reading ?? {};
  return [NCHW, NHWC].find((other) => isIn(other) && !isIn(layout));
}

/** Operators along one axis, by default the first. */
const ALONG_AXIS: ReadonlySet<string> = new Set(["Concat", "Gather"]);

/** The attributes that change a function, if they differ from the operator's defaults. */
function numbersOf({ node, inputs }: OperatorSite): readonly string[] {
  const slope = node.opType === "PRelu" ? asTensor(inputs[1]) : undefined;
  const shared = slope && uniform(slope);
  return [
    ...["alpha", "beta", "gamma"].flatMap((name) =>
      node.attributes.has(name) ? `${name} ${formatFloat32(float(node, name, 0))}` : [],
    ),
    ...(shared === undefined ? [] : [`slope ${formatFloat32(shared)}`]),
  ];
}

/**
 * The meaning of an operator without a reader: numbers about shapes if it reads no activation, otherwise an operator
 * that is known by name only.
 */
function unknown(site: OperatorSite, opType: string): Value {
  const { node, inputs, output } = site;
  const nodes = inputs.flatMap((value) => (value?.kind === "node" ? value.node : []));
  const [first] = nodes;
  // The shape of an unknown value may depend on the images, as NonZero's does.
  const isShape = node.opType === "Shape" || node.opType === "Size";
  if (!first || (isShape && !isKind(first, "other"))) return { kind: "shape" };
  const axes = ALONG_AXIS.has(opType) ? [int(node, "axis", 0)] : attributeOrInput(site, "axes", 1);
  const turned = layoutOfReshape(site);
  const op: ForeignOp<"other"> = {
    kind: "other",
    opType: turned ? `${opType} to ${axesOf(turned)}, which does not permute the axes,` : opType,
    operands: inputs.flatMap((value) => value ?? []),
    ...(axes ? { axes } : {}),
    ...(int(node, "keepdims", 1) === 0 ? { isReduced: true } : {}),
    ...(opType === "Clip" ? { bounds: clipBounds(site) } : {}),
    ...(ELEMENTWISE.has(opType) ? { numbers: numbersOf(site) } : {}),
  };
  const joined = opType === "Concat" ? joinedForm(op.operands, axes?.[0]) : undefined;
  const form = ELEMENTWISE.has(opType) ? first.form : (joined ?? { ...first.form, isGuess: true });
  const nameless: ForeignNode = { op, inputs: nodes, constants: {}, form, value: output };
  // Matching continues after an unknown operator, which is a finding; most such operators keep the axes.
  const { layout } = turned
    ? { layout: turned }
    : (inputs.find((value) => value?.kind === "node")?.reading ?? {});
  if (!layout || isNchw(layout)) return { kind: "node", node: nameless };
  return { kind: "node", node: { ...nameless, reading: { layout } }, reading: { layout } };
}
