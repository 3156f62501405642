/**
 * The .npy format, version 1.0 to 3.0 (numpy.lib.format): magic, a Python literal that gives dtype, order and shape,
 * then the elements. Read through npyjs.
 *
 * Accepted: little-endian or single-byte bool, int8–int64, uint8, float16, float32, float64, C or Fortran order.
 * Refused: object arrays (they are pickles), strings, complex numbers, big-endian data, data that does not fill the
 * shape to the byte.
 */
import { parse } from "npyjs";
import { InputError } from "../../../errors.js";
import { DTYPES, type DType, elementCount, formatShape, type Shape, type Tensor } from "../../../tensor.js";

/** numpy's type codes, without their byte order, and the dtypes they are. */
const NPY_DTYPES: Readonly<Record<string, DType>> = {
  f8: "float64",
  f4: "float32",
  f2: "float16",
  i8: "int64",
  i4: "int32",
  i2: "int16",
  i1: "int8",
  u1: "uint8",
  b1: "bool",
};

/**
 * Decodes one .npy array into a row-major tensor.
 *
 * @param subject what messages call the array
 * @throws InputError (`format`, `unsupported`)
 */
export function decodeNpy(bytes: Uint8Array, subject: string): Tensor {
  const { data, shape, dtype: code, fortranOrder } = parseHeaderAndData(bytes, subject);
  const dtype = Object.hasOwn(NPY_DTYPES, code) ? NPY_DTYPES[code] : undefined;
  if (dtype === undefined) throw unsupported(subject, `elements of numpy type ${code}`);
  const count = elementCount(shape);
  if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0) || count !== data.length)
    throw malformed(subject, `${data.length} elements for the shape ${formatShape(shape)}`);
  // npyjs gives bools as JavaScript booleans; every other dtype arrives in the array that the dtype table names.
  const elements = dtype === "bool" ? Uint8Array.from(data as ArrayLike<number>) : data;
  const ordered = fortranOrder ? fromFortranOrder(elements as ArrayLike<number>, shape, dtype) : elements;
  return { dtype, shape, data: ordered } as Tensor;
}

interface ParsedNpy {
  readonly data: ArrayLike<unknown>;
  readonly shape: Shape;
  readonly dtype: string;
  readonly fortranOrder: boolean;
}

function parseHeaderAndData(bytes: Uint8Array, subject: string): ParsedNpy {
  // npyjs wants an ArrayBuffer that starts at the array, and reads float data in place, which needs the alignment.
  const buffer = bytes.slice().buffer;
  try {
    const { data, shape, dtype, fortranOrder } = parse(buffer, { convertFloat16: false });
    // npyjs types its data as a view without elements; it is always a typed array, or an array of booleans.
    return { data: data as unknown as ArrayLike<unknown>, shape, dtype, fortranOrder };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const dtype = /^Unsupported dtype: (.*)$/.exec(reason)?.[1];
    if (dtype !== undefined) throw unsupported(subject, `elements of numpy type ${dtype}`);
    throw malformed(subject, "bytes that do not parse as .npy", cause);
  }
}

function fromFortranOrder(data: ArrayLike<number>, shape: Shape, dtype: DType): Tensor["data"] {
  const ordered = new DTYPES[dtype](data.length) as Float64Array;
  const strides: number[] = [];
  shape.reduce((stride, size) => {
    strides.push(stride);
    return stride * size;
  }, 1);
  const index = shape.map(() => 0);
  for (let position = 0; position < data.length; position++) {
    const source = index.reduce((sum, at, axis) => sum + at * (strides[axis] ?? 0), 0);
    ordered[position] = data[source] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const next = (index[axis] ?? 0) + 1;
      index[axis] = next < (shape[axis] ?? 0) ? next : 0;
      if (index[axis] !== 0) break;
    }
  }
  return ordered;
}

function malformed(subject: string, found: string, cause?: unknown): InputError {
  return new InputError(
    {
      code: "format",
      subject,
      found,
      expected: "a complete numpy array",
      remedy: "save it again with numpy.save or numpy.savez",
    },
    { cause },
  );
}

function unsupported(subject: string, found: string): InputError {
  return new InputError({
    code: "unsupported",
    subject,
    found,
    expected: "little-endian numbers of up to 64 bits",
    remedy: "convert it, for instance with array.astype('float32')",
  });
}
