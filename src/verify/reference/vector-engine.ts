import { assemble, f64x2, local } from "./assembler.js";
import { type Elements, MAX_SUMMED, type Numbers, type Run, SUMS, scalarElements } from "./elements.js";
import { type Engine, type Products, type Singles, scalarEngine } from "./engine.js";
import { assembleLoops, assembleSingles } from "./loops.js";

/** A loop of `elementLoops`: addresses in bytes, the number of pairs, and constants. */
type Loop = (...numbers: readonly number[]) => void;

type ElementLoops = Readonly<Record<string, Loop>>;

/** Elements that are copied at a time from elsewhere into the engine's memory. */
const CHUNK: number = MAX_SUMMED;

/** Arrays elsewhere that a loop reads at most. */
const SLOTS = 3;

/** Elements of memory after the engine's own that the loops use. */
const SCRATCH: number = SLOTS * CHUNK + 2 * SUMS;

/** The loops in WebAssembly, which use the last `SCRATCH` elements of the memory, from `scratch`. */
function vectorElements(
  buffer: ArrayBuffer,
  scratch: number,
  loops: Loops,
): { readonly loops: Elements; readonly magnitudesSingles: Singles["magnitudes"] } {
  const places = Array.from({ length: SLOTS }, (_, slot) => {
    const start = 8 * (scratch + slot * CHUNK);
    return { double: new Float64Array(buffer, start, CHUNK), single: new Float32Array(buffer, start, CHUNK) };
  });
  const results = new Float64Array(buffer, 8 * (scratch + SLOTS * CHUNK), 2 * SUMS);
  const bits = new Int32Array(buffer, results.byteOffset);
  const singles = new Float32Array(buffer, results.byteOffset);
  const isHere = (numbers: Numbers): boolean => numbers.buffer === buffer;

  /** Where elements are, in bytes; copied to a slot if they are elsewhere, the first alone in the type that it has there. */
  function addressOf(numbers: Numbers, start: number, count: number, slot: 0 | 1 | 2): number {
    if (isHere(numbers)) return numbers.byteOffset + start * numbers.BYTES_PER_ELEMENT;
    const isSingle = numbers.BYTES_PER_ELEMENT === 4 && slot === 0;
    const place = places[slot]?.[isSingle ? "single" : "double"] ?? numbers;
    place.set(numbers.subarray(start, start + count));
    return place.byteOffset;
  }

  function loopOf(name: string, { BYTES_PER_ELEMENT }: Numbers): Loop {
    return loops[BYTES_PER_ELEMENT === 4 ? `${name}32` : name] as Loop;
  }

  /** Runs a loop over all, or over one chunk after another; an odd element at the end is left to `one`. */
  function over(
    name: string,
    x: Numbers,
    target: Float64Array,
    { start, count }: Run,
    constants: readonly number[],
    one: (run: Run) => void,
  ): void {
    const loop = loopOf(name, x);
    const step = isHere(x) ? count : CHUNK;
    for (let at = start; at < start + count; at += step) {
      const length = Math.min(step, start + count - at);
      if (length > 1)
        loop(addressOf(x, at, length, 0), target.byteOffset + 8 * at, length >> 1, ...constants);
    }
    if (count % 2 === 1) one({ start: start + count - 1, count: 1 });
  }

  const elements: Elements = {
    rectify(x, target, run) {
      over("rectify", x, target, run, [], (last) => scalarElements.rectify(x, target, last));
    },
    scale(x, target, run, factor) {
      over("scale", x, target, run, [factor], (last) => scalarElements.scale(x, target, last, factor));
    },
    linear(x, target, run, factor, constant) {
      over("linear", x, target, run, [factor, constant], (last) =>
        scalarElements.linear(x, target, last, factor, constant),
      );
    },
    affine(x, target, run, mean, factor, shift) {
      over("affine", x, target, run, [mean, factor, shift], (last) =>
        scalarElements.affine(x, target, last, mean, factor, shift),
      );
    },
    magnitudes(x, target, run, factor, constant) {
      over("magnitudes", x, target, run, [factor, constant], (last) =>
        scalarElements.magnitudes(x, target, last, factor, constant),
      );
    },
    addMagnitudes(x, target, run, factor) {
      over("addMagnitudes", x, target, run, [factor], (last) =>
        scalarElements.addMagnitudes(x, target, last, factor),
      );
    },
    add(a, b, target, { start, count }) {
      const loop = loopOf("add", a);
      for (let at = start; at < start + count; at += CHUNK) {
        const length = Math.min(CHUNK, start + count - at);
        if (length === 1) continue;
        const [first, second] = [addressOf(a, at, length, 0), addressOf(b, at, length, 1)];
        loop(first, second, target.byteOffset + 8 * at, length >> 1);
      }
      if (count % 2 === 1) scalarElements.add(a, b, target, { start: start + count - 1, count: 1 });
    },
    within(a, e, limits, { start, count }, share, apart) {
      const loop = loopOf(typeof limits === "number" ? "withinOne" : "within", a);
      let largest = 0;
      let isWithin = true;
      for (let at = start; at < start + count; at += CHUNK) {
        const length = Math.min(CHUNK, start + count - at);
        if (length === 1) continue;
        const [first, second] = [addressOf(a, at, length, 0), addressOf(e, at, length, 1)];
        if (typeof limits === "number") loop(first, second, results.byteOffset, length >> 1, share * limits);
        else loop(first, second, addressOf(limits, at, length, 2), results.byteOffset, length >> 1, share);
        largest = Math.max(largest, results[0] as number, results[1] as number);
        if (bits[4] !== 0 || bits[6] !== 0) isWithin = false;
      }
      if (count % 2 === 1) {
        const last = { start: start + count - 1, count: 1 };
        if (!scalarElements.within(a, e, limits, last, share, apart)) isWithin = false;
        largest = Math.max(largest, apart[0] as number);
      }
      apart[0] = largest;
      return isWithin;
    },
    sums(a, e, { start, count }, sums) {
      const [first, second] = [addressOf(a, start, count, 0), addressOf(e, start, count, 1)];
      if (count > 1) loopOf("measure", a)(first, second, results.byteOffset, count >> 1);
      else results.fill(0);
      sums.set(results);
      if (count % 2 === 0) return;
      // The odd one is the next of the even places.
      scalarElements.sums(a, e, { start: start + count - 1, count: 1 }, results);
      for (let which = 0; which < SUMS; which++) {
        const place = 2 * which;
        const [sum, last] = [sums[place] as number, results[place] as number];
        sums[place] = IS_MAXIMUM[which] ? Math.max(sum, last) : sum + last;
      }
    },
  };
  return {
    loops: elements,
    magnitudesSingles(x, target, factor, constant) {
      const whole = x.length - (x.length % 4);
      let largest = 0;
      for (let at = 0; at < whole; at += CHUNK) {
        const length = Math.min(CHUNK, whole - at);
        const address = target.byteOffset + target.BYTES_PER_ELEMENT * at;
        loops.magnitudesSingles(
          addressOf(x, at, length, 0),
          address,
          results.byteOffset,
          length >> 2,
          factor,
          constant,
        );
        for (let lane = 0; lane < 4; lane++) largest = Math.max(largest, singles[lane] as number);
      }
      const [single, least] = [Math.fround(factor), Math.fround(constant)];
      for (let i = whole; i < x.length; i++) {
        target[i] = Math.fround(single * Math.abs(x[i] as number)) + least;
        if ((target[i] as number) > largest) largest = target[i] as number;
      }
      return largest;
    },
  };
}

const IS_MAXIMUM: readonly boolean[] = [true, true, false, false, false, false, true];

/** The part of the WebAssembly API in use: neither Node's types nor the ES library's declare it. */
interface WebAssemblyApi {
  readonly Memory: new (limits: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
  validate(bytes: Uint8Array<ArrayBuffer>): boolean;
}

type Loops = ElementLoops &
  Readonly<
    Record<
      | "multiply"
      | "multiplySingles"
      | "correlate3x3"
      | "correlate3x3Singles"
      | "copyRows"
      | "pack"
      | "magnitudesSingles",
      Loop
    >
  >;

/** Bytes of a float64, and of a page of WebAssembly memory. */
const ELEMENT = 8;
const PAGE = 65536;

let compiled: readonly object[] | undefined;

/**
 * Whether WebAssembly here has instructions that add products without rounding them first, if the processor can: a twentieth of a verification's time
 * less, and sums that are closer to the exact ones than the scalar engine's. Node 20 has them only with a flag, which the commands set.
 */
export function fusesProducts({ validate }: Pick<WebAssemblyApi, "validate">): boolean {
  const vectors = [local.get(0), local.get(0), local.get(0)];
  const body = [vectors, f64x2.relaxedMadd, local.set(0)];
  return validate(assemble([{ name: "fused", parameters: 0, integers: 0, vectors: 1, body }]));
}

/**
 * The engine in WebAssembly with 128-bit vectors, or the scalar one if these or the memory are not available.
 *
 * Its modules are under 4 KB, so that browsers compile them synchronously on any thread, and are compiled once: they have no
 * state. The memory never grows: views of it stay valid as long as they exist.
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
  compiled ??= [assembleLoops, assembleSingles].map(
    (assembled) => new api.Module(assembled(fusesProducts(api))),
  );
  const memory = new api.Memory({ initial: Math.ceil(((elements + SCRATCH) * ELEMENT) / PAGE) });
  const exported = compiled.map((module) => new api.Instance(module, { reference: { memory } }).exports);
  const loops: Loops = Object.assign({}, ...exported);
  const elementwise = vectorElements(memory.buffer, elements, loops);
  const singles = new Float32Array(memory.buffer, 0, 2 * elements);
  return {
    ...elementwise.loops,
    ...products(new Float64Array(memory.buffer, 0, elements), loops.multiply, loops.correlate3x3, loops),
    singles: {
      ...products(singles, loops.multiplySingles, loops.correlate3x3Singles, loops),
      magnitudes: elementwise.magnitudesSingles,
    },
  };
}

/** Bytes of a vector. */
const VECTOR = 16;

function products<N extends Numbers>(
  memory: N,
  multiply: Loop,
  correlate3x3: Loop,
  { copyRows, pack }: Pick<Loops, "copyRows" | "pack">,
): Products<N> {
  const element = memory.BYTES_PER_ELEMENT;
  const lanes = VECTOR / element;
  const tileColumns = 2 * lanes;
  return {
    memory,
    tileColumns,
    multiply: (p) =>
      multiply(
        p.rows * element,
        p.columns * element,
        p.bias * element,
        p.output * element,
        p.outputStride * element,
        p.depth,
        p.tiles,
      ),
    correlate3x3: (c) =>
      correlate3x3(
        c.input * element,
        c.inputStride * element,
        c.weights * element,
        c.output * element,
        c.outputStride * element,
        c.height,
        c.width / lanes,
      ),
    copyRows: (c) =>
      copyRows(
        c.from * element,
        c.to * element,
        c.rows,
        c.columns / lanes,
        c.fromStride * element,
        c.toStride * element,
      ),
    pack: (c) =>
      pack(
        c.from * element,
        c.to * element,
        c.rows,
        c.columns / tileColumns,
        c.fromStride * element,
        c.rows * tileColumns * element,
      ),
  };
}
