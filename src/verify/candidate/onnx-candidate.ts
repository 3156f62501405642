import type { LayerGraph } from "../../arch/index.js";
import { declaredPixels } from "../../convert/export/metadata.js";
import { NORMALIZED } from "../../convert/export/onnx/index.js";
import type { OnnxModel } from "../../convert/formats/onnx/index.js";
import type { GraphMatch } from "../../convert/import/index.js";
import { onnxruntimeBackend } from "../backends/onnxruntime.js";
import type { Party } from "../report.js";
import type { Candidate } from "./candidate.js";
import { foldedLayers } from "./folded-layers.js";
import { halfPrecision, type InterfaceOptions, type OnnxBytes } from "./interface.js";
import { accountForOutputs } from "./outputs.js";
import { neededValues, ownCandidate } from "./own-names.js";
import { stagesOf } from "./stages.js";

const UNOPTIMISED = { optimised: false } as const;

const PRODUCTS: ReadonlySet<string> = new Set(["Conv", "Gemm"]);

/**
 * An ONNX file as a candidate in onnxruntime. Its layers are found by exact name; a convolution or linear layer that is
 * not there counts as folded only if the file computes the batch norm after it by a convolution or matrix product.
 *
 * @param match what the structure says, where that is this network's
 * @throws InputError (`unsupported`) if none of its outputs is computed from a layer
 */
export function onnxCandidate(
  { bytes, whole, isCopy = false }: OnnxBytes,
  model: OnnxModel,
  graph: LayerGraph,
  party: Party,
  { match, ...options }: InterfaceOptions & { readonly match?: GraphMatch | undefined } = {},
): Candidate {
  const producers = new Map(
    model.graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)),
  );
  const half = halfPrecision(model.graph.initializers.values());
  const accounted = accountForOutputs({
    subject: party.name,
    graph,
    model,
    values: new Map(graph.nodes.flatMap(({ name }) => (producers.has(name) ? [[name, name] as const] : []))),
    match,
    isHalf: half.precision !== undefined,
    chosen: options.output,
  });
  const results = accounted.outputs.map(({ layer }) => layer);
  const folded = foldedLayers(
    graph,
    (layer) => producers.has(layer),
    (layer) => PRODUCTS.has(producers.get(layer)?.opType ?? ""),
  );
  const layers = neededValues(graph, results, { of: (layer) => layer, normalized: NORMALIZED });
  const backend = onnxruntimeBackend(bytes, model, layers, party.name, whole);
  return ownCandidate(
    {
      party,
      ...half,
      backend: {
        ...backend,
        run: (images) => backend.run(images, stagesOf(graph, backend.layers, images.shape)),
      },
      results,
      folded,
      optimises: true,
      program: {
        ...accounted,
        load: (loading) => backend.plain(accounted.outputs, loading),
        ...(isCopy
          ? {
              copy: () =>
                onnxruntimeBackend(bytes, model, [], party.name).plain(accounted.outputs, UNOPTIMISED),
            }
          : {}),
      },
    },
    accounted,
    match,
    { ...options, declared: declaredPixels(model.metadata, party.name) },
  );
}
