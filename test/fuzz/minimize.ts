import { replaced } from "./mutate/bytes.js";

/** As many tries as one input gets; each is a run of the reader. */
const MAX_TRIES = 4000;

/**
 * Makes a failing input smaller: takes out chunks, halving their size down to a byte, as long as it fails all the same
 * (A. Zeller, "Simplifying and Isolating Failure-Inducing Input", 2002, without the complement step).
 */
export function minimize(bytes: Uint8Array, fails: (bytes: Uint8Array) => boolean): Uint8Array {
  let smallest = bytes;
  let tries = 0;
  for (let size = Math.ceil(bytes.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < smallest.length && tries < MAX_TRIES; tries++) {
      const shorter = replaced(smallest, at, size, new Uint8Array(0));
      if (fails(shorter)) smallest = shorter;
      else at += size;
    }
  }
  return smallest;
}
