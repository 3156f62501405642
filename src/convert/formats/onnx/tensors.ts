import { type Bytes, bytesOf, toSource } from "../../../core/bytes.js";
import { DTYPES, type DType, elementCount, formatShape, type Tensor } from "../../../core/tensor.js";
import type { AbsentBytes } from "../refusals.js";
import { int64ToBigInt, int64ToNumber, refusal } from "./limits.js";
import type { Int64, ITensorProto } from "./messages.js";
import { codeToDType, dtypeToCode, typedField } from "./model.js";

/**
 * TensorProto: dims, data_type, and the elements either in `raw_data` (row-major, little-endian, bool one byte each)
 * or in the repeated field of their type. Writing always uses `raw_data`. Raw bytes are taken in the machine's order:
 * JavaScript engines only run on little-endian machines.
 *
 * Refused: element types outside `DType`, segmented tensors, sizes that do not fit the shape. Elements may be in another
 * file.
 */

/** A tensor as a TensorProto whose raw data is a view of the tensor's own memory. */
export function encodeTensor(name: string, { dtype, shape, data }: Tensor): ITensorProto {
  return {
    dims: [...shape],
    dataType: dtypeToCode(dtype),
    name,
    rawData: bytesOf(data),
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
  if (!dtype) {
    const code = proto.dataType ?? 0;
    throw refusal(
      subject,
      `element type ${OTHER_TYPES.get(code) ?? code}`,
      "a floating-point or boolean type, or an integer type of networks in float or in 8 bits",
      QUANTISED_TYPES.has(code)
        ? "use the float model that it was quantised from"
        : "export the model in float32",
      "unsupported",
    );
  }
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

/** TensorProto.DataType codes of types outside `DType`. */
const OTHER_TYPES: ReadonlyMap<number, string> = new Map([
  [4, "uint16"],
  [8, "string"],
  [12, "uint32"],
  [13, "uint64"],
  [14, "complex64"],
  [15, "complex128"],
  [17, "float8e4m3fn"],
  [18, "float8e4m3fnuz"],
  [19, "float8e5m2"],
  [20, "float8e5m2fnuz"],
  [21, "uint4"],
  [22, "int4"],
  [23, "float4e2m1"],
]);
const QUANTISED_TYPES: ReadonlySet<number> = new Set([4, 17, 18, 19, 20, 21, 22, 23]);

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

/**
 * External data: tensors whose elements are in a file beside the model's
 * (https://github.com/onnx/onnx/blob/main/docs/ExternalData.md). The entries are `location`, a path relative to the
 * model's folder, and `offset` and `length` in bytes, which default to the whole file.
 *
 * Refused: paths that leave the folder on any system (absolute ones, drive letters, `..`, backslashes), ranges beyond
 * the file.
 */

/** A model file's name in messages, and access to the files beside it. */
export interface OnnxSource {
  /** Name of the file in messages. */
  readonly subject: string;
  /** The bytes of a file by its path relative to the model's folder; undefined if there is none. */
  readonly sidecar?: SidecarReader;
  /** The bytes of a tensor whose file is missing, if that is not an error. */
  readonly absent?: AbsentBytes;
  /** Bytes of the model and of loaded files beside it, bytes copied from them, and bytes read from other files. */
  readonly copies?: { held: number; copied: number; read: number };
}

/** Copies may take the same multiple of the files' length as a checkpoint's (`createBudget`). */
const FILE_MULTIPLE = 4;

/**
 * Counts a copy of elements at an offset that typed arrays do not support: any number of tensors may share one range of
 * a file.
 *
 * @throws InputError (`unsupported`) for more than four times the files
 */
function countCopy({ subject, copies }: OnnxSource, bytes: number): void {
  if (!copies) return;
  copies.copied += bytes;
  const limit = FILE_MULTIPLE * copies.held;
  if (copies.copied > limit)
    throw refusal(
      subject,
      `copies of tensors, which take ${copies.copied} bytes`,
      `at most ${limit} for files of ${copies.held}`,
      "save the model again with each tensor stored separately",
      "unsupported",
    );
}

/**
 * Reads a file beside a model by its relative path; undefined if there is none. From a source, only the tensors' ranges
 * are read.
 */
export type SidecarReader = (name: string) => Bytes | undefined;

/** Limit on tensors read from files that are not loaded completely; the largest OSNet has 20 MB. */
const MAX_READ_BYTES = 2 ** 30;

function countRead({ subject, copies }: OnnxSource, bytes: number): void {
  if (!copies) return;
  copies.read += bytes;
  if (copies.read > MAX_READ_BYTES)
    throw refusal(
      subject,
      `tensors of ${copies.read} bytes in the files beside it`,
      `at most ${MAX_READ_BYTES}`,
      "use an OSNet model",
      "unsupported",
    );
}

/** TensorProto.DataLocation: the elements are in another file. */
const EXTERNAL = 1;

function isExternal(proto: ITensorProto): boolean {
  return proto.dataLocation === EXTERNAL;
}

/** A tensor's elements in another file, as a view. */
function externalElements(
  proto: ITensorProto,
  expectedBytes: number,
  subject: string,
  source: OnnxSource,
): Uint8Array {
  const { subject: file, sidecar, absent } = source;
  const entries = new Map(proto.externalData?.map(({ key, value }) => [key ?? "", value ?? ""]));
  // `./m.data` is the same file, for onnx and onnxruntime too.
  const location = (entries.get("location") ?? "").replace(/^(\.\/+)+/, "");
  if (!isInside(location))
    throw refusal(
      subject,
      `its elements in ${JSON.stringify(location)}`,
      "a file in the model's folder",
      "do not use a model that reads files outside its folder",
      "unsupported",
    );
  if (!sidecar && !absent)
    throw refusal(
      subject,
      `its elements in ${JSON.stringify(location)}`,
      "all weights inside the ONNX file, or access to the files beside it",
      "pass the path of the model, or save it as one file",
      "unsupported",
    );
  const found = sidecar?.(location);
  if (!found && absent) return absent(expectedBytes, subject);
  if (!found)
    throw refusal(
      file,
      `no ${JSON.stringify(location)} beside it`,
      "the file with its weights",
      `put ${location} into the same folder`,
      "file",
    );
  const bytes = toSource(found);
  const offset = wholeNumber(entries, "offset", subject) ?? 0;
  const given = wholeNumber(entries, "length", subject);
  const length = given ?? bytes.length - offset;
  if (given === undefined && length > expectedBytes)
    throw refusal(
      subject,
      `no length of its elements in ${location}: onnxruntime would read ${expectedBytes} bytes, and onnx's Python package all ${length} to the end of the file`,
      `the length ${expectedBytes}`,
      "state the length of each tensor, or export the model again",
      "unsupported",
    );
  if (!(offset + length <= bytes.length) || length !== expectedBytes)
    throw refusal(
      subject,
      `${entries.get("length") ?? length} bytes from byte ${entries.get("offset") ?? 0} of ${location}, which has ${bytes.length}`,
      `${expectedBytes} bytes inside it`,
      "obtain intact copies of both files",
    );
  if (!bytes.loaded) countRead(source, length);
  return bytes.read(offset, offset + length);
}

/** A relative path with forward slashes that stays below its folder. */
function isInside(location: string): boolean {
  if (location.length > 1024 || /[\\:\0]/.test(location)) return false;
  return location.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

/** A number of bytes. C++ reads `0x10` as 0 or as 16, and Python not at all, so only decimal digits are accepted. */
function wholeNumber(
  entries: ReadonlyMap<string, string>,
  key: "offset" | "length",
  subject: string,
): number | undefined {
  const text = entries.get(key);
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw refusal(
    subject,
    `the ${key} ${JSON.stringify(text.slice(0, 40))}${/^0x/i.test(text) ? ", a hexadecimal number" : ""}`,
    "a number of bytes in at most 15 decimal digits",
    "save the model again with the onnx package",
  );
}
