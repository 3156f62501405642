import { lowerToOnnx, type OnnxOptions } from "../../src/convert/export/onnx.js";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../src/convert/formats/onnx/model.js";
import { type Checkpoint, openCheckpoint } from "../../src/convert/import/checkpoint.js";
import type { StateDict, Tensor } from "../../src/core/tensor.js";
import { readFixture } from "../fixtures.js";

/** The recordings' image size. */
export const SMALL = { height: 64, width: 32 } as const;

/** A family's checkpoint, opened. */
export function openFixture(family = "osnet_x0_25"): Checkpoint {
  const subject = `${family}.pth`;
  return openCheckpoint(readFixture(subject), { subject });
}

/** An ONNX file of a checkpoint, for images of 64×32 unless the options say otherwise. */
export function convert({ graph, stateDict }: Checkpoint, options: OnnxOptions = {}): Uint8Array {
  return encodeOnnx(lowerToOnnx(graph, stateDict, { size: SMALL, ...options }));
}

/** An ONNX file with something changed in it. */
export function rewriteOnnx(bytes: Uint8Array, change: (model: OnnxModel) => OnnxModel): Uint8Array {
  return encodeOnnx(change(decodeOnnx(bytes, { subject: "model.onnx" })));
}

/** A state dict with one tensor exchanged; the tensor must be there. */
export function withTensor(
  stateDict: StateDict,
  path: string,
  change: (tensor: Tensor) => Tensor,
): StateDict {
  const tensor = stateDict.get(path);
  if (!tensor) throw new Error(`no ${path}`);
  return new Map(stateDict).set(path, change(tensor));
}

/** The same tensor with other values at some places. */
export function withValues(
  { shape, data }: Tensor,
  values: Readonly<Record<number, number>>,
): Tensor<"float32"> {
  const changed = Float32Array.from(data as Float32Array);
  for (const [index, value] of Object.entries(values)) changed[Number(index)] = value;
  return { dtype: "float32", shape, data: changed };
}
