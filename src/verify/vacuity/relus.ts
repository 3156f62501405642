import type { LayerNode } from "../../arch/index.js";
import type { RealTensor } from "../../tensor.js";
import type { Watch } from "./watch.js";

/**
 * Whether a ReLU ever clips and ever lets pass. One that never clips could as well be absent; behind one that always does,
 * nothing of what it should read shows.
 *
 * Judged by the signs of its input; where the candidate computes it with the layer before, by its own zeros.
 */
export function watchRelu({ name, inputs: [source = ""], ...node }: LayerNode): Watch {
  let [clips, passes] = [false, false];
  let seen = false;
  let sourceSeen = false;
  const stream = node.stream === undefined ? {} : { stream: node.stream };
  return {
    layers: [source, name],
    look(layer, { data }) {
      if (layer === source) sourceSeen = true;
      else if (sourceSeen) return;
      seen = true;
      if (clips && passes) return;
      clips ||= layer === source ? data.some(isNegative) : data.some(isZero);
      passes ||= data.some(isPositive);
    },
    untested() {
      if (!seen || (clips && passes)) return [];
      const reason = passes ? "never clips: it could be absent" : "always clips: what it reads does not show";
      return [{ layer: name, ...stream, reason }];
    },
  };
}

const isNegative = (value: number): boolean => value < 0;
const isZero = (value: number): boolean => value === 0;
const isPositive = (value: number): boolean => value > 0;

/**
 * Whether each hidden unit of a gate (a channel of `gate[t].relu`) ever fires, in any image or stream: the weights are
 * shared by the streams, and those of a unit that never fires do not show.
 *
 * @param nodes the block's `gate[t].relu`, one per stream
 */
export function watchHiddenUnits(block: string, nodes: readonly LayerNode[]): Watch {
  let fired: boolean[] = [];
  return {
    layers: nodes.map(({ name }) => name),
    look(_, { shape, data }: RealTensor) {
      const units = shape[1] ?? 0;
      if (fired.length === 0) fired = Array.from({ length: units }, () => false);
      for (let index = 0; index < data.length; index++)
        if ((data[index] as number) > 0) fired[index % units] = true;
    },
    untested: () =>
      fired.flatMap((fires, unit) => {
        const reason = `hidden unit ${unit} of ${fired.length} never fires, for any image or stream`;
        return fires ? [] : [{ layer: `${block}.gate.fc1`, reason }];
      }),
  };
}
