import type { OnnxModel } from "../../formats/onnx/index.js";
import type { TfjsModel } from "../../formats/tfjs/index.js";
import type { Layout } from "../foreign.js";
import { NCHW } from "../layouts.js";
import { type GraphMatch, type MatchOptions, matchGraph } from "../match.js";
import { isPlain } from "../preprocess.js";
import { translateGraph, translateLayers } from "./translate.js";

/** A TensorFlow.js model laid beside the layer graph of an OSNet. */
export interface TfjsMatch extends GraphMatch {
  /** The order of axes in which it takes images. */
  readonly layout: Layout;
}

/**
 * A model in ONNX's words: a graph's values are called as its nodes, a layers model's `LAYER#CALL`.
 *
 * @throws InputError (`format`, `unsupported`) if it is no graph, or has layers that are models themselves
 */
export function translateTfjs(model: TfjsModel, subject: string): OnnxModel {
  return model.format === "graph-model" ? translateGraph(model, subject) : translateLayers(model, subject);
}

/**
 * Matches a model against OSNet, as `matchGraph` does. Images with their channels last are TensorFlow's own, and no
 * preprocessing.
 *
 * @param translated the model in ONNX's words
 * @throws InputError (`unsupported`) if the model is no OSNet, (`format`) if it is no graph
 */
export function matchTfjs(translated: OnnxModel, options: MatchOptions): TfjsMatch {
  const match = matchGraph(translated, options);
  const { preprocess } = match;
  const values = new Map([...match.values].filter(([, value]) => !isStep(value)));
  const steps = [...match.values.keys()].filter((layer) => !values.has(layer));
  return {
    ...match,
    values,
    folded: new Set([...match.folded, ...steps]),
    preprocess: preprocess && isPlain({ ...preprocess, layout: NCHW }) ? undefined : preprocess,
    layout: preprocess?.layout ?? NCHW,
  };
}

/** Whether a value is computed on the way to a node's own: `NODE#STEP`, or `LAYER#CALL#STEP`; calls are numbers. */
function isStep(value: string): boolean {
  return /#[^#\d][^#]*$/.test(value);
}
