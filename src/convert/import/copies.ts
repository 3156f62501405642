import type { Tensor } from "../../core/tensor.js";
import type { OnnxModel, OnnxNode } from "../formats/onnx/model.js";
import { sameTensor } from "./differences.js";

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
  if (graph.nodes.some(({ attributes }) => [...attributes.values()].some(({ type }) => type === "graph")))
    return model;
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
    const first = RANDOM.test(node.opType) ? undefined : known.get(key);
    if (!first) known.set(key, own);
    if (!first || node.outputs.some((output) => kept.has(output))) return [own];
    for (const [index, output] of node.outputs.entries()) firsts.set(output, first.outputs[index] ?? "");
    return [];
  });
  return nodes.length === graph.nodes.length ? model : { ...model, graph: { ...graph, nodes } };
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
