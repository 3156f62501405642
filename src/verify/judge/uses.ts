import type { RealTensor } from "../../core/tensor.js";

/** Uses of tensors whose memory is released after the last one: the garbage collector would take it much later. */
export interface CountedUses {
  /**
   * Counts one use of a tensor.
   *
   * @param release undefined if its memory is not to be released: another tensor of the same numbers is to come
   */
  hold(tensor: RealTensor, release: (() => void) | undefined): void;
  /** Counts one more use. Ignores tensors that are not held. */
  keep(tensor: RealTensor): void;
  /** Counts one use less. */
  free(tensor: RealTensor): void;
}

export function countedUses(): CountedUses {
  // Layers may share a value, and then its numbers.
  const held = new Map<RealTensor["data"], { uses: number; release: (() => void) | undefined }>();
  return {
    hold({ data }, release) {
      const uses = held.get(data)?.uses ?? 0;
      held.set(data, { uses: uses + 1, release });
    },
    keep({ data }) {
      const known = held.get(data);
      if (known) known.uses++;
    },
    free({ data }) {
      const known = held.get(data);
      if (!known || --known.uses > 0) return;
      held.delete(data);
      known.release?.();
    },
  };
}
