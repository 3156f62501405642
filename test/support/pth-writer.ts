import type { DType, StateDict } from "../../src/core/tensor.js";
import { checkpoint, dict, tensor } from "../convert/formats/pth/build.js";

/** What PyTorch calls the storage of each element type that a network is saved in. */
const STORAGES: Readonly<Partial<Record<DType, string>>> = {
  float64: "Double",
  float32: "Float",
  float16: "Half",
  int64: "Long",
};

/** The file that `torch.save(state_dict)` writes: a zip of one pickle and a storage for each tensor. */
export function encodePth(stateDict: StateDict): Uint8Array {
  const { entries, storages } = describe(stateDict);
  return checkpoint(dict(entries), storages);
}

/** What a training script writes: the state dict, and one tensor of `bytes` zeros that its optimizer keeps. */
export function encodeTraining(stateDict: StateDict, bytes: number, name = "state_dict"): Uint8Array {
  const { entries, storages } = describe(stateDict);
  const exp_avg = tensor({ key: "optimizer", numel: bytes / 4, shape: [bytes / 4] });
  return checkpoint(dict({ optimizer: dict({ exp_avg }), [name]: dict(entries) }), {
    ...storages,
    optimizer: new Uint8Array(bytes),
  });
}

function describe(stateDict: StateDict) {
  const entries: Record<string, string> = {};
  const storages: Record<string, Uint8Array> = {};
  for (const [path, { dtype, shape, data }] of stateDict) {
    const type = STORAGES[dtype];
    if (type === undefined) throw new Error(`no storage for ${dtype}`);
    const key = String(Object.keys(storages).length);
    entries[path] = tensor({ type, key, numel: data.length, shape, stride: rowMajor(shape) });
    storages[key] = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
  return { entries, storages };
}

function rowMajor(shape: readonly number[]): readonly number[] {
  return shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
}
