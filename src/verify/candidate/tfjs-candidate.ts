import type { LayerGraph } from "../../arch/index.js";
import { declaredPixels } from "../../convert/export/metadata.js";
import { VALUE_NAMES } from "../../convert/export/tfjs/index.js";
import type { OnnxModel } from "../../convert/formats/onnx/model.js";
import type { TfjsFiles, TfjsModel } from "../../convert/formats/tfjs/model.js";
import { translateTfjs } from "../../convert/import/tfjs/translate.js";
import type { RuntimeName } from "../backends/backend.js";
import { tfjsBackend } from "../backends/tfjs.js";
import type { Party } from "../report.js";
import type { Candidate } from "./candidate.js";
import { foldedLayers } from "./folded-layers.js";
import type { InterfaceOptions } from "./interface.js";
import { accountForOutputs } from "./outputs.js";
import { neededValues, ownCandidate, type Structure } from "./own-names.js";
import { stagesOf } from "./stages.js";
import { tfjsView } from "./tfjs-view.js";

/** What is known of a model already, and what runs it. */
interface FoundModel extends InterfaceOptions, Structure {
  /** The model in ONNX's words. */
  readonly translated?: OnnxModel;
  readonly backend?: RuntimeName | undefined;
}

/**
 * A model of ours as a candidate in tfjs. Layers are found by exact name, in a layers model a gate's by the call of its
 * stream; a convolution or linear layer that is nowhere counts as folded only if the model computes the batch norm
 * after it by a convolution or matrix product.
 *
 * @throws InputError (`unsupported`) if none of its outputs is computed from a layer
 */
export function tfjsCandidate(
  files: TfjsFiles,
  model: TfjsModel,
  graph: LayerGraph,
  party: Party,
  found: FoundModel = {},
): Candidate {
  const { translated = translateTfjs(model, party.name), match, unmatched, ...options } = found;
  const { input = "", values, isProduct, tapped } = tfjsView(model, graph, party.name);
  const names = VALUE_NAMES[model.format];
  const accounted = accountForOutputs({
    subject: party.name,
    graph,
    model: translated,
    values: new Map(
      graph.nodes.flatMap(({ name }) =>
        values.has(names.of(name)) ? [[name, names.of(name)] as const] : [],
      ),
    ),
    match,
    isHalf: false,
    chosen: options.output,
  });
  const results = accounted.outputs.map(({ layer }) => layer);
  const computed = [...neededValues(graph, results, names)].filter(([, value]) => values.has(value));
  const backend = tfjsBackend(
    options.backend ?? "tfjs-wasm",
    {
      plain: files,
      outputs: translated.graph.outputs.length,
      tapped: { files: tapped(files), input },
      nodes: new Map(computed),
      continues: model.format === "graph-model",
    },
    party.name,
  );
  return ownCandidate(
    {
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
      program: { ...accounted, load: () => backend.load(accounted.outputs) },
    },
    accounted,
    match,
    { ...options, unmatched, declared: declaredPixels(translated.metadata, party.name) },
  );
}
