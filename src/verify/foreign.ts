import type { OnnxModel } from "../convert/formats/onnx/index.js";
import type { OnnxMatch } from "../convert/lift/index.js";
import { onnxruntimeBackend } from "./backends/onnxruntime.js";
import { layerFault } from "./faults.js";
import type { Fault, Party } from "./report.js";
import type { Candidate } from "./verify.js";

/**
 * An ONNX file of any exporter as a candidate in onnxruntime: its layers are where matching found them, and the ways in
 * which its graph departs from the network are faults.
 */
export function foreignCandidate(
  bytes: Uint8Array,
  model: OnnxModel,
  match: OnnxMatch,
  party: Party,
): Candidate {
  const backend = onnxruntimeBackend(bytes, model, match.values, party.name);
  const { features, evaluation } = match.graph.outputs;
  const wanted = [features, match.graph.outputs[evaluation]];
  // An output that is normalised or cut is not the layer, though the layer can be read from within.
  const direct = match.outputs.filter(({ tail }) => tail.length === 0);
  const plain = direct.find(({ layer }) => wanted.includes(layer)) ?? direct[0];
  return {
    party,
    backend,
    results: match.outputs.map(({ layer }) => layer),
    folded: match.folded,
    structure: structureFaults(match),
    ...(plain
      ? {
          untapped: async (images) => ({
            name: plain.layer,
            tensor: await backend.plain(images, plain.name),
          }),
        }
      : {}),
  };
}

function structureFaults({ differences }: OnnxMatch): readonly Fault[] {
  return differences.map(({ layer, stream, found, expected }) =>
    layerFault(
      { name: layer, ...(stream === undefined ? {} : { stream }) },
      "structure",
      null,
      `found ${found}, expected ${expected}`,
    ),
  );
}
