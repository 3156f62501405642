import type { GateOutput, LayerGraph } from "./graph.js";

/** What one pixel of a stream's output sees. */
export interface StreamReceptiveField extends Pick<GateOutput, "block" | "stream"> {
  /** Side in pixels of the block's own input: 2t + 1 for stream t (ICCV 2019, section 3.2). */
  readonly inBlock: number;
  /** Side in pixels of the image. */
  readonly inImage: number;
}

/** Receptive field so far: side length and distance between neighbouring pixels, both in image pixels. */
interface Field {
  readonly side: number;
  readonly jump: number;
}

/**
 * The receptive field of each stream of each block, by walking the graph's windows. Gates, norms and pointwise layers
 * leave it as it is (a gate sees the whole image, but only scales). All windows of the network are square.
 */
export function receptiveFields(graph: LayerGraph): readonly StreamReceptiveField[] {
  const fields = new Map<string, Field>();
  const streams: StreamReceptiveField[] = [];
  const blockInput = new Map<string, Field>();
  for (const { name, op, inputs, block, stream } of graph.nodes) {
    const incoming = inputs.map((input) => fields.get(input) ?? { side: 1, jump: 1 });
    const widest = incoming.reduce((a, b) => (b.side > a.side ? b : a), { side: 1, jump: 1 });
    const scaled = op.kind === "scale" ? (incoming[0] ?? widest) : widest;
    const field = "kernel" in op ? slide(scaled, op.kernel[0], op.stride[0]) : scaled;
    fields.set(name, field);
    if (block === undefined) continue;
    if (!blockInput.has(block)) blockInput.set(block, widest);
    const start = blockInput.get(block) ?? widest;
    if (op.kind === "scale" && stream !== undefined)
      streams.push({
        block,
        stream,
        inBlock: (field.side - start.side) / start.jump + 1,
        inImage: field.side,
      });
  }
  return streams;
}

function slide({ side, jump }: Field, kernel: number, stride: number): Field {
  return { side: side + (kernel - 1) * jump, jump: jump * stride };
}
