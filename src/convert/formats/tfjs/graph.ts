import { quoted } from "../../../core/text.js";
import {
  asBoolean,
  asInteger,
  asNumber,
  asString,
  elements,
  type JsonObject,
  type Located,
  member,
  members,
  refusal,
} from "./json.js";
import type {
  TfjsAttribute,
  TfjsAttributeType,
  TfjsAttributeValues,
  TfjsNode,
  TfjsShape,
  TfjsSignature,
  TfjsTensorInfo,
} from "./model.js";

/**
 * Attributes of graph nodes in protobuf's JSON mapping of attr_value.proto: `{ "i": "3" }`, `{ "s": BASE64 }`,
 * `{ "list": { "i": ["1", "2"] } }`. 64-bit integers are strings, byte strings base64.
 */

type Coders = {
  readonly [T in TfjsAttributeType]: {
    readonly encode: (value: TfjsAttributeValues[T]) => JsonObject;
    /** The value, or undefined if the JSON is of another type. */
    readonly decode: (located: Located) => TfjsAttributeValues[T] | undefined;
  };
};

const CODERS: Coders = {
  int: { encode: (value) => ({ i: String(value) }), decode: scalar("i", asInteger) },
  float: { encode: (value) => ({ f: value }), decode: scalar("f", asNumber) },
  bool: { encode: (value) => ({ b: value }), decode: scalar("b", asBoolean) },
  string: { encode: (value) => ({ s: toBase64(value) }), decode: scalar("s", fromBase64) },
  dtype: { encode: (value) => ({ type: value }), decode: scalar("type", asString) },
  shape: { encode: (value) => ({ shape: encodeShape(value) }), decode: scalar("shape", decodeShape) },
  ints: { encode: (value) => ({ list: { i: value.map(String) } }), decode: list("i", asInteger) },
  floats: { encode: (value) => ({ list: { f: value } }), decode: list("f", asNumber) },
  strings: { encode: (value) => ({ list: { s: value.map(toBase64) } }), decode: list("s", fromBase64) },
  dtypes: { encode: (value) => ({ list: { type: value } }), decode: list("type", asString) },
  other: { encode: (value) => value, decode: ({ value }) => value as JsonObject },
};

function encodeAttribute({ type, value }: TfjsAttribute): JsonObject {
  // One lookup over a union of attributes: the table's type pairs each type with its own value.
  return (CODERS[type].encode as (value: unknown) => JsonObject)(value);
}

/** @throws InputError (`format`) if a value is not of the type that its key says */
function decodeAttribute(located: Located): TfjsAttribute {
  // Of several, tfjs takes the one of the type that the operator asks for.
  if (members(located).length > 1)
    throw refusal(located.at, "an attribute of several types", "an attr_value.proto message as JSON");
  for (const [type, { decode }] of Object.entries(CODERS)) {
    const value = decode(located);
    if (value !== undefined) return { type, value } as TfjsAttribute;
  }
  throw refusal(located.at, "no attribute value", "an attr_value.proto message as JSON");
}

function scalar<T>(key: string, read: (located: Located) => T): (located: Located) => T | undefined {
  return (located) => {
    const found = member(located, key);
    return found.value === undefined ? undefined : read(found);
  };
}

function list<T>(key: string, read: (located: Located) => T): (located: Located) => readonly T[] | undefined {
  return (located) => {
    const found = member(located, "list");
    if (found.value === undefined) return undefined;
    const [only, ...others] = members(found).filter(
      ([, { value }]) => !Array.isArray(value) || value.length > 0,
    );
    // `{ "list": {} }` is an empty list of any type: read as one of integers, which it is for padding and axes.
    const type = only?.[0] ?? "i";
    return type === key && others.length === 0 ? elements(member(found, key)).map(read) : undefined;
  };
}

/** A shape as JSON: `{ "dim": [{ "size": "-1" }] }`. */
function encodeShape(shape: TfjsShape): JsonObject {
  return shape === null ? { unknownRank: true } : { dim: shape.map((size) => ({ size: String(size) })) };
}

function decodeShape(located: Located): TfjsShape {
  const { value: unknown, at } = member(located, "unknownRank");
  const hasSizes = elements(member(located, "dim")).length > 0;
  // tfjs tests for truthiness.
  if (unknown !== undefined && (typeof unknown !== "boolean" || (unknown && hasSizes)))
    throw refusal(at, JSON.stringify(unknown).slice(0, 40), "true without sizes, or false");
  if (unknown) return null;
  return elements(member(located, "dim")).map((dimension) => {
    const size = member(dimension, "size");
    // The mapping omits zeros.
    return size.value === undefined ? 0 : asInteger(size);
  });
}

/** Byte strings as text of one character per byte: the strings of a graph are ASCII words (`SAME`, `NHWC`, `Relu`). */
function toBase64(text: string): string {
  return btoa(text);
}

function fromBase64(located: Located): string {
  const text = asString(located);
  try {
    return atob(text);
  } catch {
    throw refusal(located.at, JSON.stringify(text.slice(0, 60)), "base64");
  }
}

/** TensorFlow's GraphDef in protobuf's JSON mapping, the `modelTopology` of a graph model. */

/** The version of TensorFlow's graphs since 2.8; tfjs only requires that there is one. */
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

/** @throws InputError (`format`, `unsupported`) if a node is not a `NodeDef`, or reads a missing one */
export function decodeGraph(topology: Located): readonly TfjsNode[] {
  if (elements(member(optional(topology, "library"), "function")).length > 0)
    throw refusal(topology.at, "local functions", "a flat graph", "freeze the model", "unsupported");
  const nodes = elements(member(topology, "node")).map(decodeNode);
  const names = new Set<string>();
  for (const { name } of nodes) {
    if (names.has(name)) throw refusal(topology.at, `two nodes named ${quoted(name)}`, "unique node names");
    names.add(name);
  }
  for (const node of nodes) {
    const at = `${topology.at}, node ${node.name}`;
    expectReference(node.name, at, NAME);
    for (const input of node.inputs) expectReference(input, at, REFERENCE);
    expectSpatial(node, at);
  }
  for (const { name, inputs } of nodes)
    for (const input of inputs)
      if (!names.has(nodeOf(input)))
        throw refusal(
          `${topology.at}, node ${name}`,
          `input ${JSON.stringify(input)}`,
          "a node of the graph",
        );
  for (const node of nodes) expectDataFirst(node, `${topology.at}, node ${node.name}`);
  return nodes;
}

/**
 * tfjs splits a reference at every colon, and keeps nodes in a plain object, so it would resolve any other name
 * differently.
 */
const NAME = /^(?!__proto__$)[^:^]+$/;
const REFERENCE = /^\^?(?!__proto__(:|$))[^:^]+(:\d+)?$/;

function expectReference(reference: string, at: string, form: RegExp): void {
  if (form.test(reference)) return;
  const found = `the name ${quoted(reference)}`;
  throw refusal(at, found, "a node's name, which has no colon, or `NAME:0`", "convert the model again");
}

/**
 * tfjs treats control inputs (`^NAME`) like any other input, by position: after the operands of most operators they
 * have no effect.
 */
function expectDataFirst({ op, inputs }: TfjsNode, at: string): void {
  const first = inputs.findIndex((input) => input.startsWith("^"));
  const isLast = inputs.slice(first).every((input) => input.startsWith("^"));
  if (first < 0 || (isLast && !VARIADIC.test(op))) return;
  const found = `the control input ${quoted(inputs[first] ?? "")} of ${op.slice(0, 40)}`;
  throw refusal(
    at,
    found,
    "control inputs after a fixed number of operands",
    "freeze the model without them",
  );
}

/** Operators that read all inputs from some position on. */
const VARIADIC = /^(?:AddN|Concat|ConcatV2|Pack|IdentityN|Einsum|_?Fused\w+)$/;

const WINDOWS = ["ksize", "strides", "dilations"] as const;

/** Windows move over height and width only: along images or channels, tfjs computes out of bounds. */
function expectSpatial({ op, attributes }: TfjsNode, at: string): void {
  if (!/Pool|Conv/.test(op)) return;
  const format = attributes.get("data_format");
  const axes = format?.type === "string" && format.value === "NCHW" ? [0, 1] : [0, 3];
  for (const name of WINDOWS) {
    const sizes = attributes.get(name);
    if (sizes?.type !== "ints" || sizes.value.length !== 4 || axes.every((axis) => sizes.value[axis] === 1))
      continue;
    throw refusal(
      at,
      `${name} [${sizes.value.join(", ")}] of ${op.slice(0, 40)}`,
      "1 along images and channels",
      undefined,
      "unsupported",
    );
  }
}

/** The node of an input or signature entry: `NAME`, `NAME:0` or `^NAME`. */
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
        const reference = asString(member(info, "name"));
        expectReference(reference, info.at, REFERENCE);
        const decoded: TfjsTensorInfo = {
          name: reference,
          ...(dtype.value === undefined ? {} : { dtype: asString(dtype) }),
          ...(shape.value === undefined ? {} : { shape: decodeShape(shape) }),
        };
        return [name, decoded];
      }),
    );
  return { inputs: decode("inputs"), outputs: decode("outputs") };
}

/** An optional member; an empty object if it is missing. */
function optional(located: Located, key: string): Located {
  const found = member(located, key);
  return found.value === undefined ? { value: {}, at: found.at } : found;
}
