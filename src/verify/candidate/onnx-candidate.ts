import type { LayerGraph } from "../../arch/index.js";
import { declaredPixels } from "../../convert/export/metadata.js";
import { NORMALIZED } from "../../convert/export/onnx/index.js";
import type { OnnxModel } from "../../convert/formats/onnx/model.js";
import type { RuntimeName } from "../backends/backend.js";
import { isCopied, type OnnxFile, onnxruntimeBackend } from "../backends/onnxruntime.js";
import { engineOf } from "../backends/registry.js";
import type { Party } from "../report.js";
import type { Candidate } from "./candidate.js";
import { foldedLayers } from "./folded-layers.js";
import { halfPrecision, type InterfaceOptions } from "./interface.js";
import { accountForOutputs } from "./outputs.js";
import { neededValues, ownCandidate, type Structure } from "./own-names.js";
import { stagesOf } from "./stages.js";

/** What is known of a model already, and what runs it. */
interface FoundModel extends InterfaceOptions, Structure {
  /** Default: onnxruntime. */
  readonly backend?: RuntimeName | undefined;
}

const PRODUCTS: ReadonlySet<string> = new Set(["Conv", "Gemm"]);

/**
 * An ONNX file as a candidate. Its layers are found by exact name; a convolution or linear layer that is
 * not there counts as folded only if the file computes the batch norm after it by a convolution or matrix product.
 *
 * @throws InputError (`unsupported`) if none of its outputs is computed from a layer
 */
export function onnxCandidate(
  file: OnnxFile,
  model: OnnxModel,
  graph: LayerGraph,
  party: Party,
  { match, unmatched, backend: runtime = "onnxruntime", ...options }: FoundModel = {},
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
  const sources = new Map(graph.nodes.map(({ name, inputs: [source = ""] }) => [name, source]));
  const folded = foldedLayers(
    graph,
    (layer) => producers.has(layer),
    (layer) =>
      PRODUCTS.has(producers.get(layer)?.opType ?? "") ||
      match?.absorbed.has(sources.get(layer) ?? "") === true,
  );
  const layers = neededValues(graph, results, { of: (layer) => layer, normalized: NORMALIZED });
  const backend = onnxruntimeBackend(file, model, layers, party.name, runtime);
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
      optimises: engineOf(runtime).optimises ?? false,
      program: {
        ...accounted,
        load: (loading) => backend.load(accounted.outputs, loading),
        isCopied: isCopied(file),
      },
    },
    accounted,
    match,
    { ...options, unmatched, declared: declaredPixels(model.metadata, party.name) },
  );
}
