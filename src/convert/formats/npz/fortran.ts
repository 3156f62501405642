import { DTYPES, type Tensor } from "../../../tensor.js";

/** The same array row-major, from elements in Fortran order, whose first index runs fastest. */
export function fromFortranOrder({ dtype, shape, data }: Tensor): Tensor {
  const ordered = new DTYPES[dtype](data.length);
  const strides: number[] = [];
  shape.reduce((stride, size) => {
    strides.push(stride);
    return stride * size;
  }, 1);
  const index = shape.map(() => 0);
  for (let position = 0; position < data.length; position++) {
    const source = index.reduce((sum, at, axis) => sum + at * (strides[axis] ?? 0), 0);
    // Both are arrays of one kind; TypeScript cannot know that their elements match.
    (ordered as Float64Array)[position] = data[source] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const next = (index[axis] ?? 0) + 1;
      index[axis] = next < (shape[axis] ?? 0) ? next : 0;
      if (index[axis] !== 0) break;
    }
  }
  return { dtype, shape, data: ordered };
}
