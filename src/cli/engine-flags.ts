import { setFlagsFromString } from "node:v8";

/**
 * Settings of V8 for what the commands do, in every process that they consist of.
 *
 * @param isLong whether it runs many verifications: then collecting garbage as early as in one would take a quarter of the time
 */
export function setEngineFlags(isLong: boolean): void {
  // A single verification mainly creates tensors, outside of this heap: its young generation would grow for little.
  setFlagsFromString(`--semi-space-growth-factor=${isLong ? 2 : 1}`);
  // What a verification keeps outside of the heap counts towards the next collection of all of it, which is due when the heap has grown by a
  // share: by another half, after every 10 MB of tensors. Few of them are garbage: collecting later takes 5 % less time.
  setFlagsFromString("--heap-growing-percent=500");
  // Threads have `gc` then, for memory of WebAssembly, which would stay until enough other garbage has gathered.
  setFlagsFromString("--expose-gc");
  // What takes long here is in WebAssembly. Other functions are compiled again, optimised, only if they run eight times as long as is usual:
  // the two threads of a verification would otherwise spend a tenth of their time on that.
  setFlagsFromString("--interrupt-budget=540672");
  // Instructions of WebAssembly that add products without rounding them first. Later versions have them without a flag.
  if (process.versions.node.startsWith("20.")) setFlagsFromString("--experimental-wasm-relaxed-simd");
}
