/** Whether bytes start as a POSIX tar archive does. */
export function isTar(bytes: Uint8Array): boolean {
  return String.fromCharCode(...bytes.subarray(257, 262)) === "ustar";
}
