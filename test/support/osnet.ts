import { lowerToOnnx, type OnnxOptions } from "../../src/convert/export/onnx.js";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../src/convert/formats/onnx/model.js";
import { type Checkpoint, openCheckpoint } from "../../src/convert/open/checkpoint.js";
import type { SourceFile } from "../../src/convert/open/open-file.js";
import type { StateDict, Tensor } from "../../src/core/tensor.js";
import { readFixture } from "../fixtures.js";

/** The recordings' image size. */
export const SMALL = { height: 64, width: 32 } as const;

const checkpoints = new Map<string, Checkpoint>();

/** A family's checkpoint, opened once for all test files of a process: nobody may write to its tensors. */
export function openFixture(family = "osnet_x0_25"): Checkpoint {
  const subject = `${family}.pth`;
  const checkpoint = checkpoints.get(family) ?? openCheckpoint(readFixture(subject), { subject });
  checkpoints.set(family, checkpoint);
  return checkpoint;
}

/** A checkpoint as a reference that is open already; its run in float64 is kept from one verification to the next. */
export function openReference(checkpoint: Checkpoint, name = "w.pth"): SourceFile {
  return { name, bytes: new Uint8Array(), checkpoint };
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
