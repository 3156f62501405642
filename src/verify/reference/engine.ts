/**
 * The two inner loops in which a float64 evaluation spends nearly all of its time, and the memory they work in.
 *
 * There are two engines: `scalarEngine`, in plain TypeScript, and `vectorEngine`, in WebAssembly. Both do the same
 * multiplications and additions in the same order, so that their results are equal bit for bit.
 */
export interface Engine {
  /** All memory. Offsets below are elements from its start; a tensor's place is its view's `byteOffset / 8`. */
  readonly memory: Float64Array;
  multiply(product: StripProduct): void;
  correlate3x3(correlation: Correlation3x3): void;
}

/** Makes an engine with memory for a number of elements, all zero. */
export type EngineFactory = (elements: number) => Engine;

/** Rows of the output that one product computes: as many as fit in registers with a tile's columns. */
export const STRIP_ROWS = 4;
/** Columns of the output that are computed at a time. */
export const TILE_COLUMNS = 4;

/**
 * One strip of a matrix product: row r of column p is `bias[r] + Σₖ rows[k][r] · columns[k][p]`, added from k = 0 up.
 * Both factors are packed in the order in which they are read.
 */
export interface StripProduct {
  /** Where the left factor starts: [depth][STRIP_ROWS]. */
  readonly rows: number;
  /** Where the right factor starts: [tiles][depth][TILE_COLUMNS]. */
  readonly columns: number;
  /** Where the biases start: [STRIP_ROWS]. */
  readonly bias: number;
  /** Where row 0 of the output starts. */
  readonly output: number;
  /** Elements from one row of the output to the next. */
  readonly outputStride: number;
  readonly depth: number;
  readonly tiles: number;
}

/** A 3×3 correlation of stride 1 with one kernel over one plane, which brings its own border of padding. */
export interface Correlation3x3 {
  readonly input: number;
  /** Elements from one row of the input to the next; the output has the same number of rows, less two. */
  readonly inputStride: number;
  /** Where the nine weights start, row by row, followed by the bias. */
  readonly weights: number;
  readonly output: number;
  readonly outputStride: number;
  /** Rows of the output. */
  readonly height: number;
  /** Columns of the output, an even number. */
  readonly width: number;
}
