import type { Tensor } from "../../../tensor.js";
import {
  ints,
  type OnnxAttributeRecord,
  type OnnxModel,
  type OnnxNode,
  type OnnxValue,
  onnxNode,
} from "../../formats/onnx/index.js";
import type { StoredTensor } from "../../formats/tfjs/index.js";
import { NHWC_DOMAIN } from "../layouts.js";

/**
 * A TensorFlow.js model in ONNX's words, as it is put together. Both have the same operators at heart: what TensorFlow
 * does to NHWC is an ONNX operator of `NHWC_DOMAIN`, and its order of a weight's axes a `Transpose` of a constant.
 *
 * Values keep their names. What a node computes on the way, and no value of the file holds, is called `NODE#STEP`.
 */
export interface Draft {
  readonly nodes: OnnxNode[];
  readonly constants: Map<string, StoredTensor>;
  /** By value, the node that computes it. */
  readonly writers: Map<string, OnnxNode>;
}

export function createDraft(): Draft {
  return { nodes: [], constants: new Map(), writers: new Map() };
}

/** The constant that a value is, handed on or not. */
export function constantBehind({ constants, writers }: Draft, name: string): Tensor | undefined {
  let current = name;
  for (let steps = 0; steps < MAX_IDENTITIES; steps++) {
    const writer = writers.get(current);
    if (writer?.opType !== "Identity") return constants.get(current);
    current = writer.inputs[0] ?? "";
  }
  return undefined;
}

/** Two in a row are written between a variable and what reads it. */
const MAX_IDENTITIES = 8;

/** Adds a node, and gives the name of what it computes. */
export function add(
  draft: Draft,
  opType: string,
  inputs: readonly string[],
  output: string,
  attributes: OnnxAttributeRecord = {},
  domain = "",
): string {
  const node = onnxNode(output, opType, inputs, attributes, domain);
  draft.nodes.push(node);
  draft.writers.set(output, node);
  return output;
}

/** Adds a constant, unless it is there. */
export function addConstant(draft: Draft, name: string, tensor: Tensor): string {
  if (!draft.constants.has(name)) draft.constants.set(name, tensor);
  return name;
}

/** The domain of operators over images: TensorFlow's `data_format`. */
export function domainOf(channelsFirst: boolean): string {
  return channelsFirst ? "" : NHWC_DOMAIN;
}

/** x + b by channel. */
export function addBias(draft: Draft, x: string, b: string, output: string, channelsFirst: boolean): string {
  if (!channelsFirst) return add(draft, "Add", [x, b], output);
  return add(draft, "Add", [x, add(draft, "Unsqueeze", [b], `${output}#bias`, { axes: ints(1, 2) })], output);
}

/** A draft as a model: constants are initializers, and what it says of itself is the file's. */
export function modelOf(
  { nodes, constants }: Draft,
  inputs: readonly OnnxValue[],
  outputs: readonly string[],
  about: Pick<OnnxModel, "producer" | "metadata">,
): OnnxModel {
  return {
    ...about,
    irVersion: 0,
    opset: 0,
    customOpsets: new Map([[NHWC_DOMAIN, 1]]),
    graph: {
      name: "",
      nodes,
      inputs,
      outputs: outputs.map((name) => ({ name })),
      initializers: constants,
    },
  };
}
