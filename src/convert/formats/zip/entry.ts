/** One file in an archive. */
export interface ZipEntry {
  readonly name: string;
  readonly method: number;
  readonly flags: number;
  readonly compressedSize: number;
  readonly size: number;
  /** Where its data starts in the archive. */
  readonly start: number;
}

/** An entry as the central directory has it, before its data has been found. */
export interface CentralEntry extends Omit<ZipEntry, "start"> {
  readonly nameBytes: Uint8Array;
  readonly headerOffset: number;
}
