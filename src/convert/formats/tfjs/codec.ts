import { formatShape } from "../../../core/tensor.js";
import { quoted } from "../../../core/text.js";
import type { AbsentBytes } from "../refusals.js";
import { MERGE_SHARDS, type OtherKind, otherKind } from "../sniff.js";
import { decodeGraph, decodeSignature, encodeGraph, encodeSignature, nodeOf } from "./graph.js";
import {
  asObject,
  asString,
  elements,
  expectModest,
  isObject,
  type Json,
  type JsonObject,
  type Located,
  member,
  objectOf,
  refusal,
} from "./json.js";
import { decodeManifest, encodeManifest, manifestPaths } from "./manifest.js";
import type { TfjsFiles, TfjsGraphModel, TfjsModel, TfjsSignature } from "./model.js";

/**
 * TensorFlow.js models: `model.json`, and weight files of 4 MiB beside it
 * (https://github.com/tensorflow/tfjs/blob/master/tfjs-core/src/io/types.ts, `ModelJSON`).
 *
 * Read: graph models and layers models, weights in any number of groups and files, plain or quantised. Refused: string
 * and complex weights, graphs with functions, weight files outside the model's folder. Numbers are little-endian.
 */

/**
 * The files of a model. The same model always gives the same bytes.
 *
 * @param nameShard another name for a weight file instead of the usual one, such as `group1-shard1of1.bin`
 */
export function encodeTfjs(
  model: TfjsModel,
  nameShard: (usual: string, data: Uint8Array) => string = (usual) => usual,
): TfjsFiles {
  const { manifest, shards } = encodeManifest(model.weights, nameShard);
  const document: JsonObject = {
    format: model.format,
    generatedBy: model.generatedBy ?? null,
    convertedBy: model.convertedBy ?? null,
    ...(model.format === "graph-model" ? { signature: encodeSignature(model.signature) } : {}),
    ...(model.metadata ? { userDefinedMetadata: model.metadata } : {}),
    modelTopology: model.format === "graph-model" ? encodeGraph(model.nodes) : model.topology,
    weightsManifest: manifest,
  };
  return { json: new TextEncoder().encode(JSON.stringify(document)), shards };
}

/** How a model's files are read. */
interface DecodeTfjsOptions {
  /** Name of the files in messages. */
  readonly subject: string;
  /** Supplies weights of missing files; without it, these are refused. */
  readonly absent?: AbsentBytes;
}

/**
 * The weight files of a `model.json`, relative to it.
 *
 * @throws InputError (`format`) if the bytes are not a model.json, or a path leaves its folder, (`unsupported`) if they
 * are too many or nest too deep
 */
export function tfjsShardPaths(
  json: Uint8Array,
  { subject }: Pick<DecodeTfjsOptions, "subject">,
): readonly string[] {
  return manifestPaths(member(parse(json, subject), "weightsManifest"));
}

/**
 * Reads a model.
 *
 * @throws InputError (`format`) if the files are not a model, are missing or of the wrong size, (`unsupported`) for
 * unsupported content
 */
export function decodeTfjs({ json, shards }: TfjsFiles, { subject, absent }: DecodeTfjsOptions): TfjsModel {
  const document = parse(json, subject);
  const format = formatOf(document);
  const topology = member(document, "modelTopology");
  const { value: metadata } = member(document, "userDefinedMetadata");
  const parts = {
    ...text(document, "generatedBy"),
    ...text(document, "convertedBy"),
    ...(isObject(metadata) ? { metadata } : {}),
    ...decodeManifest(member(document, "weightsManifest"), shards, absent),
  };
  if (format === "layers-model") return { ...parts, format, topology: asObject(topology) };
  const model: TfjsGraphModel = {
    ...parts,
    format,
    nodes: decodeGraph(topology),
    signature: decodeSignature(signatureOf(document)),
  };
  expectEntryPoint(document, model);
  expectNames(member(document, "userDefinedMetadata"), model.signature);
  return model;
}

function parse(json: Uint8Array, subject: string): Located {
  expectModest(json, subject);
  try {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json)) as Json;
    asObject({ value, at: subject });
    return { value, at: subject };
  } catch {
    const { found, remedy } = otherKind(json) ?? NO_JSON;
    throw refusal(subject, found, "the model.json of a TensorFlow.js model", remedy);
  }
}

const NO_JSON: OtherKind = {
  found: "text that is not a JSON object",
  remedy: "pass the model's folder or its model.json",
};

/**
 * Early writers omitted the format: Keras topologies have a `model_config`, graphs have nodes. tfjs's two loaders do not
 * look at the format: each would load its part of a topology that has both.
 */
function formatOf(document: Located): TfjsModel["format"] {
  const { value, at } = member(document, "format");
  const topology = member(document, "modelTopology");
  const keys = Object.keys(objectOf(topology.value));
  if (member(document, "weight_map").value !== undefined)
    throw refusal(document.at, "the index of a checkpoint in several files", "a model", MERGE_SHARDS);
  const format = value ?? (keys.includes("node") ? "graph-model" : "layers-model");
  if (!isObject(topology.value) || (format !== "graph-model" && format !== "layers-model"))
    throw refusal(at, JSON.stringify(value ?? null), `"graph-model" or "layers-model"`);
  const other = keys.find((key) => (format === "graph-model" ? !GRAPH_KEYS.has(key) : key === "node"));
  if (other !== undefined) throw refusal(topology.at, `${quoted(other)} in a ${format}`, "one model");
  return format;
}

/** The fields of graph.proto's `GraphDef`. */
const GRAPH_KEYS: ReadonlySet<string> = new Set(["node", "library", "version", "versions", "debugInfo"]);

/**
 * The signature is at the top level since tensorflowjs 3.0, and was in the metadata before; if both exist, tfjs uses
 * the latter (`GraphModel.loadWithWeightMap`).
 */
function signatureOf(document: Located): Located {
  const found = member(document, "signature");
  const metadata = member(document, "userDefinedMetadata");
  const earlier = isObject(metadata.value) ? member(metadata, "signature") : found;
  const taken = earlier.value === undefined || earlier.value === null ? found : earlier;
  return taken.value === undefined || taken.value === null ? { value: {}, at: found.at } : taken;
}

/**
 * The inputs and outputs of a program: inputs are placeholders, outputs are values of the graph, each once, and nothing
 * else runs. tfjs itself skips outputs that it does not find, returns a value once that is named twice, allows any
 * value to be fed, and uses a weight instead of a node of its name.
 */
function expectEntryPoint(document: Located, { nodes, signature, weights }: Entry): void {
  const { at } = document;
  const initializer = member(document, "modelInitializer");
  if (isObject(initializer.value) && elements(member(initializer, "node")).length > 0)
    throw refusal(at, "an initializer graph", "a single graph", "freeze the model", "unsupported");
  const operators = new Map(nodes.map(({ name, op }) => [name, op]));
  for (const [key, { name }] of signature.inputs)
    if (!operators.get(nodeOf(name))?.startsWith("Placeholder"))
      throw refusal(at, `the input ${quoted(key)} at ${quoted(name)}`, "a placeholder of the graph");
  expectInputShapes(at, nodes, signature);
  const seen = new Set<string>();
  for (const [key, { name }] of signature.outputs) {
    if (!operators.has(nodeOf(name)))
      throw refusal(at, `the output ${quoted(key)} at ${quoted(name)}`, "a node of the graph");
    // `NAME` is `NAME:0`.
    const value = /:\d+$/.test(name) ? name : `${name}:0`;
    if (seen.has(value)) throw refusal(at, `two outputs at ${quoted(name)}`, "one");
    seen.add(value);
  }
  for (const name of weights.keys())
    if ((operators.get(name) ?? "Const") !== "Const")
      throw refusal(at, `a weight ${quoted(name)}, which a ${operators.get(name)} computes`, "one source");
}

/**
 * Readers take the shape of images from the signature, but tfjs checks only the placeholder's: sizes that only the
 * signature fixes would allow a program to feed others.
 */
function expectInputShapes(at: string, nodes: TfjsGraphModel["nodes"], { inputs }: TfjsSignature): void {
  const byName = new Map(nodes.map((node) => [node.name, node]));
  for (const [key, { name, shape: stated }] of inputs) {
    const attribute = byName.get(nodeOf(name))?.attributes.get("shape");
    const held = attribute?.type === "shape" ? attribute.value : null;
    // The number of images does not matter.
    const isOpen = (size: number, axis: number): boolean => axis > 0 && size >= 0 && held?.[axis] !== size;
    if (!stated || (!stated.some(isOpen) && (!held || held.length === stated.length))) continue;
    throw refusal(
      at,
      `the input ${quoted(key)} of shape ${formatShape(stated)} in the signature and ${held ? formatShape(held) : "any"} at its placeholder`,
      "the same sizes",
      "convert the model again with images of one size",
    );
  }
}

/**
 * `structuredOutputKeys` in the metadata rename, in order, what `GraphModel.predict` returns. They may differ from the
 * signature's names only if the signature names outputs after their values, as TensorFlow's converter does.
 */
function expectNames(metadata: Located, { outputs }: TfjsSignature): void {
  if (!isObject(metadata.value)) return;
  const { value, at } = member(metadata, "structuredOutputKeys");
  if (value === undefined || value === null) return;
  const names = [...outputs];
  const keys: readonly Json[] = Array.isArray(value) ? value : [];
  const agree = names.every(([name, info], i) => {
    const key = keys[i];
    return key === name || (typeof key === "string" && name === info.name && !outputs.has(key));
  });
  if (agree && keys.length === names.length && new Set(keys).size === keys.length) return;
  const expected = names.map(([name]) => quoted(name)).slice(0, 20);
  throw refusal(
    at,
    `output names that differ from the signature's: ${quoted(JSON.stringify(value))}`,
    `the signature's names, in its order: ${expected.join(", ")}`,
    "remove structuredOutputKeys, or rename the outputs in the signature",
    "unsupported",
  );
}

type Entry = Pick<TfjsGraphModel, "nodes" | "signature" | "weights">;

function text<K extends string>(document: Located, key: K): { readonly [P in K]?: string } {
  const found = member(document, key);
  if (found.value === undefined || found.value === null) return {};
  return { [key]: asString(found) } as { readonly [P in K]?: string };
}
