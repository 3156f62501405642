import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, test, vi } from "vitest";
import { setEngineFlags } from "../../../../src/cli/start.js";
import { type Engine, scalarEngine } from "../../../../src/verify/reference/engine.js";
import { assembleLoops, assembleSingles } from "../../../../src/verify/reference/loops.js";
import type * as Engines from "../../../../src/verify/reference/vector-engine.js";
import { type fusesProducts, vectorEngine } from "../../../../src/verify/reference/vector-engine.js";
import { randomNumbers } from "../random.js";
import { expectSameSums } from "../same-sums.js";

const SIZE = 4000;

/** The memory of an engine after `run`, which began with random numbers. */
function memoryAfter(engine: Engine, run: (engine: Engine) => void): Float64Array {
  const next = randomNumbers(1);
  for (let i = 0; i < SIZE; i++) engine.memory[i] = next();
  run(engine);
  return engine.memory.slice(0, SIZE);
}

function expectSame(run: (engine: Engine) => void): void {
  expectSameSums(memoryAfter(vectorEngine(SIZE), run), memoryAfter(scalarEngine(SIZE), run));
}

describe("vectorEngine", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
  });

  test("runs in WebAssembly here", () => {
    expect(vectorEngine(1).memory.buffer.byteLength % 65536).toBe(0);
  });

  test("multiplies four rows by a tile of four columns", () => {
    const engine = vectorEngine(100);
    // Depth 2: rows (1, 2, 3, 4) and (10, 20, 30, 40); columns (1, 0, 2, 0) and (0, 1, 1, 0); biases 0 to 300.
    engine.memory.set([1, 2, 3, 4, 10, 20, 30, 40, 1, 0, 2, 0, 0, 1, 1, 0, 0, 100, 200, 300]);
    engine.multiply({ rows: 0, columns: 8, bias: 16, output: 20, outputStride: 5, depth: 2, tiles: 1 });
    expect([...engine.memory.subarray(20, 40)]).toEqual([
      1, 10, 12, 0, 0, 102, 120, 124, 100, 0, 203, 230, 236, 200, 0, 304, 340, 348, 300, 0,
    ]);
  });

  test.each([1, 2, 3, 17])("multiplies as the scalar engine does, depth %i", (depth) => {
    expectSame((engine) =>
      engine.multiply({ rows: 3, columns: 200, bias: 100, output: 3001, outputStride: 41, depth, tiles: 5 }),
    );
  });

  test.each([2, 4, 10])("correlates as the scalar engine does, width %i", (width) => {
    const place = { input: 5, inputStride: 15, weights: 1000, output: 2001, outputStride: 11, height: 6 };
    expectSame((engine) => engine.correlate3x3({ ...place, width }));
  });

  test.each([2, 8, 10])("copies rows of %i columns as the scalar engine does", (columns) => {
    const place = { from: 3, to: 2001, rows: 7, fromStride: 11, toStride: 13 };
    expectSame((engine) => engine.copyRows({ ...place, columns }));
  });

  test.each([4, 20])("packs tiles of %i columns as the scalar engine does", (columns) => {
    const engine = vectorEngine(100);
    engine.memory.set([1, 2, 3, 4, 5, 6, 7, 8, 0, 11, 12, 13, 14, 15, 16, 17, 18]);
    engine.pack({ from: 0, to: 20, rows: 2, columns: 8, fromStride: 9 });
    expect([...engine.memory.subarray(20, 36)]).toEqual([
      1, 2, 3, 4, 11, 12, 13, 14, 5, 6, 7, 8, 15, 16, 17, 18,
    ]);
    expectSame((own) => own.pack({ from: 3, to: 2001, rows: 7, columns, fromStride: 23 }));
  });

  test("multiplies and correlates float32, eight and four columns at a time", () => {
    const { singles } = vectorEngine(100);
    if (!singles) throw new Error("no WebAssembly");
    const { memory, tileColumns } = singles;
    const columns = [1, 2, 3, 4, 5, 6, 7, 8];
    memory.set([1, 10, 100, 2 ** -24, ...columns, 0.5, 0, -1, 1], 0);
    singles.multiply({ rows: 0, columns: 4, bias: 12, output: 20, outputStride: 9, depth: 1, tiles: 1 });
    expect(tileColumns).toBe(8);
    expect([...memory.subarray(20, 28)]).toEqual(columns.map((column) => column + 0.5));
    expect([...memory.subarray(38, 46)]).toEqual(columns.map((column) => 100 * column - 1));
    // Every sum is rounded.
    expect([...memory.subarray(47, 55)]).toEqual(columns.map((column) => Math.fround(1 + column * 2 ** -24)));
    memory.set([...columns.slice(0, 6), ...columns.slice(0, 6), ...columns.slice(0, 6)], 60);
    memory.set([1, 0, 0, 0, 10, 0, 0, 0, 100, 0.25], 80);
    const place = { input: 60, inputStride: 6, weights: 80, output: 100, outputStride: 4 };
    singles.correlate3x3({ ...place, height: 1, width: 4 });
    expect([...memory.subarray(100, 104)]).toEqual([321.25, 432.25, 543.25, 654.25]);
  });

  test("takes magnitudes of float32, wherever they are, and finds the largest", () => {
    const engine = vectorEngine(10_000);
    const { singles } = engine;
    if (!singles) throw new Error("no WebAssembly");
    const next = randomNumbers(3);
    const values = Float32Array.from({ length: 9003 }, next);
    values.set([Number.NaN, -7, 0], 17);
    const target = singles.memory.subarray(9500, 9500 + values.length);
    const expected = values.map((x) => Math.fround(Math.fround(0.3) * Math.abs(x)) + Math.fround(1e-3));
    const here = singles.memory.subarray(0, values.length);
    here.set(values);
    for (const source of [values, here]) {
      target.fill(0);
      expect(singles.magnitudes(source, target, 0.3, 1e-3)).toBe(expected[18]);
      expect(target).toEqual(expected);
    }
  });

  test("is the scalar engine where there is no WebAssembly", () => {
    vi.stubGlobal("WebAssembly", undefined);
    expect(vectorEngine(7).memory.buffer.byteLength).toBe(56);
  });

  test("is the scalar engine where memory cannot be had", () => {
    const refuse = class {
      constructor() {
        throw new RangeError("could not allocate memory");
      }
    };
    vi.stubGlobal("WebAssembly", { ...WEB_ASSEMBLY, Memory: refuse });
    expect(vectorEngine(7).memory.buffer.byteLength).toBe(56);
  });

  test("adds products that are not rounded, in the commands", async () => {
    setEngineFlags(false);
    vi.resetModules();
    const { fusesProducts, vectorEngine: makeEngine }: typeof Engines = await import(
      "../../../../src/verify/reference/vector-engine.js"
    );
    expect(fusesProducts(WEB_ASSEMBLY)).toBe(true);
    const engine = makeEngine(100);
    const { singles } = engine;
    if (!singles) throw new Error("no WebAssembly");
    // (1 + ε)(1 − ε) − 1 is −ε², and 0 if the product is rounded.
    for (const [products, epsilon] of [
      [engine, 2 ** -30],
      [singles, 2 ** -15],
    ] as const) {
      const { memory, tileColumns } = products;
      memory
        .fill(1 + epsilon, 0, 4)
        .fill(1 - epsilon, 4, 20)
        .fill(-1, 20, 24);
      const place = { output: 40, outputStride: tileColumns };
      products.multiply({ ...place, rows: 0, columns: 4, bias: 20, depth: 1, tiles: 1 });
      expect(new Set(memory.subarray(40, 40 + 4 * tileColumns))).toEqual(new Set([-(epsilon ** 2)]));
      memory.fill(1 + epsilon, 0, 12).fill(0, 20, 30);
      memory[24] = 1 - epsilon;
      memory[29] = -1;
      const width = tileColumns / 2;
      products.correlate3x3({ ...place, input: 0, inputStride: 0, weights: 20, height: 1, width });
      expect(new Set(memory.subarray(40, 40 + width))).toEqual(new Set([-(epsilon ** 2)]));
    }
  });

  test("threads of the commands can collect their garbage", async () => {
    setEngineFlags(false);
    const code = "require('node:worker_threads').parentPort.postMessage(typeof gc)";
    const [type] = await once(new Worker(code, { eval: true }), "message");
    expect(type).toBe("function");
  });

  test("fits what browsers compile synchronously", () => {
    for (const isFused of [false, true])
      for (const { length } of [assembleLoops(isFused), assembleSingles(isFused)])
        expect(length).toBeLessThan(4096);
  });
});

const { WebAssembly: WEB_ASSEMBLY } = globalThis as unknown as {
  readonly WebAssembly: Parameters<typeof fusesProducts>[0];
};
