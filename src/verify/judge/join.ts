import type { RealTensor } from "../../core/tensor.js";
import type { LayerOutput } from "../backends/backend.js";

/** The two sides' values of one layer; valid until the next is asked for. */
export interface JoinedLayer {
  readonly name: string;
  readonly expected: RealTensor;
  readonly actual: RealTensor;
  /** What the actual side has given again, right before this layer. */
  readonly again: readonly LayerOutput[];
}

/**
 * Joins two streams of layer outputs by exact name, and yields each wanted layer as soon as both sides have it. Two
 * backends in network order advance in step, and nothing is held; a side that runs ahead has its values copied, since
 * backends may use a tensor's memory again. What either side never yields is never yielded here: the caller compares
 * names.
 */
export async function* joinByName(
  expected: AsyncIterable<LayerOutput>,
  actual: AsyncIterable<LayerOutput>,
  wanted: ReadonlySet<string>,
): AsyncGenerator<JoinedLayer> {
  const remaining = new Set(wanted);
  const left = openSide(expected, remaining);
  const right = openSide(actual, remaining);
  try {
    while (remaining.size > 0) {
      const fromLeft = await left.next();
      const fromRight = await right.next();
      if (!fromLeft && !fromRight) return;
      const pairs =
        fromLeft && fromRight?.name === fromLeft.name
          ? [joined(fromLeft, fromRight)]
          : [...pairUp(fromLeft, left, right), ...pairUp(fromRight, right, left)];
      for (const pair of pairs) {
        remaining.delete(pair.name);
        yield pair;
      }
    }
  } finally {
    await left.close();
    await right.close();
  }

  function* pairUp(output: SideOutput | undefined, own: OpenSide, other: OpenSide): Generator<JoinedLayer> {
    if (!output) return;
    const { name, tensor, again } = output;
    const partner = other.waiting.get(name);
    if (!partner) {
      own.waiting.set(name, { name, tensor: { ...tensor, data: tensor.data.slice() } as RealTensor, again });
      return;
    }
    other.waiting.delete(name);
    yield own === left ? joined(output, partner) : joined(partner, output);
  }
}

function joined(expected: SideOutput, { name, tensor, again }: SideOutput): JoinedLayer {
  return { name, expected: expected.tensor, actual: tensor, again };
}

/** A layer that is wanted, with what its side has given again right before it: a side may run ahead of the other. */
interface SideOutput {
  readonly name: string;
  readonly tensor: RealTensor;
  readonly again: readonly LayerOutput[];
}

interface OpenSide {
  /** Values whose partner has not come yet. */
  readonly waiting: Map<string, SideOutput>;
  /** The next value that is still wanted. */
  next(): Promise<SideOutput | undefined>;
  close(): Promise<void>;
}

function openSide(source: AsyncIterable<LayerOutput>, wanted: ReadonlySet<string>): OpenSide {
  const iterator = source[Symbol.asyncIterator]();
  return {
    waiting: new Map(),
    async next() {
      const again: LayerOutput[] = [];
      for (;;) {
        const result = await iterator.next();
        if (result.done) return undefined;
        const { name, tensor } = result.value;
        if (result.value.again) again.push(result.value);
        else if (wanted.has(name)) return { name, tensor, again };
      }
    },
    async close() {
      await iterator.return?.();
    },
  };
}
