import type { Tensor } from "../../../core/tensor.js";
import { dtypeToCode } from "./model.js";
import type { ITensorProto } from "./proto.js";
import { encodeTensor } from "./tensors.js";

/**
 * Writing external data (external.ts reads it): the elements of large tensors follow each other in one file, in the order
 * of the initializers. onnx.proto3: "Offset values SHOULD be multiples 4096 (page size) to enable mmap support."
 */

/** A page of memory. */
const ALIGNMENT = 4096;

/** Smaller tensors stay in the model, as in onnx.save_model: runtimes read shapes and axes while they load it. */
const LEAST_BYTES = 1024;

/** A file beside a model, and how the model writes the tensors that it holds. */
export interface Sidecar {
  readonly bytes: Uint8Array;
  readonly encodeTensor: (name: string, tensor: Tensor) => ITensorProto;
}

/**
 * Lays the large ones of some tensors out in a file of their own.
 *
 * @param location the file's path, relative to the model's folder
 */
export function layOutSidecar(initializers: ReadonlyMap<string, Tensor>, location: string): Sidecar {
  const offsets = new Map<string, number>();
  let end = 0;
  for (const [name, { data }] of initializers) {
    if (data.byteLength < LEAST_BYTES) continue;
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    offsets.set(name, offset);
    end = offset + data.byteLength;
  }
  const bytes = new Uint8Array(end);
  for (const [name, offset] of offsets) bytes.set(rawBytes(initializers.get(name)), offset);
  return {
    bytes,
    encodeTensor(name, tensor) {
      const offset = offsets.get(name);
      if (offset === undefined) return encodeTensor(name, tensor);
      const entries = { location, offset: String(offset), length: String(tensor.data.byteLength) };
      return {
        dims: [...tensor.shape],
        dataType: dtypeToCode(tensor.dtype),
        name,
        externalData: Object.entries(entries).map(([key, value]) => ({ key, value })),
        dataLocation: 1,
      };
    },
  };
}

function rawBytes(tensor: Tensor | undefined): Uint8Array {
  const data = tensor?.data;
  return data ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array();
}
