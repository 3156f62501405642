import {
  advance,
  assemble,
  type Code,
  countDown,
  f64x2,
  i32,
  local,
  repeatWhile,
  v128,
} from "./assembler.js";
import { elementLoops } from "./element-loops.js";

/**
 * The engine's loops as a WebAssembly module, two float64 lanes to a vector. Addresses, strides and counts are
 * i32; all strides are in bytes. Additions run in the order that `engine.ts` prescribes.
 */
export function assembleLoops(): Uint8Array<ArrayBuffer> {
  return assemble([
    { name: "multiply", parameters: 7, integers: 2, vectors: 11, body: multiply() },
    { name: "correlate3x3", parameters: 7, integers: 4, vectors: 11, body: correlate3x3() },
    { name: "copyRows", parameters: 6, integers: 3, vectors: 0, body: copyRows() },
    { name: "pack", parameters: 6, integers: 3, vectors: 0, body: pack() },
    ...elementLoops(),
  ]);
}

/** Bytes of a float64 and of a vector of two. */
const SCALAR = 8;
const VECTOR = 16;

/**
 * `multiply(rows, columns, bias, output, outputStride, depth, tiles)`: 4 rows by 2 vectors of sums stay in registers
 * (of the sixteen, four others hold two columns, a weight and a product). 2×4 is as fast; 4×3, 6×2 and 8×1 are slower.
 */
function multiply(): Code {
  const [rows, columns, bias, output, outputStride, depth, tiles, left, k] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8,
  ] as const;
  const sum = (row: number, half: number): number => 9 + 2 * row + half;
  const column = (half: number): number => 17 + half;
  const weight = 19;

  const start = ROWS.map((row) =>
    HALVES.map((half) => [local.get(bias), v128.load64Splat(SCALAR * row), local.set(sum(row, half))]),
  );
  const accumulate = repeatWhile([
    HALVES.map((half) => [local.get(columns), v128.load(VECTOR * half), local.set(column(half))]),
    ROWS.map((row) => [
      [local.get(left), v128.load64Splat(SCALAR * row), local.set(weight)],
      HALVES.map((half) => [
        [local.get(sum(row, half)), local.get(weight), local.get(column(half)), f64x2.mul, f64x2.add],
        local.set(sum(row, half)),
      ]),
    ]),
    advance(left, 4 * SCALAR),
    advance(columns, 2 * VECTOR),
    countDown(k),
  ]);
  // `left` is done with: it now walks down the rows of the output.
  const store = [
    [local.get(output), local.set(left)],
    ROWS.map((row) => [
      HALVES.map((half) => [local.get(left), local.get(sum(row, half)), v128.store(VECTOR * half)]),
      [local.get(left), local.get(outputStride), i32.add, local.set(left)],
    ]),
  ];
  return repeatWhile([
    start,
    [local.get(rows), local.set(left), local.get(depth), local.set(k)],
    accumulate,
    store,
    advance(output, 2 * VECTOR),
    countDown(tiles),
  ]);
}

/** `copyRows(from, to, rows, pairs, fromStride, toStride)`: `pairs` vectors of each row. */
function copyRows(): Code {
  const [from, to, rows, pairs, fromStride, toStride, source, target, left] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8,
  ] as const;
  return repeatWhile([
    [local.get(from), local.set(source), local.get(to), local.set(target), local.get(pairs), local.set(left)],
    repeatWhile([
      [local.get(target), local.get(source), v128.load(0), v128.store(0)],
      advance(source, VECTOR),
      advance(target, VECTOR),
      countDown(left),
    ]),
    [local.get(from), local.get(fromStride), i32.add, local.set(from)],
    [local.get(to), local.get(toStride), i32.add, local.set(to)],
    countDown(rows),
  ]);
}

/**
 * `pack(from, to, rows, tiles, fromStride, tileSize)`: rows of tiles of four columns as [tiles][rows][4], each tile `tileSize` bytes behind the
 * one before.
 */
function pack(): Code {
  const [from, to, rows, tiles, fromStride, tileSize, source, target, left] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8,
  ] as const;
  return repeatWhile([
    [local.get(from), local.set(source), local.get(to), local.set(target), local.get(tiles), local.set(left)],
    repeatWhile([
      HALVES.map((half) => [
        local.get(target),
        local.get(source),
        v128.load(VECTOR * half),
        v128.store(VECTOR * half),
      ]),
      advance(source, 2 * VECTOR),
      [local.get(target), local.get(tileSize), i32.add, local.set(target)],
      countDown(left),
    ]),
    [local.get(from), local.get(fromStride), i32.add, local.set(from)],
    advance(to, 2 * VECTOR),
    countDown(rows),
  ]);
}

const ROWS = [0, 1, 2, 3] as const;
const HALVES = [0, 1] as const;

/**
 * `correlate3x3(input, inputStride, weights, output, outputStride, height, pairs)`: the nine weights and the bias
 * stay in registers, and every vector of two outputs reads its neighbourhood afresh, from the first-level cache.
 */
function correlate3x3(): Code {
  const [input, inputStride, weights, output, outputStride, height, pairs] = [0, 1, 2, 3, 4, 5, 6] as const;
  const [source, row, target, left] = [7, 8, 9, 10] as const;
  const weight = (tap: number): number => 11 + tap;
  const bias = 20;
  const sum = 21;

  const taps = [0, 1, 2].map((y) => [
    [0, 1, 2].map((x) => [
      [
        local.get(sum),
        local.get(weight(3 * y + x)),
        local.get(row),
        v128.load(SCALAR * x),
        f64x2.mul,
        f64x2.add,
      ],
      local.set(sum),
    ]),
    [local.get(row), local.get(inputStride), i32.add, local.set(row)],
  ]);
  const alongRow = repeatWhile([
    [local.get(bias), local.set(sum), local.get(source), local.set(row)],
    taps,
    [local.get(target), local.get(sum), v128.store(0)],
    advance(source, VECTOR),
    advance(target, VECTOR),
    countDown(left),
  ]);
  return [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((tap) => [
      [local.get(weights), v128.load64Splat(SCALAR * tap), local.set(tap < 9 ? weight(tap) : bias)],
    ]),
    repeatWhile([
      [
        local.get(input),
        local.set(source),
        local.get(output),
        local.set(target),
        local.get(pairs),
        local.set(left),
      ],
      alongRow,
      [local.get(input), local.get(inputStride), i32.add, local.set(input)],
      [local.get(output), local.get(outputStride), i32.add, local.set(output)],
      countDown(height),
    ]),
  ];
}
