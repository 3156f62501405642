/**
 * Counts what one input makes a reader allocate. Typed arrays are counted as they are constructed, also where the
 * operating system would never touch their pages; for JavaScript's own objects, the process's peak tells.
 *
 * To be installed before the readers are loaded: libraries keep the constructors that they find.
 */

export interface Meter {
  reset(): void;
  read(): { readonly allocated: number; readonly peakGrowth: number };
}

const COUNTED = [
  "Uint8Array",
  "Int8Array",
  "Uint16Array",
  "Int16Array",
  "Uint32Array",
  "Int32Array",
  "Float32Array",
  "Float64Array",
  "BigInt64Array",
  "BigUint64Array",
] as const;

export function installMeter(): Meter {
  let allocated = 0;
  let peak = 0;
  for (const name of COUNTED) {
    const original = globalThis[name];
    const counted: typeof original = new Proxy(original, {
      construct(arrayType, args: readonly unknown[], newTarget): object {
        const [source] = args;
        // A view over a buffer costs nothing; a number, or anything with a length, costs its elements.
        const length = typeof source === "number" ? source : lengthOf(source);
        allocated += length * original.BYTES_PER_ELEMENT;
        return Reflect.construct(arrayType, args, newTarget === counted ? arrayType : newTarget);
      },
    });
    Object.defineProperty(globalThis, name, { value: counted, configurable: true, writable: true });
  }
  return {
    reset() {
      allocated = 0;
      peak = process.resourceUsage().maxRSS;
    },
    read: () => ({ allocated, peakGrowth: 1024 * (process.resourceUsage().maxRSS - peak) }),
  };
}

function lengthOf(source: unknown): number {
  if (typeof source !== "object" || source === null || source instanceof ArrayBuffer) return 0;
  return "length" in source && typeof source.length === "number" ? source.length : 0;
}
