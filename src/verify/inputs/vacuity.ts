import type { LayerGraph, LayerNode, Op } from "../../arch/index.js";
import { filled, largestMagnitude } from "../../core/functions.js";
import type { RealTensor } from "../../core/tensor.js";
import { UNIT_ROUNDOFF } from "../../core/tensor-cast.js";
import type { Vacuity } from "../outcome/report.js";

/** Something that the images leave untested. */
type Untested = Vacuity["untested"][number];

/**
 * One question about the images, such as whether a ReLU ever clips. It observes the outputs of its layers and keeps a
 * few numbers; once answered, it is dropped. It may observe several runs.
 */
interface Watch {
  /** The layers whose outputs it observes. */
  readonly layers: readonly string[];
  look(layer: string, tensor: RealTensor): void;
  /** What is still untested; undefined also if none of its layers was seen. */
  untested(): readonly Untested[];
}

/** When two values count as different. */
interface Resolution {
  /** Values that differ by less than this share of the largest count as equal: the drift of correct float32 files. */
  readonly indistinguishable: number;
  /** Relative rounding error of the candidate's arithmetic, such as 2⁻²⁴ for float32. */
  readonly unitRoundoff: number;
}

/** Whether two rows of values are equal: no element differs by more than a share of the largest. */
function sameValues(a: ArrayLike<number>, b: ArrayLike<number>, share: number): boolean {
  const limit = share * Math.max(largestMagnitude(a), largestMagnitude(b));
  for (let index = 0; index < a.length; index++)
    if (!(Math.abs((a[index] as number) - (b[index] ?? Number.NaN)) <= limit)) return false;
  return true;
}

/** Norms that use the image's own statistics. */
type NormOp = Op<"instanceNorm" | "layerNorm">;

/**
 * Whether the ε of an instance norm (per image and channel) or layer norm (per image) has a visible effect anywhere.
 *
 * The rule, for a group of mean μ and biased variance σ²: without ε the result would be √(1 + ε/σ²) times as large.
 * That has no visible effect if √(1 + ε/σ²) − 1 ≤ u (the variance is too large), if σ ≤ u·|μ| (the variance is itself
 * rounding error), or if σ = 0.
 */
function watchNorm(node: LayerNode, op: NormOp, { unitRoundoff }: Resolution): Watch {
  const [source = ""] = node.inputs;
  let [seen, shows] = [false, false];
  return {
    layers: [source],
    look(_, tensor) {
      seen = true;
      shows ||= someGroupShows(op, tensor, unitRoundoff);
    },
    untested() {
      if (!seen || shows) return [];
      const stream = node.stream === undefined ? {} : { stream: node.stream };
      const reason = `ε = ${op.epsilon} has no visible effect on these images`;
      return [{ layer: node.name, ...stream, reason }];
    },
  };
}

function someGroupShows({ kind, epsilon }: NormOp, { shape, data }: RealTensor, u: number): boolean {
  const [, channels = 1, height = 1, width = 1] = shape;
  const size = height * width * (kind === "layerNorm" ? channels : 1);
  for (let start = 0; start < data.length; start += size) {
    const { mean, variance } = moments(data, start, size);
    const effect = Math.expm1(Math.log1p(epsilon / variance) / 2);
    if (variance > 0 && effect > u && Math.sqrt(variance) > u * Math.abs(mean)) return true;
  }
  return false;
}

/** Mean and biased variance, in two passes. */
function moments(data: RealTensor["data"], start: number, size: number): { mean: number; variance: number } {
  let sum = 0;
  for (let index = start; index < start + size; index++) sum += data[index] as number;
  const mean = sum / size;
  let squares = 0;
  for (let index = start; index < start + size; index++) squares += ((data[index] as number) - mean) ** 2;
  return { mean, variance: squares / size };
}

/** Operations that reduce a window of pixels to one. */
type PoolOp = Op<"maxPool" | "avgPool" | "globalAvgPool" | "globalMaxPool">;

/** Whether any window of a pool contains two different values: otherwise maximum and average are equal. */
function watchPool(node: LayerNode, op: PoolOp): Watch {
  const [source = ""] = node.inputs;
  let [seen, varies] = [false, false];
  return {
    layers: [source],
    look(_, tensor) {
      seen = true;
      varies ||= someWindowVaries(op, tensor);
    },
    untested() {
      if (!seen || varies) return [];
      const stream = node.stream === undefined ? {} : { stream: node.stream };
      const reason = "every window is constant: maximum and average are the same";
      return [{ layer: node.name, ...stream, reason }];
    },
  };
}

/** Searches the windows [planes of H×W] for one that varies; padding is not part of a window. */
function someWindowVaries(op: PoolOp, { shape, data }: RealTensor): boolean {
  const [, , height = 1, width = 1] = shape;
  const { kernel, stride, padding } = windowOf(op, height, width);
  const plane = height * width;
  for (let start = 0; start < data.length; start += plane)
    for (let top = -padding[0]; top < height; top += stride[0])
      for (let left = -padding[1]; left < width; left += stride[1]) {
        let first: number | undefined;
        for (let y = Math.max(0, top); y < Math.min(height, top + kernel[0]); y++)
          for (let x = Math.max(0, left); x < Math.min(width, left + kernel[1]); x++) {
            const value = data[start + y * width + x] as number;
            first ??= value;
            if (value !== first) return true;
          }
      }
  return false;
}

function windowOf(op: PoolOp, height: number, width: number): Omit<Op<"maxPool">, "kind"> {
  if (op.kind === "maxPool") return op;
  if (op.kind === "avgPool") return { ...op, padding: [0, 0] };
  return { kernel: [height, width], stride: [height, width], padding: [0, 0] };
}

/**
 * Whether a ReLU both clips and passes values. One that never clips could be missing; if it always clips, its input has
 * no effect.
 *
 * Judged by the signs of its input; if the candidate fuses it with the layer before, by its own zeros.
 */
function watchRelu({ name, inputs: [source = ""], ...node }: LayerNode): Watch {
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
      const reason = passes ? "never clips: it could be absent" : "always clips: its input has no effect";
      return [{ layer: name, ...stream, reason }];
    },
  };
}

const isNegative = (value: number): boolean => value < 0;
const isZero = (value: number): boolean => value === 0;
const isPositive = (value: number): boolean => value > 0;

/**
 * Whether each hidden unit of a gate (a channel of `gate[t].relu`) ever fires, in any image or stream: the streams
 * share the weights, and those of a unit that never fires have no effect.
 *
 * @param nodes the block's `gate[t].relu`, one per stream
 */
function watchHiddenUnits(block: string, nodes: readonly LayerNode[]): Watch {
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

/** One stream of a block: its output's layer and its gate vector's layer. */
interface StreamLayers {
  readonly stream: number;
  readonly layer: string;
}

/** Number of elements compared: streams that agree in all of them count as equal. */
const SAMPLE = 4096;

/**
 * Whether the values of a block's streams differ from each other: equal streams or gates could be swapped unnoticed.
 * `SAMPLE` elements of each layer are kept until all of a run's streams have been seen.
 */
function watchStreams(
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
        const reason = `its ${what} is that of stream ${streamOf.get(other)}: swapping them would go unnoticed`;
        return [{ layer, ...(stream === undefined ? {} : { stream }), reason }];
      }),
  };
}

/** Elements at regular positions, the same for tensors of one size; an odd step visits all columns. */
function sampleOf({ data }: RealTensor): Float64Array {
  const step = 2 * Math.floor(data.length / (2 * SAMPLE)) + 1;
  return filled(new Float64Array(Math.ceil(data.length / step)), (index) => data[index * step] ?? 0);
}

/** Whether a gate's values [N, C, 1, 1] differ at all, between images or channels. */
function watchGate({ layer, stream }: StreamLayers, { indistinguishable }: Resolution): Watch {
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

/** Embeddings as they arrive, image by image, with the indices of their images. */
class Embeddings {
  private readonly rows: Float64Array[] = [];

  /** @param tensor [N, D], or [N, …] where the network has no embedding layer */
  add({ shape: [count = 0], data }: RealTensor): void {
    const width = count > 0 ? data.length / count : 0;
    for (let image = 0; image < count; image++)
      this.rows.push(new Float64Array(data.subarray(image * width, (image + 1) * width)));
  }

  /** Pairs of different images with the same embedding. */
  collapsed(images: RealTensor | undefined, share: number): Vacuity["collapsed"] {
    return this.rows.flatMap((row, image) =>
      this.rows
        .slice(0, image)
        .flatMap((other, earlier) =>
          sameValues(other, row, share) && !sameImage(images, earlier, image)
            ? [[earlier, image] as const]
            : [],
        ),
    );
  }
}

function sameImage(images: RealTensor | undefined, a: number, b: number): boolean {
  if (!images) return false;
  const size = images.data.length / (images.shape[0] ?? 1);
  for (let index = 0; index < size; index++)
    if (images.data[a * size + index] !== images.data[b * size + index]) return false;
  return true;
}

/** Finds what images leave untested, from the layer outputs of one or more runs. */
export interface VacuityObserver {
  /**
   * Observes a layer's output, NCHW or NC. Tensors need not outlive the call; layers may be missing, and what cannot be
   * decided without them is not reported.
   */
  observe(name: string, tensor: RealTensor): void;
  /** What everything observed so far leaves untested; more may be observed afterwards. */
  finish(): Vacuity;
}

/** What counts as tested. */
export interface VacuityOptions extends Partial<Resolution> {
  /** The images [N, 3, H, W] of the run, so that equal ones do not count as collapsed; else all count as different. */
  readonly images?: RealTensor;
}

/** Correct float32 files differ from the reference by up to 4e-5 of max; closer values cannot be distinguished. */
const INDISTINGUISHABLE: number = 2 ** -15;

/**
 * Observes a run for what its images leave untested: a fault there would not show in the values, however wrong it were.
 *
 * - ReLUs that never clip, or always do; hidden units of a gate that never fire, for any image or stream
 * - pools whose windows are all constant
 * - instance and layer norms whose ε has no visible effect (the rule: `watchNorm`)
 * - streams of a block with the same output, or the same gate vector; gates that are constant
 * - different images with the same embedding
 *
 * Each question keeps a few numbers and is dropped when it is answered, so that most tensors are hardly read.
 */
export function observeVacuity(graph: LayerGraph, options: VacuityOptions = {}): VacuityObserver {
  const { indistinguishable = INDISTINGUISHABLE, unitRoundoff = UNIT_ROUNDOFF, images } = options;
  const watches = questions(graph, { indistinguishable, unitRoundoff });
  const byLayer = new Map<string, Watch[]>();
  for (const watch of watches)
    for (const layer of watch.layers) byLayer.set(layer, [...(byLayer.get(layer) ?? []), watch]);
  const embeddings = new Embeddings();
  const order = new Map(graph.nodes.map(({ name }, index) => [name, index]));
  return {
    observe(name, tensor) {
      for (const watch of byLayer.get(name) ?? []) watch.look(name, tensor);
      if (name === graph.outputs.features) embeddings.add(tensor);
    },
    finish() {
      // A gate's shared modules, which are not layers themselves, take the position of the first stream's.
      const place = (layer: string): number =>
        order.get(layer) ?? order.get(layer.replace(".gate.", ".gate[1].")) ?? 0;
      return {
        untested: watches
          .flatMap((watch) => watch.untested())
          .toSorted((a, b) => place(a.layer) - place(b.layer)),
        collapsed: embeddings.collapsed(images, indistinguishable),
      };
    },
  };
}

function questions(graph: LayerGraph, resolution: Resolution): readonly Watch[] {
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const gates: readonly (StreamLayers & { readonly block: string })[] = graph.gates;
  const blocks = [...new Set(gates.map(({ block }) => block))];
  return [
    ...graph.nodes.flatMap((node) => watchesOf(node, resolution)),
    ...gates.map((gate) => watchGate(gate, resolution)),
    ...blocks.flatMap((block) => {
      const own = gates.filter((gate) => gate.block === block);
      const hidden = graph.nodes.filter(
        (node) => node.block === block && node.op.kind === "relu" && node.part === "gate",
      );
      return [
        watchHiddenUnits(block, hidden),
        watchStreams(own, "gate", resolution),
        watchStreams(streamOutputs(graph, block, nodes), "output", resolution),
      ];
    }),
  ];
}

function watchesOf(node: LayerNode, resolution: Resolution): readonly Watch[] {
  const { op } = node;
  switch (op.kind) {
    case "relu":
      return [watchRelu(node)];
    case "maxPool":
    case "avgPool":
    case "globalAvgPool":
    case "globalMaxPool":
      return [watchPool(node, op)];
    case "instanceNorm":
    case "layerNorm":
      return [watchNorm(node, op, resolution)];
    default:
      return [];
  }
}

/** The input of each stream's gate: the first input of the scaling. */
function streamOutputs(
  graph: LayerGraph,
  block: string,
  nodes: ReadonlyMap<string, LayerNode>,
): readonly StreamLayers[] {
  return graph.nodes.flatMap(({ op, inputs: [layer = ""], stream, ...node }) =>
    op.kind === "scale" && node.block === block && stream !== undefined && nodes.has(layer)
      ? [{ stream, layer }]
      : [],
  );
}
