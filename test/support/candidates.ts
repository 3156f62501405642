import type { LayerGraph } from "../../src/arch/index.js";
import type { OnnxModel } from "../../src/convert/formats/onnx/model.js";
import type { TfjsFiles, TfjsModel } from "../../src/convert/formats/tfjs/model.js";
import { translateTfjs } from "../../src/convert/import/tfjs/translate.js";
import type { RuntimeName } from "../../src/verify/backends/backend.js";
import type { Candidate } from "../../src/verify/candidate/candidate.js";
import {
  type RunnableModel,
  runnableCandidate,
  runnableOnnx,
  runnableTfjs,
} from "../../src/verify/candidate/model-candidate.js";
import type { Party } from "../../src/verify/outcome/report.js";
import { byName, onnxNames, tfjsNames } from "../../src/verify/weights/located.js";

/** A file in a runtime, its layers found by the names that this package writes. */
export function onnxRunnable(
  bytes: Uint8Array,
  model: OnnxModel,
  graph: LayerGraph,
  runtime?: RuntimeName,
): RunnableModel {
  return runnableOnnx({ bytes, whole: bytes }, model, byName(graph, onnxNames(model)), runtime);
}

/** As `onnxRunnable`, of a TensorFlow.js model. */
export function tfjsRunnable(
  files: TfjsFiles,
  model: TfjsModel,
  graph: LayerGraph,
  runtime?: RuntimeName,
): RunnableModel {
  const onnx = translateTfjs(model, "m");
  return runnableTfjs(files, model, onnx, byName(graph, tfjsNames(model, graph, "m")), runtime);
}

/** The same as a candidate. */
export function onnxCandidate(
  bytes: Uint8Array,
  model: OnnxModel,
  graph: LayerGraph,
  party: Party = { name: "m.onnx", format: "onnx" },
  runtime?: RuntimeName,
): Candidate {
  return runnableCandidate(onnxRunnable(bytes, model, graph, runtime), party);
}

export function tfjsCandidate(
  files: TfjsFiles,
  model: TfjsModel,
  graph: LayerGraph,
  party: Party = { name: "model.json", format: "tfjs" },
  runtime?: RuntimeName,
): Candidate {
  return runnableCandidate(tfjsRunnable(files, model, graph, runtime), party);
}
