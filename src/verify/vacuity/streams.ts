import type { RealTensor } from "../../tensor.js";
import { type Resolution, sameValues, type Untested, type Watch } from "./watch.js";

/** One stream of a block: the layer that gives its output, and the one that gives its gate vector. */
export interface StreamLayers {
  readonly stream: number;
  readonly layer: string;
}

/** Elements of a tensor that are compared: streams that agree in all of so many agree. */
const SAMPLE = 4096;

/**
 * Whether the values of a block's streams differ from each other: streams, or gates, that are alike could be exchanged
 * without a trace. Of each layer `SAMPLE` elements are kept, until all of a run's streams have been seen.
 */
export function watchStreams(
  streams: readonly StreamLayers[],
  what: "output" | "gate",
  { indistinguishable }: Resolution,
): Watch {
  const streamOf = new Map(streams.map(({ layer, stream }) => [layer, stream]));
  const samples = new Map<string, ArrayLike<number>>();
  /** Pairs that were compared; true once they differed. */
  const differ = new Map<string, boolean>();
  return {
    layers: streams.map(({ layer }) => layer),
    look(layer, tensor) {
      const sample = sampleOf(tensor);
      for (const [other, values] of samples) {
        const pair = `${other}\n${layer}`;
        if (other !== layer && !differ.get(pair))
          differ.set(pair, !sameValues(values, sample, indistinguishable));
      }
      samples.set(layer, sample);
      if (samples.size === streams.length) samples.clear();
    },
    untested: () =>
      [...differ].flatMap(([pair, differs]): readonly Untested[] => {
        const [other = "", layer = ""] = pair.split("\n");
        if (differs) return [];
        const stream = streamOf.get(layer);
        const reason = `its ${what} is that of stream ${streamOf.get(other)}: exchanged, they would not show`;
        return [{ layer, ...(stream === undefined ? {} : { stream }), reason }];
      }),
  };
}

/** Elements at regular places, the same for tensors of one size; an odd step visits all columns. */
function sampleOf({ data }: RealTensor): Float64Array {
  const step = 2 * Math.floor(data.length / (2 * SAMPLE)) + 1;
  return Float64Array.from({ length: Math.ceil(data.length / step) }, (_, index) => data[index * step] ?? 0);
}

/** Whether a gate's values [N, C, 1, 1] differ at all, between images or channels. */
export function watchGate({ layer, stream }: StreamLayers, { indistinguishable }: Resolution): Watch {
  let [least, most] = [Infinity, -Infinity];
  return {
    layers: [layer],
    look(_, { data }) {
      for (const value of data) {
        least = Math.min(least, value);
        most = Math.max(most, value);
      }
    },
    untested() {
      const scale = Math.max(Math.abs(least), Math.abs(most));
      if (least > most || most - least > indistinguishable * scale) return [];
      return [{ layer, stream, reason: "the gate is the same for all images and channels" }];
    },
  };
}
