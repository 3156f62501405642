import type { RealTensor } from "../../core/tensor.js";

/** Tensors that several threads read, in one block of memory that is used again and again. */
export interface SharedMemory {
  /** A copy, kept once; waits until there is room for it, or nothing is left that could make room. */
  share(tensor: RealTensor): Promise<RealTensor>;
  /** Counts one use more. Of tensors that are not shared, nothing is counted. */
  keep(tensor: RealTensor): void;
  /** Counts one use less; the last gives the memory back. */
  free(tensor: RealTensor): void;
}

/** Where a tensor lies in the block, in bytes; one that found no room lies elsewhere. */
interface Piece {
  readonly start: number;
  readonly end: number;
  uses: number;
}

const ALIGNMENT = 8;

/**
 * @param size of the block in bytes
 * @param change resolves when something may have been freed; false if nobody was at work who would free anything
 */
export function sharedMemory(size: number, change: () => Promise<boolean>): SharedMemory {
  const block = new SharedArrayBuffer(size);
  const pieces = new Map<RealTensor, Piece>();
  /** Those in the block, by their starts. */
  let taken: readonly Piece[] = [];

  function findGap(bytes: number): number | undefined {
    let start = 0;
    for (const piece of taken) {
      if (piece.start - start >= bytes) return start;
      start = piece.end;
    }
    return size - start >= bytes ? start : undefined;
  }

  function place(tensor: RealTensor, buffer: SharedArrayBuffer, offset: number, piece: Piece): RealTensor {
    const { dtype, shape, data } = tensor;
    const copy: RealTensor =
      dtype === "float32"
        ? { dtype, shape, data: new Float32Array(buffer, offset, data.length) }
        : { dtype, shape, data: new Float64Array(buffer, offset, data.length) };
    copy.data.set(data);
    pieces.set(copy, piece);
    return copy;
  }

  return {
    async share(tensor) {
      const bytes = Math.ceil(tensor.data.byteLength / ALIGNMENT) * ALIGNMENT;
      for (let isIdle = false; ; ) {
        const start = findGap(bytes);
        if (start !== undefined) {
          const piece = { start, end: start + bytes, uses: 1 };
          taken = [...taken, piece].sort((a, b) => a.start - b.start);
          return place(tensor, block, start, piece);
        }
        // All that is there waits for what is to come.
        if (isIdle) return place(tensor, new SharedArrayBuffer(bytes), 0, { start: 0, end: 0, uses: 1 });
        isIdle = !(await change());
      }
    },
    keep(tensor) {
      const piece = pieces.get(tensor);
      if (piece) piece.uses++;
    },
    free(tensor) {
      const piece = pieces.get(tensor);
      if (!piece || --piece.uses > 0) return;
      pieces.delete(tensor);
      taken = taken.filter((other) => other !== piece);
    },
  };
}
