import type { LayerGraph, LayerNode, Op } from "../../arch/index.js";
import { InputError } from "../../core/errors.js";
import type { TracedValue } from "../formats/pth/script.js";
import type { Trace } from "../formats/pth/trace.js";
import { quote } from "../formats/refusals.js";

/**
 * A traced computation compared with a layer graph. Both are written in one normal form, bottom up: a value is the
 * operation with its attributes, its parameters' paths and its inputs, in any order if that does not matter. The trace
 * is the network if its result's form is that of the embedding.
 */

/** Values by their form: a number for each distinct one. */
class Values {
  readonly #numbers = new Map<string, number>();

  /** The number of a form, equal for equal forms. */
  number(...form: readonly unknown[]): number {
    const key = JSON.stringify(form);
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    this.#numbers.set(key, this.#numbers.size);
    return this.#numbers.size - 1;
  }
}

/**
 * The graph among `candidates` that a trace computes.
 *
 * @throws InputError (`unsupported`) naming the first layer that the trace has not, or the function that no OSNet has
 */
export function tracedGraph(trace: Trace, candidates: readonly LayerGraph[], subject: string): LayerGraph {
  const values = new Values();
  const { forms, result, unknown } = traceForms(trace, values);
  const missing = candidates.map((graph) => {
    const { features, layers } = graphForms(graph, values);
    const isResult = result !== undefined && result === features;
    return {
      graph,
      isResult,
      absent: isResult ? undefined : layers.find(([, form]) => !forms.has(form))?.[0],
    };
  });
  const found = missing.find(({ isResult }) => isResult);
  // Even a call whose result is not read may have an effect, such as that of a batch norm in training mode.
  if (found && unknown.length === 0) return found.graph;
  // Of several readings, the one that matches most is the most informative.
  const progress = ({ graph, absent }: (typeof missing)[number]): number =>
    graph.nodes.findIndex(({ name }) => name === absent) >>> 0;
  const [best] = missing.toSorted((a, b) => progress(b) - progress(a));
  throw new InputError({
    code: "unsupported",
    subject,
    found: `a traced model that computes something else ${found ? "as well" : best?.absent === undefined ? "with the embedding" : `at ${best.absent}`}${unknown.length > 0 ? ` (${unknown.slice(0, 3).join(", ")})` : ""}`,
    expected: "the layers of an OSNet, and its embedding as the result",
    remedy:
      "trace a model built from torchreid's modules, without a normalisation before or after it; saving only its weights would hide the difference",
  });
}

function graphForms(graph: LayerGraph, values: Values) {
  const numbers = new Map<string, number>();
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((input) => numbers.get(input) ?? -1);
    numbers.set(node.name, graphForm(node, inputs, values));
  }
  // Layers for training, or computed from the embedding, are not part of a trace.
  const { features } = graph.outputs;
  const last = graph.nodes.findIndex(({ name }) => name === features);
  return {
    features: numbers.get(features),
    layers: graph.nodes.slice(0, last + 1).map(({ name }) => [name, numbers.get(name) ?? -1] as const),
  };
}

function graphForm({ op, parameters }: LayerNode, inputs: readonly number[], values: Values): number {
  const [first = -1] = inputs;
  const { weight, bias = null, runningMean, runningVar } = parameters;
  const operation: Op = op;
  switch (operation.kind) {
    case "input":
      return values.number("input");
    case "conv":
      return values.number(
        "conv",
        first,
        weight,
        bias,
        operation.stride,
        operation.padding,
        [1, 1],
        operation.groups,
      );
    case "linear":
      return values.number("linear", first, weight, bias);
    case "batchNorm":
      return values.number("batchNorm", first, weight, bias, runningMean, runningVar, operation.epsilon);
    case "instanceNorm":
      return values.number("instanceNorm", first, weight, bias, operation.epsilon);
    case "layerNorm":
      return values.number("layerNorm", first, [operation.channels, 1, 1], weight, bias, operation.epsilon);
    case "maxPool":
      return values.number("maxPool", first, operation.kernel, operation.stride, operation.padding);
    case "avgPool":
      return values.number("avgPool", first, operation.kernel, operation.stride);
    case "scale":
      return values.number("mul", ordered(inputs));
    case "add": {
      // A trace adds two at a time, from the left, as torchreid does.
      const [head = -1, ...others] = inputs;
      return others.reduce((sum, input) => values.number("add", ordered([sum, input])), head);
    }
    case "relu":
    case "sigmoid":
    case "globalAvgPool":
    case "globalMaxPool":
    case "flatten":
      return values.number(operation.kind, first);
  }
}

/** The forms of a trace's calls, the last of them its result's; functions that no OSNet has, by name. */
function traceForms({ calls, output }: Trace, values: Values) {
  const forms = new Set<number>([values.number("input")]);
  const numbers: (number | undefined)[] = [];
  const unknown: string[] = [];
  const read = (value: TracedValue | undefined): number | undefined => {
    if (value?.kind === "input") return values.number("input");
    return value?.kind === "call" ? numbers[value.index] : undefined;
  };
  for (const { name, args } of calls) {
    const reader = READERS[name.replace(/_$/, "")];
    const number = reader?.({ args, read, values, calls });
    if (number !== undefined) forms.add(number);
    else if (name !== "torch.size" && !unknown.includes(quote(name))) unknown.push(quote(name));
    numbers.push(number);
  }
  return { forms, result: read(output), unknown };
}

interface Reading {
  readonly args: readonly TracedValue[];
  readonly read: (value: TracedValue | undefined) => number | undefined;
  readonly values: Values;
  readonly calls: Trace["calls"];
}

type Reader = (reading: Reading) => number | undefined;

const FALSE = [false] as const;

/** torch's functions in the forms that traces have; undefined for others. */
const READERS: Readonly<Partial<Record<string, Reader>>> = {
  "torch._convolution": ({
    args: [x, w, b, stride, padding, dilation, transposed, outPadding, groups],
    ...rest
  }) =>
    is(transposed, FALSE) && isDeep(outPadding, [0, 0])
      ? conv(rest, x, w, b, stride, padding, dilation, groups)
      : undefined,
  "torch.conv2d": ({ args: [x, w, b, stride, padding, dilation, groups], ...rest }) =>
    conv(rest, x, w, b, stride, padding, dilation, groups),
  "torch.linear": ({ args: [x, w, b], read, values }) => form(values, "linear", read(x), path(w), path(b)),
  "torch.batch_norm": ({ args: [x, w, b, mean, variance, training, , epsilon], read, values }) =>
    is(training, FALSE)
      ? form(values, "batchNorm", read(x), path(w), path(b), path(mean), path(variance), literal(epsilon))
      : undefined,
  "torch.instance_norm": ({ args: [x, w, b, mean, variance, , , epsilon], read, values }) =>
    is(mean, [null]) && is(variance, [null])
      ? form(values, "instanceNorm", read(x), path(w), path(b), literal(epsilon))
      : undefined,
  "torch.layer_norm": ({ args: [x, shape, w, b, epsilon], read, values }) =>
    form(values, "layerNorm", read(x), literal(shape), path(w), path(b), literal(epsilon)),
  "torch.relu": unary("relu"),
  "torch.sigmoid": unary("sigmoid"),
  "torch.detach": same,
  "torch.contiguous": same,
  "torch.dropout": ({ args: [x, , training], read }) => (is(training, FALSE) ? read(x) : undefined),
  "torch.max_pool2d": ({ args: [x, kernel, stride, padding, dilation, ceil], read, values }) =>
    isDeep(dilation, [1, 1]) && is(ceil, [false, undefined])
      ? form(values, "maxPool", read(x), literal(kernel), literal(stride), literal(padding))
      : undefined,
  "torch.avg_pool2d": ({ args: [x, kernel, stride, padding, ceil, , divisor], read, values }) =>
    isDeep(padding, [0, 0]) && is(ceil, [false, undefined]) && is(divisor, [null, undefined])
      ? form(values, "avgPool", read(x), literal(kernel), literal(stride))
      : undefined,
  "torch.adaptive_avg_pool2d": ({ args: [x, size], read, values }) =>
    isDeep(size, [1, 1]) ? form(values, "globalAvgPool", read(x)) : undefined,
  "torch.add": ({ args: [a, b, alpha], read, values }) =>
    // torchreid's osnet_ain adds its streams to a 0.
    !is(alpha, [1, undefined])
      ? undefined
      : b?.kind === "constant" && b.value === 0
        ? read(a)
        : pair(values, "add", read(a), read(b)),
  "torch.mul": ({ args: [a, b], read, values }) => pair(values, "mul", read(a), read(b)),
  "torch.flatten": ({ args: [x, start, end], read, values }) =>
    is(start, [1]) && is(end, [-1, 3, undefined]) ? form(values, "flatten", read(x)) : undefined,
  "torch.view": flattened,
  "torch.reshape": flattened,
};

function conv(
  { read, values }: Pick<Reading, "read" | "values">,
  x: TracedValue | undefined,
  ...[w, b, stride, padding, dilation, groups]: readonly (TracedValue | undefined)[]
): number | undefined {
  return form(
    values,
    "conv",
    read(x),
    path(w),
    path(b),
    literal(stride),
    literal(padding),
    literal(dilation),
    literal(groups),
  );
}

/** `view(x, [size(x, 0), -1])`. */
function flattened({ args: [x, shape], read, values, calls }: Reading): number | undefined {
  if (shape?.kind !== "list" || shape.items.length !== 2) return undefined;
  const [batch, rest] = shape.items;
  const size = batch?.kind === "call" ? calls[batch.index] : undefined;
  const isBatch =
    size?.name === "torch.size" &&
    JSON.stringify(size.args[0]) === JSON.stringify(x) &&
    is(size.args[1], [0]);
  return isBatch && is(rest, [-1]) ? form(values, "flatten", read(x)) : undefined;
}

function unary(kind: string): Reader {
  return ({ args: [x, ...others], read, values }) =>
    others.length === 0 ? form(values, kind, read(x)) : undefined;
}

function same({ args: [x], read }: Reading): number | undefined {
  return read(x);
}

/** The number of a form all of whose parts are known. */
function form(values: Values, kind: string, ...parts: readonly unknown[]): number | undefined {
  return parts.includes(undefined) ? undefined : values.number(kind, ...parts);
}

function pair(
  values: Values,
  kind: string,
  a: number | undefined,
  b: number | undefined,
): number | undefined {
  return a === undefined || b === undefined ? undefined : values.number(kind, ordered([a, b]));
}

/** A parameter's path, or null for None. */
function path(value: TracedValue | undefined): string | null | undefined {
  if (value?.kind === "tensor") return value.path;
  return is(value, [null]) ? null : undefined;
}

function literal(value: TracedValue | undefined): unknown {
  if (value?.kind === "literal") return value.value;
  if (value?.kind !== "list") return undefined;
  const items = value.items.map(literal);
  return items.includes(undefined) ? undefined : items;
}

function is(value: TracedValue | undefined, allowed: readonly unknown[]): boolean {
  if (value === undefined) return allowed.includes(undefined);
  return value.kind === "literal" && allowed.includes(value.value);
}

function isDeep(value: TracedValue | undefined, expected: readonly number[]): boolean {
  return JSON.stringify(literal(value)) === JSON.stringify(expected);
}

function ordered(numbers: readonly number[]): readonly number[] {
  return numbers.toSorted((a, b) => a - b);
}
