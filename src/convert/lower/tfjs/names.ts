import type { TfjsModel } from "../../formats/tfjs/index.js";
import type { ValueNames } from "../results.js";

/**
 * Names of layers and of graph nodes. TensorFlow allows letters, digits and `_ . \ / > -`, so that of a layer's name
 * only a gate's stream needs another spelling: `conv2.0.gate[1].fc1` is the node `conv2.0.gate-1.fc1`. No layer's name
 * has a hyphen of its own, and the way back is unambiguous. What a layer needs besides the node of its name is
 * called after it with a slash: `conv1.bn/mean`.
 */

/** What TensorFlow takes as the name of a node. */
const LEGAL = /^[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*$/;

/** A layer's name as the name of a node. */
export function nodeName(layer: string): string {
  return layer.replaceAll(/\[(\d+)\]/g, "-$1");
}

export function isLegalNodeName(name: string): boolean {
  return LEGAL.test(name);
}

/** Where a layers model computes a layer: a Keras layer, and which of its calls. */
export interface KerasCall {
  readonly layer: string;
  readonly call: number;
}

/** The value of a layer in a layers model, as `LAYER#CALL`. */
export function tapName(name: string): string {
  const { layer, call } = kerasCall(name);
  return `${layer}#${call}`;
}

/** A gate's module is one Keras layer that is called once per stream: `gate[2].fc1` is the second call of `gate.fc1`. */
export function kerasCall(layer: string): KerasCall {
  const stream = /\[(\d+)\]/.exec(layer)?.[1];
  return { layer: layer.replace(/\[\d+\]/, ""), call: stream === undefined ? 0 : Number(stream) - 1 };
}

/** The node that the stem reads where the model normalises pixels: images as PyTorch's networks take them. */
export const NORMALIZED_NODE = "images/normalized";

/** The Keras layer that the stem reads there. */
export const NORMALIZED_LAYER = "images-normalized";

export const VALUE_NAMES: Readonly<Record<TfjsModel["format"], ValueNames>> = {
  "graph-model": { of: nodeName, normalized: NORMALIZED_NODE },
  "layers-model": { of: tapName, normalized: tapName(NORMALIZED_LAYER) },
};
