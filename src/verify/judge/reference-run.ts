import type { LayerGraph } from "../../arch/index.js";
import { discard } from "../../core/bytes.js";
import type { RealTensor, StateDict, Tensor } from "../../core/tensor.js";
import { measure, type TensorMetrics } from "../metrics.js";
import { evaluate } from "../reference/evaluate.js";

/** What the float64 chain of layers depends on, as plain data: another thread may be sent it. */
export interface ReferenceSetting {
  readonly graph: LayerGraph;
  readonly images: Tensor<"float32">;
  readonly network: StateDict;
  /** Names of the layers that will be asked for. */
  readonly wanted: readonly string[];
  /** Names of those whose values are asked for, and not only how far others are from them. */
  readonly returned: readonly string[];
}

/** How far a candidate's value of a layer is from the reference network's. */
export interface Measured {
  readonly metrics: TensorMetrics;
  /** The reference network's value, of layers that are to be returned. */
  readonly expected?: RealTensor;
}

/** The reference network, run as far as it is asked for. */
export interface ReferenceRun {
  measure(name: string, actual: RealTensor): Measured;
  /** Computes one layer more and keeps it, if there is one and room for it; false if not. */
  runAhead(): boolean;
}

/** Bytes of layers that nobody has asked for yet. */
const AHEAD = 2 * 2 ** 20;

export function referenceRun({ graph, images, network, wanted, returned }: ReferenceSetting): ReferenceRun {
  const layers = evaluate(graph, network, images, { reuseMemory: true });
  const remaining = new Set(wanted);
  const whole = new Set(returned);
  const waiting = new Map<string, RealTensor>();
  let ahead = 0;

  function wait(name: string, { dtype, shape, data }: Tensor<"float64">): void {
    waiting.set(name, { dtype, shape, data: data.slice() });
    ahead += data.byteLength;
  }

  /** The value, and whether it is a copy. */
  function reach(name: string): { readonly tensor: RealTensor; readonly isCopy: boolean } {
    const known = waiting.get(name);
    if (known) {
      waiting.delete(name);
      ahead -= known.data.byteLength;
      return { tensor: known, isCopy: true };
    }
    for (;;) {
      const next = layers.next();
      if (next.done) throw new Error(`the network has no layer ${name} to come`);
      const { name: found, tensor } = next.value;
      if (found === name) return { tensor, isCopy: false };
      if (remaining.has(found)) wait(found, tensor);
    }
  }

  return {
    measure(name, actual) {
      const { tensor, isCopy } = reach(name);
      remaining.delete(name);
      const metrics = measure(tensor, actual);
      const expected = whole.has(name) && ({ ...tensor, data: tensor.data.slice() } as RealTensor);
      if (isCopy) discard(tensor.data);
      return expected ? { metrics, expected } : { metrics };
    },
    runAhead() {
      if (ahead >= AHEAD || remaining.size === waiting.size) return false;
      const next = layers.next();
      if (next.done) return false;
      const { name, tensor } = next.value;
      if (remaining.has(name)) wait(name, tensor);
      return true;
    },
  };
}
