/** TensorFlow's GraphDef in protobuf's JSON mapping, as `modelTopology` of a graph model holds it. */
import { decodeAttribute, decodeShape, encodeAttribute, encodeShape } from "./attributes.js";
import { asString, elements, type JsonObject, type Located, member, members } from "./json.js";
import type { TfjsNode, TfjsSignature, TfjsTensorInfo } from "./model.js";
import { refusal } from "./refusal.js";

/** The version of TensorFlow's graphs since 2.8; tfjs only wants one to be there. */
const PRODUCER = 987;

export function encodeGraph(nodes: readonly TfjsNode[]): JsonObject {
  return {
    node: nodes.map(({ name, op, inputs, attributes }) => ({
      name,
      op,
      ...(inputs.length > 0 ? { input: inputs } : {}),
      ...(attributes.size > 0
        ? {
            attr: Object.fromEntries(Array.from(attributes, ([key, value]) => [key, encodeAttribute(value)])),
          }
        : {}),
    })),
    library: {},
    versions: { producer: PRODUCER },
  };
}

/** @throws InputError (`format`, `unsupported`) if a node is not a `NodeDef`, or reads one that is not there */
export function decodeGraph(topology: Located): readonly TfjsNode[] {
  if (elements(member(optional(topology, "library"), "function")).length > 0)
    throw refusal(topology.at, "functions of its own", "a flat graph", "freeze the model", "unsupported");
  const nodes = elements(member(topology, "node")).map(decodeNode);
  const names = new Set<string>();
  for (const { name } of nodes) {
    if (names.has(name))
      throw refusal(topology.at, `two nodes ${JSON.stringify(name.slice(0, 80))}`, "a name per node");
    names.add(name);
  }
  for (const { name, inputs } of nodes)
    for (const input of inputs)
      if (!names.has(nodeOf(input)))
        throw refusal(
          `${topology.at}, node ${name}`,
          `input ${JSON.stringify(input)}`,
          "a node of the graph",
        );
  return nodes;
}

/** The node behind an input or signature entry: `NAME`, `NAME:0` or `^NAME`. */
export function nodeOf(reference: string): string {
  return reference.replace(/^\^/, "").replace(/:\d+$/, "");
}

function decodeNode(located: Located): TfjsNode {
  const name = asString(member(located, "name"));
  const at = `${located.at} (${name.slice(0, 80)})`;
  return {
    name,
    op: asString(member(located, "op")),
    inputs: elements(member(located, "input")).map(asString),
    attributes: new Map(
      members(optional({ ...located, at }, "attr")).map(([key, value]) => [key, decodeAttribute(value)]),
    ),
  };
}

export function encodeSignature({ inputs, outputs }: TfjsSignature): JsonObject {
  const encode = (infos: ReadonlyMap<string, TfjsTensorInfo>): JsonObject =>
    Object.fromEntries(
      Array.from(infos, ([key, { name, dtype, shape }]) => [
        key,
        {
          name,
          ...(dtype === undefined ? {} : { dtype }),
          ...(shape === undefined ? {} : { tensorShape: encodeShape(shape) }),
        },
      ]),
    );
  return { inputs: encode(inputs), outputs: encode(outputs) };
}

export function decodeSignature(located: Located): TfjsSignature {
  const decode = (key: string): ReadonlyMap<string, TfjsTensorInfo> =>
    new Map(
      members(optional(located, key)).map(([name, info]) => {
        const [dtype, shape] = [member(info, "dtype"), member(info, "tensorShape")];
        const decoded: TfjsTensorInfo = {
          name: asString(member(info, "name")),
          ...(dtype.value === undefined ? {} : { dtype: asString(dtype) }),
          ...(shape.value === undefined ? {} : { shape: decodeShape(shape) }),
        };
        return [name, decoded];
      }),
    );
  return { inputs: decode("inputs"), outputs: decode("outputs") };
}

/** A member that may be left out, as an empty object then. */
function optional(located: Located, key: string): Located {
  const found = member(located, key);
  return found.value === undefined ? { value: {}, at: found.at } : found;
}
