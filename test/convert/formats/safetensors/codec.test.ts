import { describe, expect, it } from "vitest";
import { decodeSafetensors, encodeSafetensors } from "../../../../src/convert/formats/safetensors.js";
import { DTYPES, type DType, type StateDict, type Tensor } from "../../../../src/core/tensor.js";
import { safetensors } from "./build.js";

const SUBJECT = "weights.safetensors";

/** Two elements of every type, and shapes that are easily got wrong. */
const EVERY: StateDict = new Map<string, Tensor>([
  ...(Object.keys(DTYPES) as DType[]).map((dtype): [string, Tensor] => {
    const data = new DTYPES[dtype](2);
    new Uint8Array(data.buffer).fill(1);
    return [dtype, { dtype, shape: [2], data }];
  }),
  ["scalar", { dtype: "float32", shape: [], data: Float32Array.of(-0) }],
  ["none", { dtype: "float32", shape: [0, 3], data: new Float32Array() }],
  ["__proto__", { dtype: "float32", shape: [1], data: Float32Array.of(7) }],
  ["\u{1f600}", { dtype: "float32", shape: [1], data: Float32Array.of(8) }],
  ["\uffee", { dtype: "float32", shape: [1], data: Float32Array.of(9) }],
]);

/** The header that safetensors 0.8.0 (`safetensors.torch.save`) writes for the same tensors and metadata. */
const OFFICIAL = `{"__metadata__":{"format":"pt"},"int64":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"float64":{"dtype":"F64","shape":[2],"data_offsets":[16,32]},"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[32,36]},"float32":{"dtype":"F32","shape":[2],"data_offsets":[36,44]},"none":{"dtype":"F32","shape":[0,3],"data_offsets":[44,44]},"scalar":{"dtype":"F32","shape":[],"data_offsets":[44,48]},"\uffee":{"dtype":"F32","shape":[1],"data_offsets":[48,52]},"\u{1f600}":{"dtype":"F32","shape":[1],"data_offsets":[52,56]},"int32":{"dtype":"I32","shape":[2],"data_offsets":[56,64]},"bfloat16":{"dtype":"BF16","shape":[2],"data_offsets":[64,68]},"float16":{"dtype":"F16","shape":[2],"data_offsets":[68,72]},"int16":{"dtype":"I16","shape":[2],"data_offsets":[72,76]},"int8":{"dtype":"I8","shape":[2],"data_offsets":[76,78]},"uint8":{"dtype":"U8","shape":[2],"data_offsets":[78,80]},"bool":{"dtype":"BOOL","shape":[2],"data_offsets":[80,82]}}`;

describe("safetensors", () => {
  it("writes the header of the official library, padded to 8 bytes", () => {
    const bytes = encodeSafetensors(EVERY, { subject: SUBJECT, metadata: new Map([["format", "pt"]]) });
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    expect(length % 8).toBe(0);
    expect(new TextDecoder().decode(bytes.subarray(8, 8 + length)).trimEnd()).toBe(OFFICIAL);
    expect(bytes.length).toBe(8 + length + 82);
  });

  it("reads back every type and shape bit for bit", () => {
    const bytes = encodeSafetensors(EVERY, { subject: SUBJECT, metadata: new Map([["a", "b"]]) });
    const { stateDict, metadata } = decodeSafetensors(bytes, SUBJECT);
    expect([...metadata]).toEqual([["a", "b"]]);
    expect(new Map([...stateDict].toSorted())).toEqual(new Map([...EVERY].toSorted()));
    expect(Object.is(stateDict.get("scalar")?.data[0], -0)).toBe(true);
  });

  it("writes the same bytes whatever the order of tensors and metadata", () => {
    const write = (reversed: boolean) => {
      const tensors = [...EVERY];
      const metadata: [string, string][] = [
        ["b", "1"],
        ["a", "2"],
      ];
      return encodeSafetensors(new Map(reversed ? tensors.reverse() : tensors), {
        subject: SUBJECT,
        metadata: new Map(reversed ? metadata.reverse() : metadata),
      });
    };
    expect(write(true)).toEqual(write(false));
  });

  it("shares the file's bytes where they are aligned, and copies where not", () => {
    const bytes = encodeSafetensors(EVERY, { subject: SUBJECT });
    const moved = new Uint8Array(bytes.length + 1);
    moved.set(bytes, 1);
    expect(decodeSafetensors(bytes, SUBJECT).stateDict.get("float64")?.data.buffer).toBe(bytes.buffer);
    const misaligned = decodeSafetensors(moved.subarray(1), SUBJECT).stateDict;
    expect(misaligned).toEqual(decodeSafetensors(bytes, SUBJECT).stateDict);
  });

  it("reads headers as others write them: any field order, white space, escapes", () => {
    const bytes = safetensors(
      ` { "\\u0061\\n" : { "data_offsets" : [ 0 , 2 ] , "shape":[2],\n"dtype":"U8" } , "__metadata__":{}} \t`,
      Uint8Array.of(1, 2),
    );
    expect([...decodeSafetensors(bytes, SUBJECT).stateDict]).toEqual([
      ["a\n", { dtype: "uint8", shape: [2], data: Uint8Array.of(1, 2) }],
    ]);
  });

  it("lists tensors in the order of their data", () => {
    const bytes = safetensors(
      `{"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`,
      Uint8Array.of(1, 2),
    );
    expect([...decodeSafetensors(bytes, SUBJECT).stateDict.keys()]).toEqual(["a", "b"]);
  });

  it("reads a file without tensors", () => {
    expect(decodeSafetensors(safetensors("{}"), SUBJECT).stateDict.size).toBe(0);
  });
});
