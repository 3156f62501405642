import type {
  TfjsAttribute,
  TfjsGraphModel,
  TfjsNode,
  TfjsWeight,
} from "../../src/convert/formats/tfjs/model.js";
import type { Tensor } from "../../src/core/tensor.js";

/** A model with replaced nodes; further inputs of a layout are written as constants. */
export interface Rewriting {
  /** Adds a constant and gives its name; one of that name stays as it is. */
  constant(name: string, tensor: Tensor<"float32" | "int32">): string;
  /** A weight of the model, as it is by now. */
  weight(name: string | undefined): TfjsWeight | undefined;
  /** Puts another tensor in a weight's place. */
  replace(name: string, tensor: Tensor<"float32">): void;
}

/** @param change the nodes in a node's place */
export function rewrite(
  model: TfjsGraphModel,
  change: (node: TfjsNode, rewriting: Rewriting) => readonly TfjsNode[],
): TfjsGraphModel {
  const weights = new Map(model.weights);
  const constants: TfjsNode[] = [];
  const nodes = model.nodes.flatMap((node) =>
    change(node, {
      constant(name, tensor) {
        if (!weights.has(name)) constants.push(constantNode(name, tensor));
        weights.set(name, { tensor });
        return name;
      },
      weight: (name) => weights.get(name ?? ""),
      replace: (name, tensor) => void weights.set(name, { tensor }),
    }),
  );
  return { ...model, nodes: [...constants, ...nodes], weights };
}

/** A node with attributes changed, or with `undefined` taken off. */
export function withAttributes(
  node: TfjsNode,
  changed: Readonly<Record<string, TfjsAttribute | undefined>>,
): TfjsNode {
  const all = Object.entries({ ...Object.fromEntries(node.attributes), ...changed });
  const attributes = new Map(all.flatMap(([key, value]) => (value ? [[key, value] as const] : [])));
  return { ...node, attributes };
}

export function numbers(node: TfjsNode, attribute: string): readonly number[] | undefined {
  const value = node.attributes.get(attribute);
  return value?.type === "ints" ? value.value : undefined;
}

function constantNode(name: string, { dtype }: Tensor<"float32" | "int32">): TfjsNode {
  const value = dtype === "int32" ? "DT_INT32" : "DT_FLOAT";
  return { name, op: "Const", inputs: [], attributes: new Map([["dtype", { type: "dtype", value }]]) };
}
