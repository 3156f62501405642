import onnxProto from "onnx-proto";
import { bytesOf, toSource } from "../../../core/bytes.js";
import { InputError } from "../../../core/errors.js";
import { isZip } from "../registry.js";
import { otherKind } from "../sniff.js";
import { expectUnambiguous } from "./ambiguity.js";
import { decodeGraph, standardDomain } from "./graphs.js";
import { checkMessages, int64ToNumber, refusal } from "./limits.js";
import {
  FUNCTION,
  type IAttributeProto,
  type IFunctionProto,
  type IGraphProto,
  type INodeProto,
  MODEL,
} from "./messages.js";
import type { OnnxModel } from "./model.js";
import type { OnnxSource } from "./tensors.js";
import { topLevelPayloads } from "./wire.js";

// The package is CommonJS: its names are not visible to named imports of an ES module.
const { onnx } = onnxProto;

/**
 * ONNX: one protobuf message, `ModelProto` of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3),
 * little-endian, no header and no magic number.
 *
 * Accepted: any exporter's file of IR version 3 or later, weights inside it or beside it (tensors.ts); unknown fields
 * are skipped. Refused: truncated or foreign bytes, tensors whose size and shape disagree, types without a `DType`,
 * messages that would take far more memory than their length (limits.ts), and ambiguous files (limits.ts,
 * ambiguity.ts).
 */

/**
 * The model in an ONNX file. Tensors share the memory of `bytes` where alignment allows.
 *
 * @throws InputError (`format`) if the bytes are not a complete ONNX file, (`unsupported`) if the file contains what is
 * not supported; `source.subject` is the file's name in messages, and `source.sidecar` reads the weight files beside
 * it, if any.
 */
export function decodeOnnx(bytes: Uint8Array, source: OnnxSource): OnnxModel {
  const { subject } = source;
  expectNoOtherKind(bytes, subject);
  try {
    return decodeModel(bytes, source);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    // protobufjs reports malformed messages by a RangeError or its own Error.
    throw new InputError(notOnnx(subject, "bytes that are not a complete protobuf message").problem, {
      cause,
    });
  }
}

function decodeModel(bytes: Uint8Array, source: OnnxSource): OnnxModel {
  const { subject } = source;
  // A plain view: with a Node `Buffer`, protobufjs reads strings beyond the end without an error.
  const view = bytesOf(bytes);
  const sidecars = new Set<string>();
  const missing = new Set<string>();
  const copies = { held: view.length, copied: 0, read: 0 };
  const noted: OnnxSource = {
    subject,
    ...(source.absent ? { absent: source.absent } : {}),
    ...(source.sidecar || source.absent
      ? {
          sidecar: (name) => {
            const bytes = source.sidecar?.(name);
            if (bytes && !sidecars.has(name) && toSource(bytes).loaded) copies.held += bytes.length;
            (bytes ? sidecars : missing).add(name);
            return bytes;
          },
          copies,
        }
      : {}),
  };
  checkMessages(view, subject);
  const graphs = topLevelPayloads(view, MODEL.fields.graph.number);
  const model = onnx.ModelProto.decode(view);
  const whole = mergeGraphs(graphs) ?? model.graph;
  expectUnambiguous({ ...model, graph: whole ?? null }, subject);
  const opsets = new Map(
    model.opsetImport.map(({ domain, version }) => [standardDomain(domain ?? ""), int64ToNumber(version)]),
  );
  const opset = opsets.get("");
  if (!opset || !whole) throw notOnnx(subject, whole ? "no operator set" : "no graph");
  opsets.delete("");
  const defaults = functionDefaults(view);
  const { graph, calls } = inlineFunctions(whole, { functions: model.functions, defaults }, subject);
  return {
    irVersion: int64ToNumber(model.irVersion),
    opset,
    customOpsets: opsets,
    producer: { name: model.producerName, version: model.producerVersion },
    graph: decodeGraph(graph, noted),
    metadata: new Map(model.metadataProps.map(({ key, value }) => [key ?? "", value ?? ""])),
    ...(calls > 0 ? { inlined: calls } : {}),
    ...(sidecars.size > 0 ? { sidecars: [...sidecars] } : {}),
    ...(missing.size > 0 ? { missing: [...missing] } : {}),
  };
}

/**
 * The attributes of each function that a call may omit, with their default values: onnx-proto does not support this
 * field.
 */
function functionDefaults(view: Uint8Array): readonly (readonly IAttributeProto[])[] {
  return topLevelPayloads(view, MODEL.fields.functions.number).map((body) =>
    topLevelPayloads(body, FUNCTION.fields.attributeProto.number).map((payload) =>
      onnx.AttributeProto.decode(payload),
    ),
  );
}

/**
 * Protobuf merges a message field that occurs twice, which is the same as concatenating the encodings. protobufjs keeps
 * only the last one, which would hide a part of the network that runtimes run.
 */
function mergeGraphs(payloads: readonly Uint8Array[]): IGraphProto | undefined {
  if (payloads.length < 2) return undefined;
  const merged = new Uint8Array(payloads.reduce((length, payload) => length + payload.length, 0));
  let offset = 0;
  for (const payload of payloads) {
    merged.set(payload, offset);
    offset += payload.length;
  }
  return onnx.GraphProto.decode(merged);
}

/** Protobuf has no magic number, so other formats are detected first. */
function expectNoOtherKind(bytes: Uint8Array, subject: string): void {
  const isPickle = bytes[0] === 0x80;
  const other =
    isZip(bytes) || isPickle
      ? {
          found: isPickle ? "a pickle, as PyTorch writes it" : "a zip archive, as PyTorch and NumPy write it",
          remedy: "convert checkpoints with pth2… or npz2…, and unzip zipped models",
        }
      : otherKind(bytes);
  if (other) throw refusal(subject, other.found, "an ONNX model", other.remedy);
}

function notOnnx(subject: string, found: string): InputError {
  return refusal(subject, found, "an ONNX model", "check that the file is a complete .onnx file");
}

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
function inlineFunctions(
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
