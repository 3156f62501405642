import type { LayerGraph } from "../../arch/index.js";
import { VALUE_NAMES } from "../../convert/export/tfjs/index.js";
import type { TfjsFiles, TfjsModel } from "../../convert/formats/tfjs/index.js";
import type { TfjsBackendName } from "../backends/backend.js";
import { tfjsBackend } from "../backends/tfjs.js";
import type { Party } from "../report.js";
import type { Candidate } from "./candidate.js";
import { foldedLayers } from "./folded-layers.js";
import { neededValues, refuseOutputs } from "./own-names.js";
import { stagesOf } from "./stages.js";
import { tfjsView } from "./tfjs-view.js";

/**
 * A model of ours as a candidate in tfjs. Layers are found by exact name, in a layers model a gate's by the call of its
 * stream; a convolution or linear layer that is nowhere counts as folded only if the model computes the batch norm
 * after it by a convolution or matrix product.
 *
 * @throws InputError (`unsupported`) if none of its outputs is a result of the network
 */
export function tfjsCandidate(
  files: TfjsFiles,
  model: TfjsModel,
  graph: LayerGraph,
  party: Party,
  backendName: TfjsBackendName = "tfjs-wasm",
): Candidate {
  const { input, outputs, values, isProduct, tapped } = tfjsView(model, graph, party.name);
  const names = VALUE_NAMES[model.format];
  const layers = new Map(graph.nodes.map(({ name }) => [names.of(name), name]));
  const results = outputs.flatMap((output) => layers.get(output) ?? []);
  const [result] = results;
  if (result === undefined || input === undefined) {
    const { what, command } = OURS[model.format];
    throw refuseOutputs(party, outputs, what, command);
  }
  const computed = [...neededValues(graph, results, names)].filter(([, value]) => values.has(value));
  const backend = tfjsBackend(
    backendName,
    {
      plain: { program: { files, input }, output: names.of(result) },
      tapped: { files: tapped(files), input },
      nodes: new Map(computed),
      continues: model.format === "graph-model",
    },
    party.name,
  );
  return {
    party,
    backend: {
      ...backend,
      run: (images) => backend.run(images, stagesOf(graph, backend.layers, images.shape)),
    },
    results,
    folded: foldedLayers(
      graph,
      (layer) => values.has(names.of(layer)),
      (layer) => isProduct(names.of(layer)),
    ),
    plain: { name: result, load: backend.plain },
  };
}

/** What a model of ours has, and how to get one. */
const OURS = {
  "graph-model": {
    what: "nodes named after torchreid's modules, in the model's signature",
    command: "pth2tfjs",
  },
  "layers-model": {
    what: "layers named after torchreid's modules",
    command: "pth2tfjs --tfjs-format layers",
  },
} as const satisfies Record<TfjsModel["format"], unknown>;
