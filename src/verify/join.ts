import type { LayerOutput } from "./backend.js";

/** The two sides' values of one layer; valid until the next is asked for. */
export interface JoinedLayer {
  readonly name: string;
  readonly expected: LayerOutput["tensor"];
  readonly actual: LayerOutput["tensor"];
  /** What the actual side has given again since the layer before. */
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
          ? [{ name: fromLeft.name, expected: fromLeft.tensor, actual: fromRight.tensor }]
          : [...pairUp(fromLeft, left, right), ...pairUp(fromRight, right, left)];
      for (const pair of pairs) {
        remaining.delete(pair.name);
        yield { ...pair, again: right.again.splice(0) };
      }
    }
  } finally {
    await left.close();
    await right.close();
  }

  function* pairUp(
    output: LayerOutput | undefined,
    own: OpenSide,
    other: OpenSide,
  ): Generator<Omit<JoinedLayer, "again">> {
    if (!output) return;
    const { name, tensor } = output;
    const partner = other.waiting.get(name);
    if (!partner) {
      own.waiting.set(name, { ...tensor, data: tensor.data.slice() } as LayerOutput["tensor"]);
      return;
    }
    other.waiting.delete(name);
    yield own === left
      ? { name, expected: tensor, actual: partner }
      : { name, expected: partner, actual: tensor };
  }
}

interface OpenSide {
  /** Values whose partner has not come yet. */
  readonly waiting: Map<string, LayerOutput["tensor"]>;
  /** Values that were given again, and are nobody's partner. */
  readonly again: LayerOutput[];
  /** The next value that is still wanted. */
  next(): Promise<LayerOutput | undefined>;
  close(): Promise<void>;
}

function openSide(source: AsyncIterable<LayerOutput>, wanted: ReadonlySet<string>): OpenSide {
  const iterator = source[Symbol.asyncIterator]();
  const again: LayerOutput[] = [];
  return {
    waiting: new Map(),
    again,
    async next() {
      for (;;) {
        const result = await iterator.next();
        if (result.done) return undefined;
        if (result.value.again) again.push(result.value);
        else if (wanted.has(result.value.name)) return result.value;
      }
    },
    async close() {
      await iterator.return?.();
    },
  };
}
