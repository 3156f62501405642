import { type LayerGraph, outputShapes } from "../../arch/index.js";
import type { NpzArchive } from "../../convert/formats/npz.js";
import { InputError } from "../../core/errors.js";
import {
  elementCount,
  formatShape,
  type RealTensor,
  type StateDict,
  sameShape,
  type Tensor,
} from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import { type EvaluatedLayer, evaluate } from "../reference/evaluate.js";
import type { Backend, LayerOutput } from "./backend.js";

/** Maximum bytes of a run that is kept: of a small network, or small images. */
const KEPT_BYTES = 48 * 2 ** 20;

/** A run of a network. Suites verify many files of one network on the same images. */
interface KeptRun {
  readonly graph: LayerGraph;
  readonly images: Tensor<"float32">;
  /** As far as they were requested: a comparison ends with the last layer that the candidate has. */
  readonly layers: EvaluatedLayer[];
  /** Those after them. */
  readonly others: Iterator<EvaluatedLayer, void>;
  /** Of all layers. */
  readonly bytes: number;
}

/** The last runs of networks, as far as they were small enough to keep. */
const keptRuns = new WeakMap<StateDict, readonly KeptRun[]>();

/** Runs of a network that are kept: on the images of its files, and on those of a recording between them. */
const MAX_KEPT = 2;

/**
 * The network as defined, in float64. Read a tensor before asking for the next, and do not modify it: its memory is
 * reused.
 *
 * @param keptBytes maximum bytes of its runs that are kept until the network is garbage
 */
export function referenceBackend(
  graph: LayerGraph,
  stateDict: StateDict,
  keptBytes: number = KEPT_BYTES,
): Backend {
  return {
    name: "reference",
    layers: graph.nodes.map(({ name }) => name),
    network: stateDict,
    async *run(images): AsyncGenerator<LayerOutput> {
      const known = keptRuns.get(stateDict) ?? [];
      const bytes = bytesOfRun(graph, images);
      if (bytes > keptBytes) {
        yield* evaluate(graph, stateDict, images, { reuseMemory: true });
        return;
      }
      let kept = known.find((run) => run.graph === graph && isSame(run.images, images));
      if (!kept) {
        const own = { ...images, data: images.data.slice() };
        kept = { graph, images: own, layers: [], others: evaluate(graph, stateDict, own), bytes };
        const others = known.filter((other) => other.bytes <= keptBytes - bytes).slice(0, MAX_KEPT - 1);
        keptRuns.set(stateDict, [kept, ...others]);
      }
      try {
        for (let index = 0; ; index++) {
          const layer = kept.layers[index] ?? kept.others.next().value;
          if (!layer) return;
          kept.layers[index] = layer;
          yield layer;
        }
      } catch (error) {
        // It would seem to end where it failed.
        keptRuns.delete(stateDict);
        throw error;
      }
    },
  };
}

/** Bytes of the values of all layers; infinite for invalid images, which are refused when they are computed. */
function bytesOfRun(
  graph: LayerGraph,
  { shape: [count = 0, channels = 0, height = 0, width = 0], ...images }: Tensor<"float32">,
): number {
  if (channels !== 3 || images.data.length !== count * 3 * height * width) return Infinity;
  const shapes = outputShapes(graph, [count, channels, height, width]);
  return [...shapes.values()].reduce((bytes, shape) => bytes + 8 * elementCount(shape), 0);
}

function isSame(a: Tensor<"float32">, b: Tensor<"float32">): boolean {
  return (
    a.shape.join() === b.shape.join() &&
    a.data.length === b.data.length &&
    a.data.every((value, index) => Object.is(value, b.data[index]))
  );
}

/** Keys of a recording that are not module paths. */
const INPUT_KEY = "input";
const OUTPUT_KEY = "output";

/** Activations recorded by PyTorch, with the images they were recorded on. */
export interface Recording {
  /** Yields the recorded values; it takes only the images of the recording. */
  readonly backend: Backend;
  /** The images [N, 3, H, W] that PyTorch was run on. */
  readonly images: Tensor<"float32">;
}

/**
 * Opens recorded activations: an .npz whose keys are torchreid module paths, gates with their stream
 * (`conv2.0.gate[1].fc1`), and `input` and `output`. It may have fewer tensors than the network has layers, but nothing
 * that the network lacks, and it must have the output.
 *
 * A container's recording (`conv1`) is that of its last layer (`conv1.relu`): it is used if that is not recorded, and
 * must have the same values if it is.
 *
 * @throws InputError (`format`, `tensor`) if keys are missing or unknown, or the recording contradicts itself
 */
export function openRecording(archive: NpzArchive, graph: LayerGraph, subject: string): Recording {
  const layers = new Set(graph.nodes.map(({ name }) => name));
  const sources = new Map<string, string[]>();
  const unknown: string[] = [];
  for (const key of archive.names) {
    if (key === INPUT_KEY) continue;
    const layer =
      key === OUTPUT_KEY ? graph.outputs[graph.outputs.evaluation] : (graph.aliases.get(key) ?? key);
    if (layer === undefined || !layers.has(layer)) unknown.push(key);
    else sources.set(layer, [...(sources.get(layer) ?? []), key]);
  }
  for (const key of [INPUT_KEY, OUTPUT_KEY])
    if (!archive.names.includes(key)) throw notRecording(subject, `no array ${JSON.stringify(key)}`);
  if (unknown.length > 0)
    throw notRecording(subject, `${unknown.length} arrays that are not layers of this network`, unknown);

  const images = archive.read(INPUT_KEY);
  const recorded = graph.nodes.filter(({ name }) => sources.has(name)).map(({ name }) => name);
  return {
    images: asImages(images, subject),
    backend: {
      name: "recorded",
      layers: recorded,
      async *run(): AsyncGenerator<LayerOutput> {
        for (const name of recorded)
          yield { name, tensor: readLayer(archive, sources.get(name) ?? [], subject) };
      },
    },
  };
}

/** Reads a layer under one of its keys, and checks that its other keys have the same values. */
function readLayer(archive: NpzArchive, keys: readonly string[], subject: string): RealTensor {
  const [first = "", ...others] = keys;
  const tensor = toReal(archive.read(first), `${subject}[${JSON.stringify(first)}]`);
  for (const key of others) {
    const same = toReal(archive.read(key), `${subject}[${JSON.stringify(key)}]`);
    // The network's output may be recorded flattened, unlike the layer's own output.
    const agrees =
      same.data.length === tensor.data.length &&
      same.data.every((value, i) => Object.is(value, tensor.data[i]));
    if (!agrees || (key !== OUTPUT_KEY && !sameShape(same.shape, tensor.shape)))
      throw notRecording(subject, `${key} different from ${first}, though both name one layer's output`);
  }
  return tensor;
}

/** A float64 recording's images are float32 images widened: narrowing them back must lose nothing. */
function asImages(tensor: Tensor, subject: string): Tensor<"float32"> {
  const real = toReal(tensor, `${subject}[${JSON.stringify(INPUT_KEY)}]`);
  const [batch = 0, channels] = real.shape;
  if (real.shape.length !== 4 || channels !== 3 || batch < 1)
    throw notRecording(subject, `an input of shape ${formatShape(real.shape)}`);
  const data = new Float32Array(real.data);
  if (!data.every((value, index) => value === real.data[index]))
    throw notRecording(subject, "float64 input values that float32 cannot represent");
  return { dtype: "float32", shape: real.shape, data };
}

function notRecording(subject: string, found: string, details: readonly string[] = []): InputError {
  return new InputError({
    code: "tensor",
    subject,
    found,
    expected: "PyTorch activations under torchreid module paths, with input [N, 3, H, W] and output",
    remedy: "record them with python/record_activations.py",
    details,
  });
}
