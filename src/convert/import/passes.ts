import { InputError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import {
  dtypeToCode,
  int,
  type OnnxGraph,
  type OnnxModel,
  type OnnxNode,
  onnxNode,
} from "../formats/onnx/model.js";
import { sameTensor } from "./differences.js";
import { readGraph } from "./normalise.js";

/** Passes over a model that do not change what it computes. */

/**
 * The same model with each `If` of known condition replaced by the nodes of the branch taken, so that their values are
 * values of the graph. An `If`'s own outputs keep their names. Other models are returned unchanged.
 *
 * @throws InputError (`format`) if a value has two sources or none; (`unsupported`) if a branch taken has control flow that stays
 */
export function withoutBranches(model: OnnxModel, subject: string): Unfolded {
  const { graph } = model;
  if (!graph.nodes.some(({ opType }) => opType === "If")) return { model };
  const { taken } = readGraph(graph, subject);
  const inside = [...taken.values()].flatMap(({ nodes }) => nodes);
  if (taken.size === 0) return { model };
  // A graph that stays inside a branch reads outer values by their names there.
  if (inside.some((node) => !taken.has(node) && hasGraph(node)))
    throw new InputError({
      code: "unsupported",
      subject,
      found: "a branch with an If or a Loop in it that depends on the images",
      expected: "branches that follow from shapes",
      remedy: "export the model without control flow",
    });

  const mark = unusedMark([graph, ...taken.values()]);
  const initializers = new Map(graph.initializers);
  const conditions = new Map<string, boolean>();
  let count = 0;
  const flatten = (nodes: readonly OnnxNode[], around: Names): readonly OnnxNode[] =>
    nodes.flatMap((node) => {
      const branch = taken.get(node);
      if (branch) {
        const isTrue = node.attributes.get("then_branch")?.value === branch;
        conditions.set(around.of(node.inputs[0] ?? ""), isTrue);
        return unfold(node, branch, around);
      }
      const [inputs, outputs] = [node.inputs.map(around.of), node.outputs.map(around.of)];
      // Runtimes refuse duplicate node names, but any number of nodes may have no name.
      const name = node.name === "" ? "" : around.prefix + node.name;
      return { ...node, name, inputs, outputs };
    });
  const unfold = (node: OnnxNode, branch: OnnxGraph, around: Names): readonly OnnxNode[] => {
    const prefix = `${mark}${++count}/`;
    const computed = new Set(branch.nodes.flatMap(({ outputs }) => outputs).filter((name) => name !== ""));
    const own = new Map([...branch.initializers.keys(), ...computed].map((name) => [name, prefix + name]));
    const passedOn = new Map<string, string>();
    for (const [index, { name }] of branch.outputs.entries()) {
      const output = around.of(node.outputs[index] ?? "");
      if (output === "") continue;
      // A result is computed under the output's name. A value from outside the branch, or one that is two
      // outputs, needs an Identity.
      if (computed.has(name) && own.get(name) === prefix + name) own.set(name, output);
      else passedOn.set(output, name);
    }
    const of = (name: string): string => own.get(name) ?? around.of(name);
    for (const [name, tensor] of branch.initializers) initializers.set(of(name), tensor);
    return [
      ...flatten(branch.nodes, { prefix, of }),
      ...[...passedOn].map(([output, name]) => onnxNode(output, "Identity", [of(name)])),
    ];
  };
  const all = flatten(graph.nodes, OUTSIDE);
  const flat = (nodes: readonly OnnxNode[], outputs: OnnxGraph["outputs"]): OnnxModel => ({
    ...model,
    graph: { ...graph, nodes: live(nodes, outputs), initializers, outputs },
  });
  // Runtimes return numbers.
  const numbers = [...conditions].map(([condition, isTrue], index) => ({
    isTrue,
    node: onnxNode(`${mark}condition${index}`, "Cast", [condition], { to: int(dtypeToCode("float32")) }),
  }));
  const casts = numbers.map(({ node }) => node);
  return {
    model: flat(all, graph.outputs),
    conditions: {
      model: flat(
        [...all, ...casts],
        casts.map(({ outputs: [name = ""] }) => ({ name })),
      ),
      values: new Map(
        numbers.map(
          ({
            node: {
              outputs: [name = ""],
            },
            isTrue,
          }) => [name, isTrue],
        ),
      ),
    },
  };
}

/** A model without its branches of known condition. */
interface Unfolded {
  readonly model: OnnxModel;
  /** What computes the conditions, as numbers, and which of them are true; absent if there are none. */
  readonly conditions?: { readonly model: OnnxModel; readonly values: ReadonlyMap<string, boolean> };
}

/**
 * Nodes that the outputs depend on. Conditions are dropped: computing one may take more nodes than its branches have.
 */
function live(nodes: readonly OnnxNode[], outputs: OnnxGraph["outputs"]): readonly OnnxNode[] {
  const needed = new Set(outputs.map(({ name }) => name));
  const kept = nodes.toReversed().filter((node) => {
    const isRead = node.outputs.some((output) => needed.has(output));
    if (isRead) for (const name of namesIn(node)) needed.add(name);
    return isRead;
  });
  return kept.reverse();
}

/** The inputs of a node, including those of its subgraphs. */
function namesIn({ inputs, attributes }: OnnxNode): readonly string[] {
  const inside = [...attributes.values()].flatMap((attribute) =>
    attribute.type === "graph"
      ? [...attribute.value.nodes.flatMap(namesIn), ...attribute.value.outputs.map(({ name }) => name)]
      : [],
  );
  return [...inputs, ...inside];
}

/** The new names: nodes get a prefix, values depend on where they are computed. */
interface Names {
  readonly prefix: string;
  readonly of: (name: string) => string;
}

const OUTSIDE: Names = { prefix: "", of: (name) => name };

function hasGraph({ attributes }: OnnxNode): boolean {
  return [...attributes.values()].some(({ type }) => type === "graph");
}

/** A prefix that no name of these graphs has. */
function unusedMark(graphs: readonly OnnxGraph[]): string {
  const names = graphs.flatMap(({ inputs, nodes, initializers }) => [
    ...inputs.map(({ name }) => name),
    ...initializers.keys(),
    ...nodes.flatMap(({ outputs }) => outputs),
  ]);
  const used = names.map((name) => Number(/^branch(\d{1,15})\//.exec(name)?.[1] ?? 0));
  return `branch${used.reduce((most, number) => Math.max(most, number), 0) + 1}/`;
}

/** Operators that may give another result each time. */
const RANDOM = /^(Random|Multinomial|Bernoulli|Dropout)/;

/**
 * The same model with each value computed once: exporters write what a program calls several times as several nodes, each with
 * constants of its own. A copy's readers read the first one, whose value is in the file too. Models without copies are
 * returned unchanged.
 */
export function withoutCopies(model: OnnxModel): OnnxModel {
  const { graph } = model;
  // A graph inside a node may read any value by its name.
  if (graph.nodes.some(hasGraph)) return model;
  const firsts = new Map<string, string>();
  const of = (name: string): string => firsts.get(name) ?? name;
  const constants = constantIds();
  const kept = new Set([...graph.inputs, ...graph.outputs].map(({ name }) => name));
  const named = new Map<number, string>();
  const read = new Set(graph.nodes.flatMap(({ inputs }) => inputs));
  for (const [name, tensor] of graph.initializers) {
    if (kept.has(name) || !read.has(name)) continue;
    const id = constants(tensor);
    const first = named.get(id);
    if (first === undefined) named.set(id, name);
    else firsts.set(name, first);
  }
  const known = new Map<string, OnnxNode>();
  const nodes = graph.nodes.flatMap((node): OnnxNode[] => {
    const own = { ...node, inputs: node.inputs.map(of) };
    const key = keyOf(own, constants);
    const first = RANDOM.test(node.opType) || hasClamped(node) ? undefined : known.get(key);
    if (!first) known.set(key, own);
    if (!first || node.outputs.some((output) => kept.has(output))) return [own];
    for (const [index, output] of node.outputs.entries()) firsts.set(output, first.outputs[index] ?? "");
    return [];
  });
  return nodes.length === graph.nodes.length ? model : { ...model, graph: { ...graph, nodes } };
}

/** Whether a node has an integer that is too large for a number to hold it exactly. */
function hasClamped({ attributes }: OnnxNode): boolean {
  return [...attributes.values()].some(
    ({ type, value }) =>
      (type === "int" || type === "ints") &&
      [value].flat().some((number) => Math.abs(number) >= Number.MAX_SAFE_INTEGER),
  );
}

function keyOf(
  { domain, opType, inputs, outputs, attributes }: OnnxNode,
  idOf: (tensor: Tensor) => number,
): string {
  const parts = [...attributes].map(([name, { type, value }]) =>
    JSON.stringify([
      name,
      type,
      type === "tensor" ? idOf(value) : Array.isArray(value) ? value.map(String) : String(value),
    ]),
  );
  // Which optional outputs there are may be part of an operator's meaning.
  return JSON.stringify([domain, opType, inputs, outputs.map((name) => name !== ""), parts.sort()]);
}

/** Limit on tensors that are compared with one: a file may have any number that begin alike. */
const MAX_ALIKE = 8;

/** Limit on bytes that are compared, beyond which constants count as different: views of one file may be any number. */
const MAX_COMPARED = 2 ** 28;

/** Numbers constants so that equal ones have the same number. */
function constantIds(): (tensor: Tensor) => number {
  const alike = new Map<string, { readonly tensor: Tensor; readonly id: number }[]>();
  let count = 0;
  let compared = 0;
  const isSame = (a: Tensor, b: Tensor): boolean => {
    compared += a.data.byteLength;
    return compared < MAX_COMPARED && sameTensor(a, b);
  };
  return (tensor) => {
    const start = Array.from(tensor.data.subarray(0, 8) as ArrayLike<number | bigint>, String);
    const key = `${tensor.dtype} ${tensor.shape} ${start}`;
    const others = alike.get(key) ?? [];
    const equal = others.find((other) => isSame(other.tensor, tensor));
    if (equal) return equal.id;
    const id = count++;
    if (others.length < MAX_ALIKE) alike.set(key, [...others, { tensor, id }]);
    return id;
  };
}
