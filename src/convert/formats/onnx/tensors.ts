import { DTYPES, type DType, elementCount, formatShape, type Tensor } from "../../../core/tensor.js";
import { countCopy, externalElements, isExternal, type OnnxSource } from "./external.js";
import { int64ToBigInt, int64ToNumber, refusal } from "./limits.js";
import { codeToDType, dtypeToCode, typedField } from "./model.js";
import type { Int64, ITensorProto } from "./proto.js";

/**
 * TensorProto: dims, data_type, and the elements either in `raw_data` (row-major, little-endian, bool one byte each)
 * or in the repeated field of their type. Writing always uses `raw_data`. Raw bytes are taken in the machine's order:
 * JavaScript engines only run on little-endian machines.
 *
 * Refused: element types outside `DType`, segmented tensors, sizes that do not fit the shape. Elements may be in another
 * file (external.ts).
 */

/** A tensor as a TensorProto whose raw data is a view of the tensor's own memory. */
export function encodeTensor(name: string, { dtype, shape, data }: Tensor): ITensorProto {
  return {
    dims: [...shape],
    dataType: dtypeToCode(dtype),
    name,
    rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  };
}

/**
 * The tensor of a TensorProto, sharing the file's memory where alignment allows. All sizes are compared before
 * anything is allocated.
 *
 * @throws InputError (`format`, `unsupported`) naming the tensor.
 */
export function decodeTensor(proto: ITensorProto, file: OnnxSource): Tensor {
  const subject = `tensor ${JSON.stringify(proto.name ?? "")} of ${file.subject}`;
  const dtype = codeToDType(proto.dataType ?? 0);
  if (!dtype)
    throw refusal(
      subject,
      `element type ${proto.dataType ?? 0}`,
      "a floating-point, integer or boolean type",
      "export the model in float32",
      "unsupported",
    );
  const shape = (proto.dims ?? []).map((dimension) => int64ToNumber(dimension));
  const count = elementCount(shape);
  if (shape.some((dimension) => dimension < 0) || proto.segment)
    throw refusal(
      subject,
      proto.segment ? "a segment" : `shape ${formatShape(shape)}`,
      "a whole tensor of non-negative size",
      "export the model again",
    );
  const described = `${subject}, shape ${formatShape(shape)}`;
  if (!isExternal(proto)) return { dtype, shape, data: elements(proto, dtype, count, described) };
  const bytes = externalElements(proto, count * DTYPES[dtype].BYTES_PER_ELEMENT, described, file);
  if (!isAligned(bytes, dtype)) countCopy(file, bytes.length);
  return { dtype, shape, data: rawElements(bytes, dtype, count) };
}

function elements(proto: ITensorProto, dtype: DType, count: number, subject: string): Tensor["data"] {
  const array = DTYPES[dtype];
  const typed = proto[typedField(dtype)] ?? [];
  // Generated messages inherit an empty default; only an own property was in the file.
  const raw = Object.hasOwn(proto, "rawData") ? proto.rawData : undefined;
  if (raw && typed.length === 0) {
    const { BYTES_PER_ELEMENT: size } = array;
    expectSize(subject, "bytes", raw.byteLength, count * size);
    return rawElements(raw, dtype, count);
  }
  expectSize(subject, "elements", typed.length + (raw?.byteLength ?? 0), count);
  if (dtype === "int64") return BigInt64Array.from(typed as Int64[], int64ToBigInt);
  const data = new (array as typeof DTYPES.float64)(count);
  data.set(typed as number[]);
  return data;
}

function rawElements(raw: Uint8Array, dtype: DType, count: number): Tensor["data"] {
  const array = DTYPES[dtype];
  const aligned = isAligned(raw, dtype) ? raw : new Uint8Array(raw);
  return new array(aligned.buffer, aligned.byteOffset, count);
}

/** Whether a typed array of elements can be a view over bytes. */
function isAligned({ byteOffset }: Uint8Array, dtype: DType): boolean {
  return byteOffset % DTYPES[dtype].BYTES_PER_ELEMENT === 0;
}

function expectSize(subject: string, unit: string, found: number, expected: number): void {
  if (found !== expected)
    throw refusal(subject, `${found} ${unit}`, `${expected}`, "obtain an intact copy of the file");
}
