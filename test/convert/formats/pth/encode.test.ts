import { describe, expect, it } from "vitest";
import { decodePth } from "../../../../src/convert/formats/pth/decode.js";
import { encodePth } from "../../../../src/convert/formats/pth/encode.js";
import { storageElement, storageElementName } from "../../../../src/convert/formats/pth/tensor-ref.js";
import { readZipDirectory } from "../../../../src/convert/formats/zip.js";
import { toSource } from "../../../../src/core/bytes.js";
import { DTYPES, type DType, type StateDict, type Tensor } from "../../../../src/core/tensor.js";
import { bytesOf, le } from "./build.js";

const SUBJECT = "weights.pth";

const EVERY: StateDict = new Map<string, Tensor>([
  ...(Object.keys(DTYPES) as DType[]).map((dtype): [string, Tensor] => {
    const data = new DTYPES[dtype](6);
    new Uint8Array(data.buffer).fill(1);
    return [`${dtype}.weight`, { dtype, shape: [1, 2, 3], data }];
  }),
  ["scalar", { dtype: "int64", shape: [], data: BigInt64Array.of(-5n) }],
  ["none", { dtype: "float32", shape: [0, 3], data: new Float32Array() }],
  ["__proto__", { dtype: "float32", shape: [1], data: Float32Array.of(Number.NaN) }],
  ["größe", { dtype: "float32", shape: [1], data: Float32Array.of(-0) }],
]);

/**
 * What torch.save 2.13 pickles for `OrderedDict(a=torch.zeros(2, 3), b=torch.tensor(5))`, without the memo's places for
 * what never occurs again, and with whole tuples and numbers where its pickler has shorter opcodes.
 */
const PICKLE = bytesOf(
  "\x80\x02ccollections\nOrderedDict\nq\x00)R(",
  `X${le(1, 4)}a`,
  "ctorch._utils\n_rebuild_tensor_v2\nq\x01(",
  `(X${le(7, 4)}storageq\x02ctorch\nFloatStorage\nq\x03X${le(1, 4)}0X${le(3, 4)}cpuq\x04J${le(6, 4)}tQ`,
  `J${le(0, 4)}(J${le(2, 4)}J${le(3, 4)}t(J${le(3, 4)}J${le(1, 4)}t\x89h\x00)RtR`,
  `X${le(1, 4)}bh\x01(`,
  `(h\x02ctorch\nLongStorage\nq\x05X${le(1, 4)}1h\x04J${le(1, 4)}tQ`,
  `J${le(0, 4)}(t(t\x89h\x00)RtRu.`,
);

function entriesOf(
  bytes: Uint8Array,
): ReadonlyMap<string, { readonly start: number; readonly size: number }> {
  return readZipDirectory(toSource(bytes), { subject: SUBJECT, part: "the file" });
}

describe("encodePth", () => {
  it("reads back every type and shape bit for bit, in order", () => {
    const { stateDict, container } = decodePth(encodePth(EVERY, { subject: SUBJECT }), { subject: SUBJECT });
    expect(container).toBe("zip");
    expect([...stateDict]).toEqual([...EVERY]);
    expect(Object.is(stateDict.get("größe")?.data[0], -0)).toBe(true);
  });

  it("writes the pickle that torch.save would, opcode for opcode", () => {
    const bytes = encodePth(
      new Map<string, Tensor>([
        ["a", { dtype: "float32", shape: [2, 3], data: new Float32Array(6) }],
        ["b", { dtype: "int64", shape: [], data: BigInt64Array.of(5n) }],
      ]),
      { subject: SUBJECT },
    );
    const { start = 0, size = 0 } = entriesOf(bytes).get("archive/data.pkl") ?? {};
    expect(bytes.subarray(start, start + size)).toEqual(PICKLE);
  });

  it("stores PyTorch's records, each tensor aligned to 64 bytes", () => {
    const bytes = encodePth(EVERY, { subject: SUBJECT });
    const entries = entriesOf(bytes);
    const text = (name: string): string => {
      const { start = 0, size = 0 } = entries.get(`archive/${name}`) ?? {};
      return new TextDecoder().decode(bytes.subarray(start, start + size));
    };
    expect([text("version"), text("byteorder"), text(".storage_alignment"), text(".format_version")]).toEqual(
      ["3\n", "little", "64", "1"],
    );
    expect([...entries.keys()].filter((name) => name.startsWith("archive/data/")).length).toBe(EVERY.size);
    for (const [name, { start }] of entries) expect(start % 64, name).toBe(0);
  });

  it("names storage classes that the reader knows by the same type", () => {
    const pickle = new TextDecoder("latin1").decode(encodePth(EVERY, { subject: SUBJECT }));
    const classes = [...pickle.matchAll(/ctorch\n(\w+Storage)\n/g)].map(([, name]) => name ?? "");
    const dtypes = classes.map((name) => storageElement(storageElementName(`torch.${name}`) ?? "")?.dtype);
    expect(dtypes).toEqual(Object.keys(DTYPES));
  });

  it("writes the same bytes every time", () => {
    const once = encodePth(EVERY, { subject: SUBJECT });
    expect(encodePth(new Map(EVERY), { subject: "other.pth" })).toEqual(once);
  });

  it("refuses data that does not fill its shape", () => {
    const tensor: Tensor = { dtype: "float32", shape: [2], data: Float32Array.of(1) };
    expect(() => encodePth(new Map([["a", tensor]]), { subject: "out.pth" })).toThrow(
      'out.pth: found 1 elements in "a", expected the 2 of its shape [2]; download or copy the file again.',
    );
  });
});
