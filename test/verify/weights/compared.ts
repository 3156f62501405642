import type { OnnxOptions } from "../../../src/convert/export/onnx.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import type { Shape, Tensor } from "../../../src/core/tensor.js";
import { isDType } from "../../../src/core/tensor-cast.js";
import { compareWeights, type WeightsComparison } from "../../../src/verify/weights/compare-weights.js";
import { onnxCandidate } from "../../support/candidates.js";
import { convert, openFixture, withTensor } from "../../support/osnet.js";

export function compare(
  fold: boolean,
  change: (model: OnnxModel) => OnnxModel = (model) => model,
  of: Checkpoint = openFixture(),
  options: OnnxOptions = {},
  written: Checkpoint = of,
): WeightsComparison {
  const { graph, stateDict } = of;
  const bytes = convert(written, { fold, ...options });
  const model = change(decodeOnnx(bytes, { subject: "model.onnx" }));
  const { located, results } = onnxCandidate(bytes, model, graph);
  if (!located) throw new Error("a model's layers are located");
  return compareWeights(located, stateDict, { results });
}

/** Changes a constant of a file. */
export const changeTensor =
  (name: string, change: (tensor: Tensor) => Tensor) =>
  (model: OnnxModel): OnnxModel => ({
    ...model,
    graph: { ...model.graph, initializers: withTensor(model.graph.initializers, name, change) },
  });

/** The faults of a file with changed weights. */
export function faultsOf(
  own: Checkpoint,
  fold: boolean,
  change: (values: Float32Array, path: string, shape: Shape) => Float32Array | undefined,
): WeightsComparison["faults"] {
  const stateDict = new Map(
    [...own.stateDict].map(([path, tensor]): [string, Tensor] => {
      const data = isDType(tensor, "float32") ? change(tensor.data, path, tensor.shape) : undefined;
      return [path, data ? ({ ...tensor, data } as Tensor) : tensor];
    }),
  );
  const { initializers } = decodeOnnx(convert({ ...own, stateDict }, { fold }), { subject: "m.onnx" }).graph;
  return compare(fold, (model) => ({ ...model, graph: { ...model.graph, initializers } }), own).faults;
}

/** Changes every value by a share of the values' size, differently. */
export function moved(values: Float32Array, share: number): Float32Array {
  const size = Math.max(...values.map(Math.abs));
  return values.map((value, at) => value + share * size * Math.sin(7 * at + values.length));
}
