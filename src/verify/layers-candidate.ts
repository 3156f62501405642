import { ancestors, type LayerGraph } from "../arch/index.js";
import type { Json, JsonObject, TfjsFiles, TfjsLayersModel } from "../convert/formats/tfjs/index.js";
import { kerasCall, NORMALIZED_LAYER, tapName } from "../convert/lower/tfjs/index.js";
import { InputError } from "../errors.js";
import type { TfjsBackendName } from "./backend.js";
import { tfjsBackend } from "./backends/tfjs.js";
import type { Candidate } from "./candidate.js";
import { foldedLayers } from "./folded-layers.js";
import type { Party } from "./report.js";

/** A layer of a layers model: its class, and how often it is called. */
interface KerasLayer {
  readonly className: string;
  readonly calls: number;
}

/**
 * A layers model as a candidate in tfjs. Layers are found by exact name, a gate's by the call of its stream; a convolution
 * or dense layer that is not there counts as folded only if the batch norm after it is one itself.
 *
 * @throws InputError (`unsupported`) if none of its outputs is a result of the network
 */
export function layersCandidate(
  files: TfjsFiles,
  model: TfjsLayersModel,
  graph: LayerGraph,
  party: Party,
  backendName: TfjsBackendName = "tfjs-wasm",
): Candidate {
  const config = configOf(model);
  const layers = layersOf(config);
  const isComputed = (name: string): boolean => {
    const { layer, call } = kerasCall(name);
    return call < (layers.get(layer)?.calls ?? 0);
  };
  const outputs = arrayOf(config.output_layers).map(valueName);
  const results = outputs.flatMap((output) =>
    graph.nodes
      .filter(({ name, op }) => op.kind !== "input" && tapName(name) === output)
      .map(({ name }) => name),
  );
  const [result] = results;
  if (result === undefined)
    throw new InputError({
      code: "unsupported",
      subject: party.name,
      found: `outputs ${outputs.join(", ") || "without names"}, none of them a layer of the network`,
      expected: "layers named after torchreid's modules",
      remedy: "convert the checkpoint with osnet-convert pth2tfjs --tfjs-format layers",
    });
  const needed = ancestors(graph, ...results);
  // The network's input is a layer of its own where the model normalises it.
  const computed = graph.nodes
    .filter(({ name }) => needed.has(name))
    .map(({ name, op }) => [name, op.kind === "input" ? NORMALIZED_LAYER : name] as const)
    .filter(([, name]) => isComputed(name));
  const program = { files, input: "images" };
  const backend = tfjsBackend(
    backendName,
    {
      plain: { program, output: tapName(result) },
      tapped: program,
      nodes: new Map(computed.map(([name, layer]) => [name, tapName(layer)])),
    },
    party.name,
  );
  return {
    party,
    backend,
    results,
    folded: foldedLayers(graph, isComputed, (name) =>
      PRODUCTS.has(layers.get(kerasCall(name).layer)?.className ?? ""),
    ),
    untapped: async (images) => ({ name: result, tensor: await backend.plain(images) }),
  };
}

const PRODUCTS: ReadonlySet<string> = new Set(["Conv2D", "DepthwiseConv2D", "Dense"]);

function layersOf(config: JsonObject): ReadonlyMap<string, KerasLayer> {
  return new Map(
    arrayOf(config.layers).map((json) => {
      const { name, class_name: className, inbound_nodes: calls } = objectOf(json);
      return [String(name), { className: String(className), calls: arrayOf(calls).length }];
    }),
  );
}

/** `["fc.2", 0, 0]`: the first output of a layer's first call. */
function valueName(value: Json): string {
  const [layer, call] = arrayOf(value);
  return `${String(layer)}#${String(call)}`;
}

function configOf({ topology }: TfjsLayersModel): JsonObject {
  return objectOf(objectOf(topology.model_config ?? topology).config);
}

function objectOf(value: Json | undefined): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
}

function arrayOf(value: Json | undefined): readonly Json[] {
  return Array.isArray(value) ? (value as readonly Json[]) : [];
}
