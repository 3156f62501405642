import { ancestors, type LayerGraph, type LayerNode } from "../arch/index.js";
import { InputError } from "../errors.js";
import { formatShape, sameShape } from "../tensor.js";
import type { Candidate, Side } from "./candidate.js";
import { judgeEmbedding } from "./embedding.js";
import {
  consequences,
  explainedBy,
  layerFault,
  localFaults,
  numericFaults,
  outputFaults,
  withCauses,
} from "./faults.js";
import { joinByName } from "./join.js";
import { gateResult } from "./judge.js";
import { layerJudge } from "./layer-judge.js";
import { proofOf } from "./proof.js";
import type {
  Fault,
  GateResult,
  LayerResult,
  OutputResult,
  ParityReport,
  QuantizationResult,
} from "./report.js";
import { rerunFaults } from "./reruns.js";
import { observeVacuity } from "./vacuity.js";
import { DEFAULT_TOLERANCE, DERIVED_BOUNDS, type Verification } from "./verification.js";

/**
 * Compares a candidate with a reference, layer by layer and gate by gate. A difference is a result, never an exception.
 *
 * Every layer that the candidate's results depend on must be found on both sides by exact name; a recording, which may
 * hold fewer, sets what is compared, and the report says how much that was.
 *
 * @throws InputError if a side cannot run on the images
 */
export async function verify(verification: Verification): Promise<ParityReport> {
  const { graph, candidate, reference, images } = verification;
  const { parameters } = verification;
  const tolerance = verification.tolerance ?? (parameters ? DERIVED_BOUNDS : DEFAULT_TOLERANCE);
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const gateLayers = new Map(graph.gates.map((gate) => [gate.layer, gate]));
  const reachable = expectedLayers(graph, candidate, reference);
  const wanted = reachable.filter(({ name }) => !candidate.folded.has(name));
  const outputLayer = [graph.outputs.features, graph.outputs[graph.outputs.evaluation]].find((layer) =>
    wanted.some(({ name }) => name === layer),
  );
  const results = new Map<string, LayerResult>();
  const gates = new Map<string, GateResult>();
  const structure: Fault[] = [...(candidate.structure ?? [])];
  let output: OutputResult | null = null;
  let quantization: QuantizationResult | undefined;

  const judge = layerJudge(verification, tolerance);
  const observer = observeVacuity(graph, { images });
  const layers = joinByName(
    reference.backend.run(images),
    candidate.backend.run(images),
    new Set(wanted.map(({ name }) => name)),
  );
  for await (const { name, expected, actual, again } of layers) {
    const node = nodes.get(name);
    if (!node) continue;
    if (!sameShape(expected.shape, actual.shape)) {
      const shapes = `shape ${formatShape(actual.shape)}, expected ${formatShape(expected.shape)}`;
      structure.push(layerFault(node, "structure", null, shapes));
      continue;
    }
    observer.observe(name, actual);
    const result = judge.judge(node, expected, actual, again);
    results.set(name, result);
    const gate = gateLayers.get(name);
    if (gate) gates.set(name, gateResult(gate, expected, actual, result));
    if (name === outputLayer) {
      const result = await judgeEmbedding(verification, tolerance, { name, expected, actual });
      output = result.output;
      quantization = result.quantization;
    }
    verification.onProgress?.(results.size, wanted.length);
  }

  const explained = explainedBy(structure, nodes);
  const absent = wanted.filter((node) => !results.has(node.name) && !explained(node));
  const failing = [...results.values()].filter(({ status }) => status === "fail");
  const following = consequences(graph, namesOf(absent), namesOf(failing), structure);
  const missing = absent.filter(({ name }) => !following.has(name));
  const known = [
    ...(verification.weights?.faults ?? []).filter(({ layer }) => !following.has(layer)),
    ...missing.map((node) => layerFault(node, "missing", null, "one side holds no value of this name")),
    ...structure,
  ];
  const judged =
    tolerance.rule === "relative-to-max"
      ? [...known, ...numericFaults(graph, results, tolerance, structure)]
      : withCauses(graph, known, localFaults(graph, results, judge.explanations()));
  const faults =
    judged.length > 0 && tolerance.rule === "derived-bounds"
      ? judged
      : [
          ...judged,
          ...outputFaults(output, results),
          ...rerunFaults(output?.layer ?? "", output?.reruns ?? []),
        ];
  return {
    schema: "osnet-parity/1",
    candidate: candidate.party,
    reference: reference.party,
    backend: candidate.backend.name,
    tolerance,
    input: {
      source: verification.imagesSource,
      shape: images.shape,
      ...(candidate.pixels ? { pixels: candidate.pixels } : {}),
    },
    // What could not be judged has not passed.
    passed: faults.length === 0 && [...results.values()].some(({ status }) => status === "pass"),
    faults,
    layers: graph.nodes.flatMap(({ name }) => results.get(name) ?? []),
    gates: graph.gates.flatMap(({ layer }) => gates.get(layer) ?? []),
    output,
    weights: verification.weights?.result ?? null,
    vacuity: observer.finish(),
    proof: proofOf(candidate, verification.weights?.result, faults, images.shape[0] ?? 0),
    ...(quantization ? { quantization } : {}),
    coverage: {
      expected: reachable.length,
      compared: results.size,
      folded: reachable.filter(({ name }) => candidate.folded.has(name)).map(({ name }) => name),
      missing: missing.map(({ name }) => name),
    },
  };
}

function namesOf(layers: readonly { readonly name: string }[]): ReadonlySet<string> {
  return new Set(layers.map(({ name }) => name));
}

/** The layers to compare, in network order: all behind the candidate's results, or what a recording holds. */
function expectedLayers(graph: LayerGraph, candidate: Candidate, reference: Side): readonly LayerNode[] {
  const recorded = [reference, candidate].find(({ backend }) => backend.name === "recorded");
  const names = recorded ? new Set(recorded.backend.layers) : ancestors(graph, ...candidate.results);
  const compares = ({ op }: LayerNode): boolean => op.kind !== "input" || candidate.pixels !== undefined;
  const layers = graph.nodes.filter((node) => compares(node) && names.has(node.name));
  if (layers.length === 0)
    throw new InputError({
      code: "tensor",
      subject: (recorded ?? candidate).party.name,
      found: "no layer of the network",
      expected: "layer outputs under torchreid module paths",
      remedy: "record them with python/record_activations.py",
    });
  return layers;
}
