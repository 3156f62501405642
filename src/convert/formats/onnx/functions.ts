import type { InputError } from "../../../core/errors.js";
import { standardDomain } from "./graphs.js";
import { refusal } from "./limits.js";
import type { IAttributeProto, IFunctionProto, IGraphProto, INodeProto } from "./messages.js";

/**
 * Local functions (`ModelProto.functions`), as which some exporters write modules or operators: each call is replaced
 * by the function's nodes, also in the branches of an `If`. Inside, the names of values are prefixed with the call's
 * name; references to attributes become the attributes of the call.
 */

/** Calls inside calls; a function that calls itself never ends. torch's exporters nest modules, some ten levels. */
const MAX_DEPTH = 32;

/** An OSNet has a few thousand nodes; a few functions that call each other twice may expand to any number. */
const MAX_NODES = 100_000;

/** A model's functions, each with the defaults of its attributes. */
interface Functions {
  readonly functions: readonly IFunctionProto[];
  readonly defaults?: readonly (readonly IAttributeProto[])[];
}

interface Inlined {
  readonly graph: IGraphProto;
  /** How many calls were replaced. */
  readonly calls: number;
}

/**
 * A graph without function calls.
 *
 * @throws InputError (`unsupported`) if calls nest too deep or expand to too many nodes
 */
export function inlineFunctions(
  graph: IGraphProto,
  { functions, defaults = [] }: Functions,
  subject: string,
): Inlined {
  if (functions.length === 0) return { graph, calls: 0 };
  const bodies = new Map(functions.map((body) => [keyOf(body.domain, body.name), body]));
  const defaultsOf = new Map(functions.map((body, index) => [body, defaults[index] ?? []]));
  let calls = 0;
  let count = 0;

  const inlined = (nodes: readonly INodeProto[], depth: number): INodeProto[] =>
    nodes.flatMap((node) => expand(node, depth));

  const expand = (node: INodeProto, depth: number): readonly INodeProto[] => {
    if (depth > MAX_DEPTH) throw tooMany(subject, `functions nested to a depth of ${depth}`, MAX_DEPTH);
    if (count > MAX_NODES) throw tooMany(subject, "functions that expand to too many nodes", MAX_NODES);
    const body = bodies.get(keyOf(node.domain, node.opType));
    if (!body) {
      count++;
      return [mapGraphs(node, (branch) => ({ ...branch, node: inlined(branch.node ?? [], depth + 1) }))];
    }
    calls++;
    if (calls > MAX_NODES) throw tooMany(subject, "too many function calls", MAX_NODES);
    const prefix = `${node.name || node.output?.[0] || node.opType}/${calls}/`;
    const names = new Map<string, string>();
    for (const [index, name] of (body.input ?? []).entries()) names.set(name, node.input?.[index] ?? "");
    (body.output ?? []).forEach((name, index) => {
      const output = node.output?.[index];
      // An input that is passed on unchanged keeps its name, and an Identity gives it the output's.
      if (output && !names.has(name)) names.set(name, output);
    });
    const rename = (name: string): string => (name === "" ? name : (names.get(name) ?? `${prefix}${name}`));
    const given = new Map(
      [...(defaultsOf.get(body) ?? []), ...(node.attribute ?? [])].map((attribute) => [
        attribute.name ?? "",
        attribute,
      ]),
    );
    const nodes = (body.node ?? []).map((inner) => instance(inner, rename, given, prefix));
    const passedOn = (body.output ?? []).flatMap((name, index): INodeProto[] => {
      const output = node.output?.[index];
      return output && names.get(name) !== output
        ? [{ opType: "Identity", input: [rename(name)], output: [output], name: `${prefix}${name}` }]
        : [];
    });
    return [...inlined(nodes, depth + 1), ...passedOn];
  };

  const node = inlined(graph.node ?? [], 0);
  return { graph: { ...graph, node }, calls };
}

/** A node of a function's body in one call. */
function instance(
  node: INodeProto,
  rename: (name: string) => string,
  given: ReadonlyMap<string, IAttributeProto>,
  prefix: string,
): INodeProto {
  return {
    ...node,
    // Runtimes refuse duplicate node names, but any number of nodes may have no name.
    name: node.name ? prefix + node.name : "",
    input: (node.input ?? []).map(rename),
    output: (node.output ?? []).map(rename),
    attribute: (node.attribute ?? []).flatMap((attribute) => {
      const reference = attribute.refAttrName;
      const value = reference ? given.get(reference) : mapGraph(attribute, renamed);
      // An optional attribute that the call omits is omitted inside.
      return value ? [{ ...value, name: attribute.name ?? "" }] : [];
    }),
  };

  /** A branch: it reads values of the enclosing function by their names, and its own get the same prefix. */
  function renamed({ name, node, input, output, initializer, sparseInitializer }: IGraphProto): IGraphProto {
    const named = <T extends { name?: string | null }>(items: readonly T[] | null | undefined): T[] =>
      (items ?? []).map((item) => ({ ...item, name: rename(item.name ?? "") }));
    return {
      name: name ?? "",
      sparseInitializer: sparseInitializer ?? [],
      node: (node ?? []).map((inner) => instance(inner, rename, given, prefix)),
      ...{ input: named(input), output: named(output), initializer: named(initializer) },
    };
  }
}

/** A node with the graphs in its attributes replaced. */
function mapGraphs(node: INodeProto, change: (graph: IGraphProto) => IGraphProto): INodeProto {
  return { ...node, attribute: (node.attribute ?? []).map((attribute) => mapGraph(attribute, change)) };
}

function mapGraph(attribute: IAttributeProto, change: (graph: IGraphProto) => IGraphProto): IAttributeProto {
  return attribute.g ? { ...attribute, g: change(attribute.g) } : attribute;
}

function keyOf(domain: string | null | undefined, name: string | null | undefined): string {
  return `${standardDomain(domain ?? "")}::${name ?? ""}`;
}

function tooMany(subject: string, found: string, limit: number): InputError {
  return refusal(
    subject,
    found,
    `at most ${limit}`,
    "inline them first (onnx.inliner.inline_local_functions)",
    "unsupported",
  );
}
