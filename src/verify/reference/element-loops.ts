import {
  advance,
  type Code,
  countDown,
  type FunctionDefinition,
  f64x2,
  i32,
  i32x4,
  local,
  repeatWhile,
  v128,
} from "./assembler.js";

/**
 * Loops over elements, two float64 to a vector: `NAME(source …, target, pairs, constant …)`, with addresses in bytes. Those named with
 * 32 read float32 from their first source.
 */

/** Bytes of two float64, and of two float32. */
const DOUBLES = 16;
const SINGLES = 8;

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
export function elementLoops(): readonly FunctionDefinition[] {
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
          advance(index, isSingle && index === 0 ? SINGLES : DOUBLES),
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
            advance(a, isSingle ? SINGLES : DOUBLES),
            advance(e, DOUBLES),
            isOne ? [] : advance(limits, DOUBLES),
            countDown(pairs),
          ]),
          [local.get(results), local.get(largest), v128.store(0)],
          [local.get(results), local.get(beyond), v128.store(DOUBLES)],
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
    // Sign and magnitude to whole numbers in the order of the values, both zeros to 0.
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
          advance(a, isSingle ? SINGLES : DOUBLES),
          advance(e, DOUBLES),
          countDown(pairs),
        ]),
        sums.map((sum, index) => [local.get(results), local.get(sum), v128.store(DOUBLES * index)]),
      ],
    };
  });
}
