import type { RealTensor } from "../../core/tensor.js";

/** Tensors that several threads read, in blocks of memory that are used again and again. */
export interface SharedMemory {
  /** A copy, kept once; waits until there is room for it, or nothing is left that could make room. */
  share(tensor: RealTensor): Promise<RealTensor>;
  /** Counts one use more. Of tensors that are not shared, nothing is counted. */
  keep(tensor: RealTensor): void;
  /** Counts one use less; the last gives the memory back. */
  free(tensor: RealTensor): void;
}

/** Where a tensor lies in its block, in bytes. */
interface Piece {
  readonly start: number;
  readonly end: number;
  readonly block: Block;
  uses: number;
}

interface Block {
  readonly buffer: SharedArrayBuffer;
  /** By their starts. */
  taken: readonly Piece[];
}

const ALIGNMENT = 8;

/** Bytes of a further block, at least. */
const FURTHER_BYTES = 2 ** 20;

/**
 * @param size of the first block in bytes; what finds no room, and cannot wait for any, makes another
 * @param change resolves when something may have been freed; false if nobody was at work who would free anything
 */
export function sharedMemory(size: number, change: () => Promise<boolean>): SharedMemory {
  const blocks: Block[] = [{ buffer: new SharedArrayBuffer(size), taken: [] }];
  const pieces = new Map<RealTensor, Piece>();

  function reserve(bytes: number): Piece | undefined {
    for (const block of blocks) {
      const start = gapIn(block, bytes);
      if (start === undefined) continue;
      const piece = { start, end: start + bytes, block, uses: 1 };
      block.taken = [...block.taken, piece].sort((a, b) => a.start - b.start);
      return piece;
    }
    return undefined;
  }

  function place({ dtype, shape, data }: RealTensor, piece: Piece): RealTensor {
    const { buffer } = piece.block;
    const copy: RealTensor =
      dtype === "float32"
        ? { dtype, shape, data: new Float32Array(buffer, piece.start, data.length) }
        : { dtype, shape, data: new Float64Array(buffer, piece.start, data.length) };
    copy.data.set(data);
    pieces.set(copy, piece);
    return copy;
  }

  return {
    async share(tensor) {
      const bytes = Math.ceil(tensor.data.byteLength / ALIGNMENT) * ALIGNMENT;
      for (;;) {
        const piece = reserve(bytes);
        if (piece) return place(tensor, piece);
        // All that is there waits for what is to come: memory of its own would be garbage until it is collected.
        if (!(await change()) && !blocks.some((block) => gapIn(block, bytes) !== undefined))
          blocks.push({ buffer: new SharedArrayBuffer(Math.max(bytes, FURTHER_BYTES)), taken: [] });
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
      const { block } = piece;
      block.taken = block.taken.filter((other) => other !== piece);
    },
  };
}

function gapIn({ buffer, taken }: Block, bytes: number): number | undefined {
  let start = 0;
  for (const piece of taken) {
    if (piece.start - start >= bytes) return start;
    start = piece.end;
  }
  return buffer.byteLength - start >= bytes ? start : undefined;
}
