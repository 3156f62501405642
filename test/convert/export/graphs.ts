import { expand } from "../../../src/arch/expand.js";
import type { LayerGraph, LayerNode } from "../../../src/arch/graph.js";
import { parametersOf } from "../../../src/arch/parameters.js";
import type { OsnetSpec } from "../../../src/arch/spec.js";
import { variant } from "../../../src/arch/variants.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { elementCount, type Shape, type Tensor } from "../../../src/core/tensor.js";

/** A graph of a few layers on `images`, of which the last is the result. The spec is not its own. */
export function graphOf(...layers: readonly LayerNode[]): LayerGraph {
  return {
    spec: variant("osnet_x0_25"),
    nodes: [{ name: "images", op: { kind: "input" }, inputs: [], parameters: {} }, ...layers],
    aliases: new Map(),
    outputs: { features: layers.at(-1)?.name ?? "images", evaluation: "features" },
    gates: [],
  };
}

/** Every block kind in miniature: two streams, a transition, an embedding and a classifier. */
export const SMALL_SPEC: OsnetSpec = {
  dialect: "osnet",
  stem: { channels: 8, norm: "batch" },
  stages: [
    {
      blocks: [{ inChannels: 8, outChannels: 16, streams: 2, reduction: 2, instanceNorm: "inside" }],
      transition: true,
    },
    {
      blocks: [{ inChannels: 16, outChannels: 16, streams: 3, reduction: 4, instanceNorm: "none" }],
      transition: false,
    },
  ],
  gate: { reduction: 4, activation: "sigmoid", layerNorm: false },
  pooling: "avg",
  embedding: [12],
  head: { classes: 5, loss: "softmax" },
};

/** That network, and parameters of it; do not modify them. */
export const GRAPH: LayerGraph = expand(SMALL_SPEC);
export const STATE: StateDict = parametersFor(GRAPH);

export function float32(shape: Shape, values: readonly number[]): Tensor<"float32"> {
  return { dtype: "float32", shape, data: Float32Array.from(values) };
}

/** All parameters of a network, small and never degenerate: variances lie in [0.5, 1.5). */
export function parametersFor(graph: LayerGraph): StateDict {
  let state = 1;
  // The minimal standard generator of Park and Miller (1988): the same numbers everywhere.
  const random = (): number => {
    state = (state * 16807) % 2147483647;
    return state / 2147483647;
  };
  return new Map(
    parametersOf(graph).map(({ path, shape, dtype }): [string, Tensor] => {
      const length = elementCount(shape);
      if (dtype === "int64") return [path, { dtype, shape, data: new BigInt64Array(length) }];
      const offset = path.endsWith("running_var") ? 0.5 : -0.5;
      return [
        path,
        float32(
          shape,
          Array.from({ length }, () => random() + offset),
        ),
      ];
    }),
  );
}
