import {
  advance,
  assemble,
  type Code,
  countDown,
  type FunctionDefinition,
  f32,
  f32x4,
  f64x2,
  i32,
  i32x4,
  local,
  repeatWhile,
  v128,
} from "./assembler.js";

/**
 * The engine's loops as a WebAssembly module, two float64 lanes to a vector. Addresses, strides and counts are
 * i32; all strides are in bytes. Additions run in the order that `engine.ts` prescribes.
 *
 * @param isFused whether products are added without rounding them first, which takes one instruction in place of two
 */
export function assembleLoops(isFused: boolean): Uint8Array<ArrayBuffer> {
  const lanes = isFused ? FUSED_DOUBLES : DOUBLES;
  return assemble([
    { name: "multiply", parameters: 7, integers: 2, vectors: 11, body: multiply(lanes) },
    { name: "correlate3x3", parameters: 7, integers: 4, vectors: 11, body: correlate3x3(lanes) },
    { name: "copyRows", parameters: 6, integers: 3, vectors: 0, body: copyRows() },
    { name: "pack", parameters: 6, integers: 3, vectors: 0, body: pack() },
    ...elementLoops(),
  ]);
}

/** Those over four float32 lanes, as a module of their own, since browsers compile only small ones synchronously. */
export function assembleSingles(isFused: boolean): Uint8Array<ArrayBuffer> {
  const lanes = isFused ? FUSED_SINGLES : SINGLES;
  const magnitudes = { parameters: 4, numbers: 2, integers: 0, vectors: 4, body: magnitudesSingles() };
  return assemble([
    { name: "multiplySingles", parameters: 7, integers: 2, vectors: 11, body: multiply(lanes) },
    { name: "correlate3x3Singles", parameters: 7, integers: 4, vectors: 11, body: correlate3x3(lanes) },
    { name: "magnitudesSingles", ...magnitudes },
  ]);
}

/** Bytes of a float64 and of a vector of two. */
const SCALAR = 8;
const VECTOR = 16;

/** The lanes of a vector. */
interface Lanes {
  /** Bytes of one. */
  readonly scalar: number;
  /** Loads one number into all lanes. */
  readonly splat: (offset: number) => Code;
  readonly addProduct: (sum: Code, a: Code, b: Code) => Code;
}

const DOUBLES: Lanes = {
  scalar: SCALAR,
  splat: v128.load64Splat,
  addProduct: (sum, a, b) => [sum, a, b, f64x2.mul, f64x2.add],
};
const SINGLES: Lanes = {
  scalar: 4,
  splat: v128.load32Splat,
  addProduct: (sum, a, b) => [sum, a, b, f32x4.mul, f32x4.add],
};
const FUSED_DOUBLES: Lanes = { ...DOUBLES, addProduct: (sum, a, b) => [a, b, sum, f64x2.relaxedMadd] };
const FUSED_SINGLES: Lanes = { ...SINGLES, addProduct: (sum, a, b) => [a, b, sum, f32x4.relaxedMadd] };

/**
 * `multiply(rows, columns, bias, output, outputStride, depth, tiles)`: the sums of 4 rows by 2 vectors stay in
 * registers (four of the other eight hold two columns, a weight and a product). 2×4 is as fast; 4×3, 6×2 and 8×1 are
 * slower.
 */
function multiply({ scalar, splat, addProduct }: Lanes): Code {
  const [rows, columns, bias, output, outputStride, depth, tiles, left, k] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8,
  ] as const;
  const sum = (row: number, half: number): number => 9 + 2 * row + half;
  const column = (half: number): number => 17 + half;
  const weight = 19;

  const start = ROWS.map((row) =>
    HALVES.map((half) => [local.get(bias), splat(scalar * row), local.set(sum(row, half))]),
  );
  const accumulate = repeatWhile([
    HALVES.map((half) => [local.get(columns), v128.load(VECTOR * half), local.set(column(half))]),
    ROWS.map((row) => [
      [local.get(left), splat(scalar * row), local.set(weight)],
      HALVES.map((half) => [
        addProduct(local.get(sum(row, half)), local.get(weight), local.get(column(half))),
        local.set(sum(row, half)),
      ]),
    ]),
    advance(left, 4 * scalar),
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
 * `pack(from, to, rows, tiles, fromStride, tileSize)`: rows of tiles of four columns as [tiles][rows][4], each tile
 * `tileSize` bytes after the one before.
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
 * stay in registers, and every vector of outputs reads its neighbourhood afresh, from the first-level cache.
 */
function correlate3x3({ scalar, splat, addProduct }: Lanes): Code {
  const [input, inputStride, weights, output, outputStride, height, pairs] = [0, 1, 2, 3, 4, 5, 6] as const;
  const [source, row, target, left] = [7, 8, 9, 10] as const;
  const weight = (tap: number): number => 11 + tap;
  const bias = 20;
  const sum = 21;

  const taps = [0, 1, 2].map((y) => [
    [0, 1, 2].map((x) => [
      addProduct(local.get(sum), local.get(weight(3 * y + x)), [local.get(row), v128.load(scalar * x)]),
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
      [local.get(weights), splat(scalar * tap), local.set(tap < 9 ? weight(tap) : bias)],
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

/**
 * Loops over elements, two float64 to a vector: `NAME(source …, target, pairs, constant …)`, with addresses in bytes. Those named with
 * 32 read float32 from their first source.
 */

/** Bytes of two float32. */
const TWO_SINGLES = 8;

/** What a loop computes of a pair of elements of each source, and of its constants. */
interface Loop {
  readonly name: string;
  readonly sources: 1 | 2;
  readonly constants: number;
  /** Whether the target's own elements are the last source. */
  readonly readsTarget?: true;
  readonly compute: (sources: readonly Code[], constants: readonly Code[]) => Code;
}

const LOOPS: readonly Loop[] = [
  {
    name: "rectify",
    sources: 1,
    constants: 0,
    // NaN is not less than 0; the sum makes 0 of −0.
    compute: ([x = []]) => [x, v128.zero, f64x2.pmax, v128.zero, f64x2.add],
  },
  { name: "scale", sources: 1, constants: 1, compute: ([x = []], [factor = []]) => [factor, x, f64x2.mul] },
  {
    name: "affine",
    sources: 1,
    constants: 3,
    compute: ([x = []], [mean = [], factor = [], shift = []]) => [
      [x, mean, f64x2.sub, factor, f64x2.mul],
      [shift, f64x2.add],
    ],
  },
  {
    name: "linear",
    sources: 1,
    constants: 2,
    compute: ([x = []], [factor = [], constant = []]) => [factor, x, f64x2.mul, constant, f64x2.add],
  },
  { name: "add", sources: 2, constants: 0, compute: ([a = [], b = []]) => [a, b, f64x2.add] },
  {
    name: "magnitudes",
    sources: 1,
    constants: 2,
    compute: ([x = []], [factor = [], constant = []]) => [
      [factor, x, f64x2.abs, f64x2.mul],
      [constant, f64x2.add],
    ],
  },
  {
    name: "addMagnitudes",
    sources: 1,
    constants: 1,
    readsTarget: true,
    compute: ([x = [], y = []], [factor = []]) => [y, [factor, x, f64x2.abs, f64x2.mul], f64x2.add],
  },
];

/** Every loop, reading float64 and reading float32. */
function elementLoops(): readonly FunctionDefinition[] {
  return [
    ...LOOPS.flatMap((loop) => [false, true].map((isSingle) => define(loop, isSingle))),
    ...within(),
    ...measures(),
  ];
}

function define(
  { name, sources, constants, readsTarget, compute }: Loop,
  isSingle: boolean,
): FunctionDefinition {
  const target = sources;
  const pairs = sources + 1;
  const firstNumber = pairs + 1;
  const firstVector = firstNumber + constants;
  const vectors = Array.from({ length: constants }, (_, index) => local.get(firstVector + index));
  const read = Array.from({ length: sources }, (_, index) => load(index, isSingle && index === 0));
  const own = readsTarget ? [load(target, false)] : [];
  return {
    name: isSingle ? `${name}32` : name,
    parameters: pairs + 1,
    numbers: constants,
    integers: 0,
    vectors: constants,
    body: [
      splats(firstNumber, firstVector, constants),
      repeatWhile([
        [local.get(target), compute([...read, ...own], vectors), v128.store(0)],
        Array.from({ length: sources + 1 }, (_, index) =>
          advance(index, isSingle && index === 0 ? TWO_SINGLES : VECTOR),
        ),
        countDown(pairs),
      ]),
    ],
  };
}

/** A pair of float64 of what a local points to. */
function load(index: number, isSingle: boolean): Code {
  return isSingle ? [local.get(index), v128.load64Zero(0), f64x2.promote] : [local.get(index), v128.load(0)];
}

/** `magnitudesSingles(x, target, results, quads, factor, constant)`: `factor · |x| + constant`, and the largest of each lane. */
function magnitudesSingles(): Code {
  const [x, target, results, quads, factor, constant, most] = [0, 1, 2, 3, 6, 7, 8] as const;
  const value = 9;
  return [
    [factor, constant].map((to, index) => [local.get(4 + index), f32.demote, f32x4.splat, local.set(to)]),
    repeatWhile([
      [local.get(target), local.get(x), v128.load(0), f32x4.abs, local.get(factor), f32x4.mul],
      [local.get(constant), f32x4.add, local.tee(value), v128.store(0)],
      [local.get(most), local.get(value), f32x4.pmax, local.set(most)],
      advance(x, VECTOR),
      advance(target, VECTOR),
      countDown(quads),
    ]),
    [local.get(results), local.get(most), v128.store(0)],
  ];
}

/** Constants in both halves of vectors. */
function splats(firstNumber: number, firstVector: number, count: number): Code {
  return Array.from({ length: count }, (_, index) => [
    [local.get(firstNumber + index), f64x2.splat, local.set(firstVector + index)],
  ]);
}

/**
 * `within(a, e, limits, results, pairs, share)`, `withinOne(a, e, results, pairs, limit)`: the largest distances of both halves that are
 * numbers, and then bits of every distance that is not within its limit.
 */
function within(): readonly FunctionDefinition[] {
  return [false, true].flatMap((isSingle) =>
    [false, true].map((isOne): FunctionDefinition => {
      const [a, e, limits] = [0, 1, 2];
      const results = isOne ? 2 : 3;
      const pairs = results + 1;
      const number = pairs + 1;
      const [share, distance, largest, beyond] = [number + 1, number + 2, number + 3, number + 4] as const;
      const limit: Code = isOne ? local.get(share) : [local.get(share), load(limits, false), f64x2.mul];
      return {
        name: `within${isOne ? "One" : ""}${isSingle ? "32" : ""}`,
        parameters: pairs + 1,
        numbers: 1,
        integers: 0,
        vectors: 4,
        body: [
          splats(number, share, 1),
          repeatWhile([
            [load(a, isSingle), load(e, false), f64x2.sub, f64x2.abs, local.set(distance)],
            [local.get(largest), local.get(distance), f64x2.pmax, local.set(largest)],
            [local.get(beyond), local.get(distance), limit, f64x2.le, v128.not, v128.or, local.set(beyond)],
            advance(a, isSingle ? TWO_SINGLES : VECTOR),
            advance(e, VECTOR),
            isOne ? [] : advance(limits, VECTOR),
            countDown(pairs),
          ]),
          [local.get(results), local.get(largest), v128.store(0)],
          [local.get(results), local.get(beyond), v128.store(VECTOR)],
        ],
      };
    }),
  );
}

/**
 * `measure(a, e, results, pairs)`: of both halves max |a − e|, max |e|, Σ(a − e)², Σ e·a, Σ e², Σ a², and the most float32 steps between
 * the two.
 */
function measures(): readonly FunctionDefinition[] {
  return [false, true].map((isSingle): FunctionDefinition => {
    const [a, e, results, pairs] = [0, 1, 2, 3] as const;
    const [x, y, difference, bits, sign, first] = [4, 5, 6, 7, 8, 9] as const;
    const sums = Array.from({ length: 7 }, (_, index) => first + index);
    const [apart, scale, squared, dot, expected, actual, steps] = sums as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const add = (sum: number, p: number, q: number): Code => [
      [local.get(sum), local.get(p), local.get(q), f64x2.mul, f64x2.add],
      local.set(sum),
    ];
    // Sign and magnitude to integers in the order of the values, both zeros to 0.
    const ordinal = (single: Code): Code => [
      [single, local.tee(bits), i32.const(31), i32x4.shiftRight, local.set(sign)],
      [local.get(bits), v128.const32(0x7fffffff), v128.and, local.get(sign), v128.xor],
      [local.get(sign), i32x4.sub, f64x2.convert],
    ];
    const actualSingle: Code = isSingle ? [local.get(a), v128.load64Zero(0)] : [local.get(y), f64x2.demote];
    return {
      name: isSingle ? "measure32" : "measure",
      parameters: 4,
      integers: 0,
      vectors: 5 + sums.length,
      body: [
        repeatWhile([
          [load(e, false), local.set(x), load(a, isSingle), local.tee(y)],
          [local.get(x), f64x2.sub, local.set(difference)],
          [local.get(apart), local.get(difference), f64x2.abs, f64x2.pmax, local.set(apart)],
          [local.get(scale), local.get(x), f64x2.abs, f64x2.pmax, local.set(scale)],
          add(squared, difference, difference),
          add(dot, x, y),
          add(expected, x, x),
          add(actual, y, y),
          [local.get(steps), ordinal([local.get(x), f64x2.demote]), ordinal(actualSingle)],
          [f64x2.sub, f64x2.abs, f64x2.pmax, local.set(steps)],
          advance(a, isSingle ? TWO_SINGLES : VECTOR),
          advance(e, VECTOR),
          countDown(pairs),
        ]),
        sums.map((sum, index) => [local.get(results), local.get(sum), v128.store(VECTOR * index)]),
      ],
    };
  });
}
