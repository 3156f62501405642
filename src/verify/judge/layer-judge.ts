import { type LayerNode, parametersOf } from "../../arch/index.js";
import { InputError } from "../../core/errors.js";
import type { RealTensor } from "../../core/tensor.js";
import type { LayerOutput } from "../backends/backend.js";
import { numericsOf } from "../backends/registry.js";
import type { Explanation } from "../explain/index.js";
import type { TensorMetrics } from "../metrics.js";
import type { LayerResult, RelativeTolerance, Tolerance } from "../report.js";
import type { Verification } from "../verification.js";
import type { GroupSetting } from "./group-judge.js";
import { type LocalJudge, localJudge } from "./local.js";
import type { Threads } from "./threads.js";
import { judgeLayer, judgeLocally } from "./verdicts.js";

/** With more constants than these different, the weights are another checkpoint's, and that explains all. */
const FEW_WEIGHTS = 32;

/** Three roundings of a pixel's share of white, which is at most its normalised value and twice the mean's; and a margin. */
const NORMALIZED_TOLERANCE: RelativeTolerance = { rule: "relative-to-max", value: 2 ** -20 };

/** Half precision rounds a pixel, what is subtracted and the result. */
const HALF_NORMALIZED: RelativeTolerance = { rule: "relative-to-max", value: 2 ** -8 };

function normalizedTolerance({ precision }: Verification["candidate"]): RelativeTolerance {
  return precision === "float16" ? HALF_NORMALIZED : NORMALIZED_TOLERANCE;
}

/** Judges layers as they come, in network order. */
export interface LayerJudge {
  /**
   * @param metrics of the layer against the reference network's
   * @param again other layers as they are in the run that this layer and those after it come from
   */
  judge(
    node: LayerNode,
    metrics: TensorMetrics | Promise<TensorMetrics>,
    actual: RealTensor,
    again: readonly LayerOutput[],
  ): Promise<LayerResult>;
  explanations(): Promise<ReadonlyMap<string, Explanation>>;
}

/**
 * Judges each layer against the reference network, or on the candidate's own inputs to it.
 *
 * @param threads where to do it, if not here
 */
export function layerJudge(
  { graph, candidate, images, parameters, weights }: Verification,
  tolerance: Tolerance,
  threads: Threads | undefined,
): LayerJudge {
  if (tolerance.rule === "relative-to-max")
    return {
      judge: async (node, metrics, actual) => judgeLayer(node, await metrics, actual, tolerance),
      explanations: async () => new Map(),
    };
  if (!parameters)
    throw new InputError({
      code: "argument",
      subject: "--tolerance auto",
      found: "no checkpoint to recompute layers from",
      expected: "a checkpoint as the reference",
      remedy: "use the checkpoint, or a number as the tolerance",
    });
  // What cannot be seen in the network can be seen in a convolution between two of its biases.
  const constants = weights?.withZeros ?? parameters;
  const departures = new Set(candidate.structure?.map(({ layer }) => layer));
  const shown = new Set(candidate.backend.layers);
  const others = weights?.faults.filter(({ layer }) => shown.has(layer)) ?? [];
  let local: LocalJudge | undefined;
  return {
    async judge(node, metrics, actual, again) {
      local ??= makeJudge(actual);
      const error = await local.judge(node.name, actual, again);
      // Nothing of the network comes before the images that a model has normalised: the reference's are what they should be.
      if (node.op.kind === "input")
        return judgeLayer(node, await metrics, actual, normalizedTolerance(candidate));
      return judgeLocally(node, await metrics, actual, error);
    },
    explanations: async () => (await local?.explanations()) ?? new Map(),
  };

  function makeJudge({ dtype }: RealTensor): LocalJudge {
    const setting: GroupSetting = {
      graph,
      images: images.shape,
      shown: candidate.backend.layers,
      parameters: constants,
      precision: candidate.precision ?? candidate.backend.facts?.()?.storage ?? dtype,
      numerics: numericsOf(candidate.backend.name),
      foldsNarrow: candidate.foldsNarrow ?? false,
    };
    return localJudge(
      setting,
      {
        images,
        parameterShapes: new Map(parametersOf(graph).map(({ path, shape }) => [path, shape])),
        mayHide: (layer) => !departures.has(layer),
        // Activations on integers are rounded at every layer, which is the one explanation of all faults.
        explains: others.length <= FEW_WEIGHTS && !weights?.haveOneCause && !weights?.result.quantised,
        reusesMemory: candidate.backend.name === "reference" && !threads,
      },
      threads,
    );
  }
}
