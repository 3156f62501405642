import { setFlagsFromString } from "node:v8";

/** Settings of V8 for what the commands do, in every process that they consist of. */
export function setEngineFlags(): void {
  // Commands mainly create tensors, outside of this heap: its young generation would grow to 48 MiB for little.
  setFlagsFromString("--semi-space-growth-factor=1");
  // What takes long here is in WebAssembly. Other functions are compiled again, optimised, only if they run eight times as long as is usual:
  // the two threads of a verification would otherwise spend a tenth of their time on that.
  setFlagsFromString("--interrupt-budget=540672");
}
