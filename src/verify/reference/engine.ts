import { type Elements, type Numbers, scalarElements } from "./elements.js";

/**
 * The inner loops in which a float64 evaluation spends nearly all of its time, and the memory they work in.
 *
 * There are two engines: `scalarEngine`, in plain TypeScript, and `vectorEngine`, in WebAssembly. Both do the same
 * multiplications and additions in the same order, so that their results are equal bit for bit, unless the latter adds products that
 * are not rounded (`fusesProducts`).
 */
export interface Engine extends Elements, Products<Float64Array> {
  /** The same memory as float32, for what need not be exact, in half the time; only in WebAssembly. */
  readonly singles?: Singles;
}

/** Sums of products of numbers of one type. */
export interface Products<N extends Numbers = Numbers> {
  /** All memory. Offsets below are elements from its start; a tensor's place is its view's `byteOffset`, in elements. */
  readonly memory: N;
  /** Columns of the output that are computed at a time: two vectors. */
  readonly tileColumns: number;
  /** Computes one strip of a matrix product, from and into `memory`. */
  multiply(product: StripProduct): void;
  /** Computes one plane of a depthwise convolution, from and into `memory`. */
  correlate3x3(correlation: Correlation3x3): void;
  /** Copies rows, whole vectors (half a tile) of each, within `memory`. */
  copyRows(rows: Rows & { readonly toStride: number }): void;
  /** Copies rows, whole tiles of each, as [tiles][rows][tileColumns], within `memory`. */
  pack(rows: Rows): void;
}

/** Sums of products in float32: every product and every sum is rounded. */
export interface Singles extends Products<Float32Array> {
  /**
   * Writes `factor · |x| + constant`.
   *
   * @param target in `memory`, as long as `x`
   * @returns the largest, NaN aside
   */
  magnitudes(x: Float32Array, target: Float32Array, factor: number, constant: number): number;
}

/** Rows in an engine's memory, and where they are copied to. */
interface Rows {
  /** Where the first row starts. */
  readonly from: number;
  /** Where the first element goes. */
  readonly to: number;
  /** How many rows. */
  readonly rows: number;
  /** Elements of each that are copied. */
  readonly columns: number;
  /** Elements from one row to the next. */
  readonly fromStride: number;
}

/** Makes an engine with memory for a number of elements, all zero. */
export type EngineFactory = (elements: number) => Engine;

/** Rows of the output that one product computes: as many as fit in registers with a tile's columns. */
export const STRIP_ROWS = 4;
/** Columns of the output that are computed at a time in float64. */
export const TILE_COLUMNS = 4;

/**
 * One strip of a matrix product: row r of column p is `bias[r] + Σₖ rows[k][r] · columns[k][p]`, added from k = 0 up.
 * Both factors are packed in the order in which they are read.
 */
interface StripProduct {
  /** Where the left factor starts: [depth][STRIP_ROWS]. */
  readonly rows: number;
  /** Where the right factor starts: [tiles][depth][tileColumns]. */
  readonly columns: number;
  /** Where the biases start: [STRIP_ROWS]. */
  readonly bias: number;
  /** Where row 0 of the output starts. */
  readonly output: number;
  /** Elements from one row of the output to the next. */
  readonly outputStride: number;
  /** How many products each sum has (K). */
  readonly depth: number;
  /** How many tiles the strip is wide. */
  readonly tiles: number;
}

/** A 3×3 correlation of stride 1 with one kernel over one plane, which brings its own border of padding. */
interface Correlation3x3 {
  /** Where the padded plane starts. */
  readonly input: number;
  /** Elements from one row of the input to the next; the output has the same number of rows, less two. */
  readonly inputStride: number;
  /** Where the nine weights start, row by row, followed by the bias. */
  readonly weights: number;
  /** Where row 0 of the output starts. */
  readonly output: number;
  /** Elements from one row of the output to the next. */
  readonly outputStride: number;
  /** Rows of the output. */
  readonly height: number;
  /** Columns of the output, whole vectors. */
  readonly width: number;
}

/** The engine in plain TypeScript: runs everywhere, and is what the WebAssembly one is tested against. */
export function scalarEngine(elements: number): Engine {
  const memory = new Float64Array(elements);
  return {
    ...scalarElements,
    memory,
    tileColumns: TILE_COLUMNS,
    multiply: (product) => multiply(memory, product),
    correlate3x3: (correlation) => correlate3x3(memory, correlation),
    copyRows({ from, to, rows, columns, fromStride, toStride }) {
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++)
          memory[to + row * toStride + column] = memory[from + row * fromStride + column] as number;
    },
    pack({ from, to, rows, columns, fromStride }) {
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++) {
          const tile = Math.floor(column / TILE_COLUMNS);
          const place = (tile * rows + row) * TILE_COLUMNS + (column % TILE_COLUMNS);
          memory[to + place] = memory[from + row * fromStride + column] as number;
        }
    },
  };
}

/** Two rows by four columns at a time: eight sums, which with their six factors fill the sixteen registers. */
function multiply(memory: Float64Array, product: StripProduct): void {
  for (let tile = 0; tile < product.tiles; tile++) {
    multiplyRowPair(memory, product, tile, 0);
    multiplyRowPair(memory, product, tile, 2);
  }
}

function multiplyRowPair(memory: Float64Array, product: StripProduct, tile: number, row: 0 | 2): void {
  const { depth } = product;
  let left = product.rows + row;
  let right = product.columns + 4 * depth * tile;
  const bias0 = memory[product.bias + row] as number;
  const bias1 = memory[product.bias + row + 1] as number;
  let a0 = bias0;
  let a1 = bias0;
  let a2 = bias0;
  let a3 = bias0;
  let b0 = bias1;
  let b1 = bias1;
  let b2 = bias1;
  let b3 = bias1;
  for (let k = 0; k < depth; k++) {
    const w0 = memory[left] as number;
    const w1 = memory[left + 1] as number;
    const x0 = memory[right] as number;
    const x1 = memory[right + 1] as number;
    const x2 = memory[right + 2] as number;
    const x3 = memory[right + 3] as number;
    a0 += w0 * x0;
    a1 += w0 * x1;
    a2 += w0 * x2;
    a3 += w0 * x3;
    b0 += w1 * x0;
    b1 += w1 * x1;
    b2 += w1 * x2;
    b3 += w1 * x3;
    left += 4;
    right += 4;
  }
  const upper = product.output + row * product.outputStride + 4 * tile;
  memory[upper] = a0;
  memory[upper + 1] = a1;
  memory[upper + 2] = a2;
  memory[upper + 3] = a3;
  const lower = upper + product.outputStride;
  memory[lower] = b0;
  memory[lower + 1] = b1;
  memory[lower + 2] = b2;
  memory[lower + 3] = b3;
}

function correlate3x3(memory: Float64Array, correlation: Correlation3x3): void {
  const { weights, inputStride } = correlation;
  const weight = memory.slice(weights, weights + 9);
  const bias = memory[weights + 9] as number;
  for (let y = 0; y < correlation.height; y++) {
    const input = correlation.input + y * inputStride;
    const output = correlation.output + y * correlation.outputStride;
    for (let x = 0; x < correlation.width; x++) {
      let sum = bias;
      for (let row = 0; row < 3; row++) {
        const at = input + x + row * inputStride;
        sum += (weight[3 * row] as number) * (memory[at] as number);
        sum += (weight[3 * row + 1] as number) * (memory[at + 1] as number);
        sum += (weight[3 * row + 2] as number) * (memory[at + 2] as number);
      }
      memory[output + x] = sum;
    }
  }
}
