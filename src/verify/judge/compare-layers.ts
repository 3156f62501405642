import type { LayerNode } from "../../arch/index.js";
import { formatShape, sameShape } from "../../core/tensor.js";
import type { Explanation } from "../explain/index.js";
import { layerFault } from "../faults.js";
import type { Fault, GateResult, LayerResult, Tolerance, Vacuity } from "../report.js";
import { observeVacuity } from "../vacuity/index.js";
import type { Verification } from "../verification.js";
import { type OutputVerdicts, outputJudge } from "./embedding.js";
import { joinByName } from "./join.js";
import { layerJudge } from "./layer-judge.js";
import { gateResult } from "./verdicts.js";

/** What a run of both sides has shown. */
export interface Comparison {
  /** The layers that both sides gave values of one shape for, by name. */
  readonly layers: ReadonlyMap<string, LayerResult>;
  /** The gates among them, by the layer that computes each. */
  readonly gates: ReadonlyMap<string, GateResult>;
  readonly outputs: OutputVerdicts;
  /** Layers of which the sides gave values of different shapes. */
  readonly misshapen: readonly Fault[];
  readonly vacuity: Vacuity;
  /** What would explain each layer that is wrong on its own inputs. */
  readonly explanations: ReadonlyMap<string, Explanation>;
}

/**
 * Runs both sides on the images and judges every wanted layer as soon as both have it.
 *
 * @throws InputError if a side cannot run on the images
 */
export async function compareLayers(
  verification: Verification,
  tolerance: Tolerance,
  wanted: readonly LayerNode[],
): Promise<Comparison> {
  const { graph, candidate, reference, images } = verification;
  const nodes = new Map(wanted.map((node) => [node.name, node]));
  const gateLayers = new Map(graph.gates.map((gate) => [gate.layer, gate]));
  const { features, evaluation } = graph.outputs;
  const outputLayer = [features, graph.outputs[evaluation]].find((name) => name && nodes.has(name));
  const results = new Map<string, LayerResult>();
  const gates = new Map<string, GateResult>();
  const misshapen: Fault[] = [];

  const judge = layerJudge(verification, tolerance);
  const judgeOutputs = await outputJudge(verification, tolerance, outputLayer);
  try {
    const observer = observeVacuity(graph, { images });
    const joined = joinByName(
      reference.backend.run(images),
      candidate.backend.run(images),
      new Set(nodes.keys()),
    );
    for await (const { name, expected, actual, again } of joined) {
      const node = nodes.get(name);
      if (!node) continue;
      if (!sameShape(expected.shape, actual.shape)) {
        const shapes = `shape ${formatShape(actual.shape)}, expected ${formatShape(expected.shape)}`;
        misshapen.push(layerFault(node, "structure", null, shapes));
        continue;
      }
      observer.observe(name, actual);
      const result = judge.judge(node, expected, actual, again);
      results.set(name, result);
      const gate = gateLayers.get(name);
      if (gate) gates.set(name, gateResult(gate, expected, actual, result));
      await judgeOutputs.judge({ name, expected, actual });
      verification.onProgress?.(results.size, wanted.length);
    }
    return {
      layers: results,
      gates,
      outputs: await judgeOutputs.finish(),
      misshapen,
      vacuity: observer.finish(),
      explanations: judge.explanations(),
    };
  } finally {
    await judgeOutputs.release();
  }
}
