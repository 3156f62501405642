import type { Elements } from "../elements.js";
import type { Engine } from "../engine.js";
import { scalarEngine, TILE_COLUMNS } from "../engine.js";
import { assembleLoops } from "./loops.js";
import { type ElementLoops, STAGE, vectorElements } from "./vector-elements.js";

/** The part of the WebAssembly API in use: neither Node's types nor the ES library's declare it. */
interface WebAssemblyApi {
  readonly Memory: new (limits: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
}

interface Loops extends ElementLoops {
  multiply(...addressesAndCounts: readonly number[]): void;
  correlate3x3(...addressesAndCounts: readonly number[]): void;
  copyRows(...addressesAndCounts: readonly number[]): void;
  pack(...addressesAndCounts: readonly number[]): void;
}

/** Bytes of a float64, and of a page of WebAssembly memory. */
const ELEMENT = 8;
const PAGE = 65536;

let compiled: object | undefined;

/**
 * The engine in WebAssembly with 128-bit vectors, or the scalar one where there is no such thing or no memory for it.
 *
 * The module is under 4 KB, so that browsers compile it synchronously on any thread, and is compiled once: it carries
 * no state. The memory never grows: views of it stay valid for as long as anyone holds them.
 */
export function vectorEngine(elements: number): Engine {
  const api = (globalThis as { WebAssembly?: WebAssemblyApi }).WebAssembly;
  try {
    return api ? instantiate(api, elements) : scalarEngine(elements);
  } catch {
    // Compilation fails where vectors are unknown, and the memory where address space is limited.
    return scalarEngine(elements);
  }
}

let own: Elements | undefined;

/** Loops over numbers that are in no engine's memory, results being numbers too. */
export function loopsOverNumbers(): Elements {
  own ??= vectorEngine(0);
  return own;
}

function instantiate(api: WebAssemblyApi, elements: number): Engine {
  compiled ??= new api.Module(assembleLoops());
  const memory = new api.Memory({ initial: Math.ceil(((elements + STAGE) * ELEMENT) / PAGE) });
  const loops = new api.Instance(compiled, { reference: { memory } }).exports as Loops;
  return {
    ...vectorElements(memory.buffer, elements, loops),
    memory: new Float64Array(memory.buffer, 0, elements),
    multiply: (p) =>
      loops.multiply(
        p.rows * ELEMENT,
        p.columns * ELEMENT,
        p.bias * ELEMENT,
        p.output * ELEMENT,
        p.outputStride * ELEMENT,
        p.depth,
        p.tiles,
      ),
    correlate3x3: (c) =>
      loops.correlate3x3(
        c.input * ELEMENT,
        c.inputStride * ELEMENT,
        c.weights * ELEMENT,
        c.output * ELEMENT,
        c.outputStride * ELEMENT,
        c.height,
        c.width / 2,
      ),
    copyRows: (c) =>
      loops.copyRows(
        c.from * ELEMENT,
        c.to * ELEMENT,
        c.rows,
        c.columns / 2,
        c.fromStride * ELEMENT,
        c.toStride * ELEMENT,
      ),
    pack: (c) =>
      loops.pack(
        c.from * ELEMENT,
        c.to * ELEMENT,
        c.rows,
        c.columns / TILE_COLUMNS,
        c.fromStride * ELEMENT,
        c.rows * TILE_COLUMNS * ELEMENT,
      ),
  };
}
