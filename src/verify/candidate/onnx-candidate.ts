import type { LayerGraph } from "../../arch/index.js";
import { NORMALIZED } from "../../convert/export/onnx/index.js";
import type { OnnxModel } from "../../convert/formats/onnx/index.js";
import type { Tensor } from "../../core/tensor.js";
import { onnxruntimeBackend } from "../backends/onnxruntime.js";
import type { Party } from "../report.js";
import type { Candidate } from "./candidate.js";
import { foldedLayers } from "./folded-layers.js";
import { neededValues, refuseOutputs } from "./own-names.js";
import { stagesOf } from "./stages.js";

/** What stands between a layer and a result's own name. */
const PASSING: ReadonlySet<string> = new Set(["Identity", "Cast"]);

const PRODUCTS: ReadonlySet<string> = new Set(["Conv", "Gemm"]);

/**
 * An ONNX file as a candidate in onnxruntime. Its layers are found by exact name; a convolution or linear layer that is
 * not there counts as folded only if the file computes the batch norm after it by a convolution or matrix product.
 *
 * @throws InputError (`unsupported`) if none of its outputs is a result of the network
 */
export function onnxCandidate(
  bytes: Uint8Array,
  model: OnnxModel,
  graph: LayerGraph,
  party: Party,
): Candidate {
  const producers = new Map(
    model.graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)),
  );
  const layerNames = new Set(graph.nodes.map(({ name }) => name));
  /** The layer behind an output's name, through nodes that hand it on. */
  const layerBehind = (output: string): string => {
    let name = output;
    // Without recursion, and no farther than there are nodes: a file may have any number in a row, or in a circle.
    for (let steps = 0; steps < model.graph.nodes.length && !layerNames.has(name); steps++) {
      const { opType = "", inputs: [source] = [] } = producers.get(name) ?? {};
      if (!PASSING.has(opType) || source === undefined) break;
      name = source;
    }
    return name;
  };
  const results = model.graph.outputs
    .map(({ name }) => layerBehind(name))
    .filter((name) => layerNames.has(name));
  if (results.length === 0) {
    const outputs = model.graph.outputs.map(({ name }) => name);
    throw refuseOutputs(party, outputs, "values named after torchreid's modules", "pth2onnx");
  }
  const folded = foldedLayers(
    graph,
    (layer) => producers.has(layer),
    (layer) => PRODUCTS.has(producers.get(layer)?.opType ?? ""),
  );
  const layers = neededValues(graph, results, { of: (layer) => layer, normalized: NORMALIZED });
  const backend = onnxruntimeBackend(bytes, model, layers, party.name);
  return {
    party,
    ...halfPrecision(model.graph.initializers.values()),
    backend: {
      ...backend,
      run: (images) => backend.run(images, stagesOf(graph, backend.layers, images.shape)),
    },
    results,
    folded,
    optimises: true,
    plain: { name: results[0] ?? "", load: (options) => backend.plain(undefined, options) },
  };
}

/** The precision of a network most of whose weights are float16: its values are rounded to that too. */
export function halfPrecision(tensors: Iterable<Tensor>): Pick<Candidate, "precision"> {
  const weights = [...tensors].filter(({ shape }) => shape.length > 1);
  const half = weights.filter(({ dtype }) => dtype === "float16").length;
  return 2 * half > weights.length ? { precision: "float16" } : {};
}
