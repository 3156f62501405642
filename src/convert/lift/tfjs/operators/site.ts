import type {
  TfjsAttribute,
  TfjsAttributeType,
  TfjsAttributeValues,
  TfjsNode,
} from "../../../formats/tfjs/index.js";
import type { Site, Translation } from "../translation.js";
import type { TfWindow } from "../windows.js";

/** One node of a TensorFlow graph, to be written into the draft. */
export interface NodeSite extends Site {
  readonly node: TfjsNode;
}

export type NodeTranslation = Translation<NodeSite>;

/** An attribute's value if it is there and of the type asked for. */
export function attribute<T extends TfjsAttributeType>(
  { attributes }: TfjsNode,
  name: string,
  type: T,
): TfjsAttributeValues[T] | undefined {
  const found: TfjsAttribute | undefined = attributes.get(name);
  return found?.type === type ? (found.value as TfjsAttributeValues[T]) : undefined;
}

export function isChannelsFirst(node: TfjsNode): boolean {
  return attribute(node, "data_format", "string") === "NCHW";
}

/** Where a convolution's or a pool's window goes. */
export function windowOf(node: TfjsNode): TfWindow {
  return {
    kernel: attribute(node, "ksize", "ints"),
    strides: attribute(node, "strides", "ints"),
    dilations: attribute(node, "dilations", "ints"),
    padding: attribute(node, "padding", "string") ?? "",
    explicit: attribute(node, "explicit_paddings", "ints"),
    channelsFirst: isChannelsFirst(node),
  };
}
