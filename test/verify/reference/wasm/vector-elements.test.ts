import { describe, expect, test } from "vitest";
import type { Elements, Numbers, Run } from "../../../../src/verify/reference/elements.js";
import { type Engine, scalarEngine } from "../../../../src/verify/reference/engine.js";
import { vectorEngine } from "../../../../src/verify/reference/vector-engine.js";
import { randomNumbers } from "../random.js";

/** More than is copied at a time. */
const SIZE = 17_003;
const next = randomNumbers(7);
const random = (): Float64Array => Float64Array.from({ length: SIZE }, next);
const [first, second] = [random(), random()];
first.set([0, -0, Number.NaN, Infinity, -Infinity, 1e300, 1e-310, -1], 100);
second.set([-0, 0, 1, Infinity, Infinity, 1e-300, -1e-310, -1], 100);

/** Where the numbers that loops read may be, and of which type. */
const PLACES: Readonly<Record<string, (values: Float64Array, engine: Engine, place: number) => Numbers>> = {
  "in the engine's memory": (values, { memory }, place) => {
    const own = memory.subarray(place * SIZE, (place + 1) * SIZE);
    own.set(values);
    return own;
  },
  elsewhere: (values) => values,
  "float32 elsewhere": (values) => Float32Array.from(values),
  "float32 that threads share": (values) => {
    const shared = new Float32Array(new SharedArrayBuffer(4 * SIZE));
    shared.set(values);
    return shared;
  },
};

type Operation = (elements: Elements, x: Numbers, y: Numbers, target: Float64Array, run: Run) => void;

const OPERATIONS: Readonly<Record<string, Operation>> = {
  rectify: (elements, x, _, target, run) => elements.rectify(x, target, run),
  scale: (elements, x, _, target, run) => elements.scale(x, target, run, 0.3),
  linear: (elements, x, _, target, run) => elements.linear(x, target, run, 0.3, 1e-3),
  affine: (elements, x, _, target, run) => elements.affine(x, target, run, 0.1, 1.7, -0.2),
  add: (elements, x, y, target, run) => elements.add(x, y, target, run),
  magnitudes: (elements, x, _, target, run) => elements.magnitudes(x, target, run, 1e-7, 1e-38),
  addMagnitudes: (elements, x, _, target, run) => elements.addMagnitudes(x, target, run, 1e-7),
  "within a number": (elements, x, y, target, run) => {
    target[1] = Number(elements.within(x, y, 2, run, 0.9, target));
  },
  "within numbers": (elements, x, y, target, run) => {
    const limits = target.subarray(0);
    const apart = new Float64Array(1);
    const isWithin = elements.within(x, y, limits, run, 1e3, apart);
    target.set([apart[0] ?? 0, Number(isWithin)]);
  },
  sums: (elements, x, y, target, { start }) => {
    for (const count of [1, 2, 99, 8192]) {
      const sums = new Float64Array(14);
      elements.sums(x, y, { start: start + 200, count }, sums);
      target.set(sums, count % 100);
    }
  },
};

describe.each(Object.entries(PLACES))("numbers %s", (_, place) => {
  test.each(Object.entries(OPERATIONS))("%s: as in plain TypeScript, to the bit", (_, operation) => {
    for (const run of [
      { start: 0, count: SIZE },
      { start: 3, count: 16_390 },
      { start: 101, count: 1 },
      { start: 50, count: 2 },
    ]) {
      const results = [scalarEngine, vectorEngine].map((make) => {
        const engine = make(3 * SIZE);
        const target = engine.memory.subarray(2 * SIZE);
        target.set(second);
        operation(engine, place(first, engine, 0), place(second, engine, 1), target, run);
        return target.slice();
      });
      expect(results[1]).toEqual(results[0]);
    }
  });
});

test("a distance that is no number, or beyond its limit, is seen wherever it is", () => {
  const engine = vectorEngine(1);
  const apart = new Float64Array(1);
  for (const place of [0, 1, 8191, 8192, 17_001, 17_002])
    for (const [value, largest] of [
      [Number.NaN, 0],
      [3, 3],
    ] as const) {
      const [a, e] = [new Float32Array(SIZE), new Float64Array(SIZE)];
      expect(engine.within(a, e, 2, { start: 0, count: SIZE }, 1, apart)).toBe(true);
      a[place] = value;
      expect(engine.within(a, e, 2, { start: 0, count: SIZE }, 1, apart)).toBe(false);
      expect(apart[0]).toBe(largest);
    }
});
