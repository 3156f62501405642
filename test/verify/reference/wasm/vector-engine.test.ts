import { afterEach, describe, expect, test, vi } from "vitest";
import type { Engine } from "../../../../src/verify/reference/engine.js";
import { scalarEngine } from "../../../../src/verify/reference/engine.js";
import { assembleLoops } from "../../../../src/verify/reference/loops.js";
import { vectorEngine } from "../../../../src/verify/reference/vector-engine.js";
import { randomNumbers } from "../random.js";

const SIZE = 4000;

/** The memory of an engine after `run`, which began with random numbers. */
function memoryAfter(engine: Engine, run: (engine: Engine) => void): Float64Array {
  const next = randomNumbers(1);
  for (let i = 0; i < SIZE; i++) engine.memory[i] = next();
  run(engine);
  return engine.memory.slice(0, SIZE);
}

function expectSame(run: (engine: Engine) => void): void {
  expect(memoryAfter(vectorEngine(SIZE), run)).toEqual(memoryAfter(scalarEngine(SIZE), run));
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

  test("fits what browsers compile synchronously", () => {
    expect(assembleLoops().length).toBeLessThan(4096);
  });
});

const WEB_ASSEMBLY = (globalThis as unknown as { readonly WebAssembly: object }).WebAssembly;
