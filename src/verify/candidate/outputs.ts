import { INPUT_NAME, type LayerGraph } from "../../arch/index.js";
import { RESULT_KINDS, type ResultKind } from "../../convert/export/options.js";
import {
  fedInputs,
  type OnnxAttribute,
  type OnnxDimension,
  type OnnxModel,
  type OnnxNode,
} from "../../convert/formats/onnx/model.js";
import { type GraphMatch, INNER, type OutputOperation } from "../../convert/import/match.js";
import { InputError } from "../../core/errors.js";
import { type FloatDType, isHalf } from "../../core/tensor-cast.js";
import { type Fault, layerFault } from "../outcome/report.js";

/**
 * Which results of the network a model's outputs are, in the order in which a program receives them: a layer, or a
 * layer followed by an operation that the verifier also computes. Any other operator in between is a fault.
 */

/** An output that is judged. */
export interface ModelOutput {
  /** Its name in the file. */
  readonly name: string;
  /** Its index among the outputs that a program receives, from 0. */
  readonly index: number;
  /** Its layer of the network, before further operations of the file. */
  readonly layer: string;
  /** The operations after the layer; undefined if they are a fault. */
  readonly operations: readonly OutputOperation[] | undefined;
  /** The shape that the file declares, if any, by which some programs allocate memory. */
  readonly declared?: readonly OnnxDimension[] | undefined;
}

/** The judged outputs of a model, and their faults. */
export interface AccountedOutputs {
  /** The one that counts first. */
  readonly outputs: readonly ModelOutput[];
  /** The names of the outputs that are not judged because another was chosen. */
  readonly notJudged: readonly string[];
  readonly faults: readonly Fault[];
  /** Whether the first is an intermediate layer, which is a fault. */
  readonly isInner: boolean;
}

interface OutputSource {
  readonly subject: string;
  readonly graph: LayerGraph;
  /** The model that the runtime runs; a TensorFlow.js model as ONNX operators. */
  readonly model: OnnxModel;
  /** The value of each layer. */
  readonly values: ReadonlyMap<string, string>;
  /** The structural match; undefined if it is not this network's. */
  readonly match: GraphMatch | undefined;
  /** The type of values in half precision, to which a cast loses nothing. */
  readonly precision?: FloatDType;
  /** The output to judge; default: the first. */
  readonly chosen?: string | undefined;
}

/**
 * @throws InputError (`argument`) if there is no output with the chosen name; (`unsupported`) if no output is computed
 * from a layer of the network
 */
export function accountForOutputs(source: OutputSource): AccountedOutputs {
  const { subject, model, chosen, graph } = source;
  const names = model.graph.outputs.map(({ name }) => name);
  if (chosen !== undefined && !names.includes(chosen))
    throw new InputError({
      code: "argument",
      subject: "--output",
      found: JSON.stringify(chosen),
      expected: `an output of ${subject}: ${names.slice(0, 20).join(", ")}`,
      remedy: "choose one of them",
    });
  const layers = new Map([...source.values].map(([layer, value]) => [value, layer]));
  const [input] = fedInputs(model.graph);
  if (input && !layers.has(input.name)) layers.set(input.name, INPUT_NAME);
  const producers = new Map(
    model.graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)),
  );
  const judged = names.flatMap((name, index) =>
    chosen === undefined || name === chosen ? [{ name, index }] : [],
  );
  const found = judged.map(({ name, index }) => ({
    name,
    index,
    ...account(source, { layers, producers }, name),
  }));
  if (found.every(({ layer }) => layer === undefined))
    throw new InputError({
      code: "unsupported",
      subject,
      found: `outputs ${names.slice(0, 20).join(", ") || "without names"}, none of which is computed from a layer of the network`,
      expected: "an embedding or logits among them",
      remedy: "export the model with its embedding as the output",
    });
  const { features, logits, probabilities, evaluation } = graph.outputs;
  const result = graph.outputs[evaluation] ?? features;
  const results = new Set([features, logits, probabilities].filter((layer) => layer !== undefined));
  // Programs take the first output as the embedding; others may be gates or intermediate layers.
  const [first] = found;
  const faultAt = (layer: string, explanation: string): Fault =>
    layerFault(
      graph.nodes.find((node) => node.name === layer) ?? { name: layer },
      "structure",
      null,
      explanation,
    );
  const inner =
    first?.layer === undefined ||
    first.between !== undefined ||
    chosen !== undefined ||
    results.has(first.layer)
      ? undefined
      : first;
  return {
    isInner: inner !== undefined,
    outputs: found.flatMap(({ name, index, layer, operations }) =>
      layer === undefined
        ? []
        : [{ name, index, layer, operations, declared: model.graph.outputs[index]?.shape }],
    ),
    notJudged: names.filter((name) => !judged.some((output) => output.name === name)),
    faults: [
      ...found.flatMap((each) => {
        const { layer = result, between } = each;
        const alike = found.filter((other) => (other.layer ?? result) === layer && other.between === between);
        if (between === undefined || alike[0] !== each) return [];
        const names = alike.map(({ name }) => JSON.stringify(name)).join(", ");
        return faultAt(
          layer,
          `found ${between} between the layer and the ${alike.length > 1 ? "outputs" : "output"} ${names}, expected the layer itself, or its L2 normalisation, softmax or sigmoid${classifierHint(graph, layer, between)}`,
        );
      }),
      ...(inner === undefined
        ? []
        : [
            faultAt(
              result,
              `found the intermediate layer ${inner.layer} as the first output, ${JSON.stringify(inner.name)}, expected a result of the network (${[...results].join(", ")}); choose another with --output`,
            ),
          ]),
    ],
  };
}

/** What to do about an output after a linear layer that the network does not have. */
function classifierHint(
  { outputs: { features, logits }, nodes }: LayerGraph,
  layer: string,
  between: string,
): string {
  if (layer !== features || !/\b(?:Gemm|MatMul|linear)\b/.test(between)) return "";
  const op = nodes.find(({ name }) => name === logits)?.op;
  return op?.kind === "linear"
    ? `; the reference's classifier has ${op.outFeatures} outputs`
    : "; the reference has no classifier, so choose the output that counts with --output";
}

/**
 * Outputs named after a result or layer of the network that are something else.
 *
 * @param calledBy the names that programs use for outputs, if not those in the file
 * @param nameOf the file's name for the value of a layer
 */
export function misnamedOutputs(
  { outputs: results, nodes }: Pick<LayerGraph, "outputs" | "nodes">,
  outputs: readonly ModelOutput[],
  calledBy: (output: string) => string = (output) => output,
  nameOf: (layer: string) => string = (layer) => layer,
): readonly Fault[] {
  const layers = new Map(nodes.map((node) => [node.name, node]));
  const byName = new Map(nodes.flatMap(({ name }) => [[name, name] as const, [nameOf(name), name] as const]));
  /** [N, C, 1, 1] and [N, C] are the same numbers. */
  const numbersOf = (layer: string): string => {
    const node = layers.get(layer);
    return node?.op.kind === "flatten" ? (node.inputs[0] ?? layer) : layer;
  };
  const kindOf = (layer: string): ResultKind | undefined =>
    RESULT_KINDS.find((kind) => results[kind] === layer);
  return outputs.flatMap(({ name, layer, operations }): readonly Fault[] => {
    // An output that is not a layer already has a fault.
    if (!operations) return [];
    const called = calledBy(name);
    const claimed = called === "embedding" ? "features" : RESULT_KINDS.find((kind) => kind === called);
    const actual = kindOf(layer);
    const activation = operations.find(({ kind }) => kind === "softmax" || kind === "sigmoid");
    const value = actual ? `the network's ${actual}` : `the intermediate layer ${layer}`;
    const made = activation ? `a ${activation.kind} of ${value}` : value;
    const fault = (expected: string): readonly Fault[] => [
      layerFault(
        layers.get(layer) ?? { name: layer },
        "structure",
        null,
        `found ${made} as the output ${JSON.stringify(called)}, expected ${expected}`,
      ),
    ];
    if (claimed === undefined) {
      const stated = byName.get(called);
      const isStated = stated === undefined || numbersOf(stated) === numbersOf(layer);
      if (!isStated) return fault(`the layer ${stated}`);
      const gate = GATE.exec(called)?.[0];
      return gate === undefined || !layers.has(gate) || layer.startsWith(gate)
        ? []
        : fault(`a value of the gate ${gate}`);
    }
    if (claimed === "probabilities" && results.probabilities !== layer)
      return activation && (layer === results.logits || (results.logits === undefined && actual))
        ? []
        : fault("its probabilities, or a softmax or sigmoid of its logits");
    // A network without a classifier may give its only result any name.
    if (results[claimed] === undefined) return actual && !activation ? [] : fault(`its ${claimed}`);
    return results[claimed] === layer && !activation ? [] : fault(`its ${claimed}`);
  });
}

/** The prefix of the names of a gate's layers: `conv2.0.gate[2]`. */
const GATE = /^.+\.gate\[\d+\](?=\.|$)/;

interface Account {
  /** Undefined if no layer leads to the output. */
  readonly layer: string | undefined;
  readonly operations: readonly OutputOperation[] | undefined;
  /** The operators that are a fault. */
  readonly between?: string;
}

interface Values {
  /** Values by layer. */
  readonly layers: ReadonlyMap<string, string>;
  readonly producers: ReadonlyMap<string, OnnxNode>;
}

function account({ match, precision }: OutputSource, values: Values, name: string): Account {
  const matched = match?.outputs.find((output) => output.name === name);
  const way = wayTo(values, name, precision);
  const layer = matched?.layer ?? way.layer;
  if (layer === undefined) return { layer, operations: undefined, between: way.between ?? "no layer" };
  const loss = narrowing(values, name, precision, (match?.roundings.size ?? 0) > 0);
  if (loss !== undefined) return { layer, operations: undefined, between: loss };
  // If the structural match does not reach the output, but the names do, the layers are judged by name, and
  // the structural difference is a separate fault.
  const isLost = matched?.operations === undefined && matched?.tail.some((kind) => INNER.has(kind));
  const hasFault = (match?.differences.length ?? 0) > 0;
  if (isLost && hasFault && way.layer !== undefined && way.between === undefined)
    return { layer: way.layer, operations: [] };
  // If the walk ended at a layer that differs, everything after it is part of that finding.
  const isFound = match?.values.has(layer) || match?.folded.has(layer);
  if (isLost && !isFound && match?.differences.some((each) => each.layer !== INPUT_NAME))
    return { layer, operations: undefined };
  if (!matched)
    return { layer, operations: way.between === undefined ? [] : undefined, ...betweenOf(way.between) };
  if (matched.operations) return { layer, operations: matched.operations };
  const operators = operatorsBefore(values, name).join(", ") || matched.tail.join(", ") || "another value";
  const between = matched.part === undefined ? operators : `${operators} with ${matched.part}`;
  return { layer, operations: undefined, between };
}

function betweenOf(between: string | undefined): Pick<Account, "between"> {
  return between === undefined ? {} : { between };
}

/** The operators between layers and an output that change values, each once, in order. */
function operatorsBefore({ layers, producers }: Values, output: string): readonly string[] {
  const found: string[] = [];
  const seen = new Set<string>();
  const pending = [output];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const node = producers.get(name);
    if (!node || layers.has(name) || seen.has(name)) continue;
    seen.add(name);
    if (!PASSING.has(node.opType) && node.opType !== "Constant" && !found.includes(node.opType))
      found.unshift(node.opType);
    pending.push(...(SHAPED.has(node.opType) ? node.inputs.slice(0, 1) : node.inputs));
  }
  return found.slice(-MAX_NAMED);
}

/** Maximum number of operators that a finding names. */
const MAX_NAMED = 8;

/** Operators that pass on the values of their first input, in any shape. */
const PASSING: ReadonlySet<string> = new Set([
  "Identity",
  "Cast",
  "Dropout",
  "Flatten",
  "Reshape",
  "Squeeze",
  "Unsqueeze",
  "ReorderInput",
  "ReorderOutput",
]);

/** The layer of an output, through operators that pass on its values, or the first operator that does not. */
function wayTo(
  { layers, producers }: Values,
  output: string,
  precision: FloatDType | undefined,
): { readonly layer?: string; readonly between?: string } {
  const casts: OnnxNode[] = [];
  let name = output;
  // Iterative and limited, since a file may have a chain of any length, or a cycle.
  for (let steps = 0; steps <= producers.size; steps++) {
    const layer = layers.get(name);
    if (layer !== undefined) return losesBits(casts, precision) ? { layer, between: "Cast" } : { layer };
    const node = producers.get(name);
    const source = node?.inputs[0];
    if (!node || source === undefined) return { between: "a constant" };
    if (!PASSING.has(node.opType)) return { between: node.opType };
    if (node.opType === "Cast") casts.unshift(node);
    name = source;
  }
  return { between: "a cycle" };
}

/**
 * Operators that lose bits between a layer and an output, although their meaning is to pass values on: a cast to fewer
 * bits and back, or quantisation.
 */
function narrowing(
  { layers, producers }: Values,
  output: string,
  precision: FloatDType | undefined,
  isQuantised: boolean,
): string | undefined {
  const seen = new Set<string>();
  const pending = [{ name: output, casts: [] as readonly OnnxNode[] }];
  for (let next = pending.pop(); next; next = pending.pop()) {
    const { name, casts } = next;
    if (layers.has(name) || seen.has(name)) continue;
    seen.add(name);
    const node = producers.get(name);
    if (!node) continue;
    if (!isQuantised && QUANTISING.has(node.opType)) return node.opType;
    const along = node.opType === "Cast" ? [node, ...casts] : casts;
    if (losesBits(along, precision)) return "a Cast to fewer bits";
    const read = SHAPED.has(node.opType) ? node.inputs.slice(0, 1) : node.inputs;
    pending.push(...read.map((input) => ({ name: input, casts: along })));
  }
  return undefined;
}

const QUANTISING: ReadonlySet<string> = new Set([
  "QuantizeLinear",
  "DequantizeLinear",
  "DynamicQuantizeLinear",
]);

/** Operators whose later inputs are shapes and axes, not activations. */
const SHAPED: ReadonlySet<string> = new Set([...PASSING, "Expand", "ReduceL2", "ReduceSum", "Tile"]);

/** Bits of mantissa by `TensorProto.DataType`: FLOAT, FLOAT16, DOUBLE, BFLOAT16. */
const MANTISSA: Readonly<Record<number, number>> = { 1: 24, 10: 11, 11: 53, 16: 8 };

const BITS_OF_HALF = { float16: 11, bfloat16: 8 } as const;

/**
 * Whether consecutive casts go through a type of fewer bits than the last has, and than values in half precision have; the last
 * type is the output's own, and visible.
 */
function losesBits(casts: readonly OnnxNode[], precision: FloatDType | undefined): boolean {
  const last = casts.at(-1);
  if (!last) return false;
  const bits = (node: OnnxNode): number => MANTISSA[targetOf(node.attributes.get("to"))] ?? 0;
  const own = Math.min(bits(last), isHalf(precision) ? BITS_OF_HALF[precision] : Infinity);
  return casts.some((cast) => bits(cast) === 0 || bits(cast) < own);
}

function targetOf(to: OnnxAttribute | undefined): number {
  return to?.type === "int" ? to.value : 0;
}
