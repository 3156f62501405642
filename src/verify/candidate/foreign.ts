import { declaresPixels } from "../../convert/export/metadata.js";
import type { OnnxModel } from "../../convert/formats/onnx/index.js";
import type { TfjsFiles } from "../../convert/formats/tfjs/index.js";
import {
  describePreprocess,
  type GraphMatch,
  type Reading,
  towardsNchw,
} from "../../convert/import/index.js";
import type { TfjsMatch } from "../../convert/import/tfjs/index.js";
import type { RealTensor, Shape, Tensor } from "../../core/tensor.js";
import { permute } from "../../core/tensor.js";
import type { Backend, LayerOutput, LoadedModel, LoadOptions, TfjsBackendName } from "../backends/backend.js";
import { onnxruntimeBackend } from "../backends/onnxruntime.js";
import { type TfjsBackend, tfjsBackend } from "../backends/tfjs.js";
import { layerFault } from "../faults.js";
import { nearestImages, rawImages } from "../inputs/raw-images.js";
import type { Fault, Party } from "../report.js";
import type { Candidate } from "./candidate.js";
import { halfPrecision } from "./onnx-candidate.js";
import { stagesOf } from "./stages.js";

/** What runs a file: under layer names, with values and images as the file has them. */
interface Runner {
  readonly backend: Backend;
  /** A run of it, of images that are of this shape where the network reads them: [N, 3, H, W]. */
  readonly run: (raw: Tensor<"float32">, shape: Shape) => AsyncIterable<LayerOutput>;
  /** The file as it is, for one of its outputs. */
  readonly plain: (output: string, options?: LoadOptions) => LoadedModel;
  /** Whether it rewrites graphs, and can be told not to. */
  readonly optimises?: boolean;
}

/** A file as runtimes are given it. */
export interface OnnxBytes {
  /** With every value in reach: none in a function, or in a branch that is taken. */
  readonly bytes: Uint8Array;
  /** As it is, but for weights that lay beside it. */
  readonly whole: Uint8Array;
}

/** An ONNX file of any exporter as a candidate in onnxruntime. */
export function foreignCandidate(
  { bytes, whole }: OnnxBytes,
  model: OnnxModel,
  match: GraphMatch,
  party: Party,
): Candidate {
  const backend = onnxruntimeBackend(bytes, model, match.values, party.name, whole);
  const runner: Runner = {
    backend,
    run: (raw, shape) => backend.run(raw, stagesOf(match.graph, backend.layers, shape)),
    plain: backend.plain,
    optimises: true,
  };
  return matchedCandidate(model, match, party, runner, (images) => images);
}

/** A TensorFlow.js model of any converter as a candidate in tfjs. */
export function foreignTfjsCandidate(
  files: TfjsFiles,
  translated: OnnxModel,
  match: TfjsMatch,
  party: Party,
  backendName: TfjsBackendName = "tfjs-wasm",
): Candidate {
  const program = { files, input: translated.graph.inputs[0]?.name ?? "" };
  const backendFor = (output: string): TfjsBackend =>
    tfjsBackend(
      backendName,
      { plain: { program, output }, tapped: program, nodes: match.values, asTheyAre: true },
      party.name,
    );
  const backend = backendFor("");
  const runner: Runner = {
    backend,
    run: (raw, shape) => backend.run(raw, stagesOf(match.graph, backend.layers, shape)),
    plain: (output) => backendFor(output).plain(),
  };
  return matchedCandidate(translated, match, party, runner, (images) => permute(images, match.layout));
}

/**
 * A matched file as a candidate: its layers are where matching found them, and the ways in which its graph departs from
 * the network are faults. Values whose axes are in another order, or that are quantised, are read as what they stand for; a
 * file that normalises its input is given what becomes the images.
 */
function matchedCandidate(
  { metadata }: Pick<OnnxModel, "metadata">,
  match: GraphMatch,
  party: Party,
  { backend, run, plain: loadPlain, optimises }: Runner,
  laidOut: (images: Tensor<"float32">) => Tensor<"float32">,
): Candidate {
  const { features, evaluation } = match.graph.outputs;
  const wanted = [features, match.graph.outputs[evaluation]];
  // An output that is normalised or cut is not the layer, though the layer can be read from within.
  const direct = match.outputs.filter(({ tail }) => tail.length === 0);
  const plain = direct.find(({ layer }) => wanted.includes(layer)) ?? direct[0];
  // A file of ours that takes pixels is given them by the verification.
  const preprocess = declaresPixels(metadata) ? undefined : match.preprocess;
  const feed = (images: Tensor<"float32">): Tensor<"float32"> =>
    preprocess ? rawImages(images, preprocess) : laidOut(images);
  const reading = (layer: string): Reading | undefined => match.readings.get(match.values.get(layer) ?? "");
  return {
    party,
    ...halfPrecision([...match.constants.values()].flatMap(({ weight }) => weight ?? [])),
    foldsNarrow: true,
    backend: {
      ...backend,
      async *run(images) {
        for await (const output of run(feed(images), images.shape))
          yield { ...output, tensor: asRead(output.tensor, reading(output.name)) };
      },
    },
    results: match.outputs.map(({ layer }) => layer),
    folded: match.folded,
    structure: structureFaults(match),
    ...(preprocess
      ? {
          preprocess: {
            description: describePreprocess(preprocess),
            nearest: (images) => nearestImages(images, preprocess),
          },
        }
      : {}),
    ...(plain
      ? {
          ...(optimises ? { optimises } : {}),
          plain: {
            name: plain.layer,
            load(options) {
              const { run, release } = loadPlain(plain.name, options);
              const read = match.readings.get(plain.name);
              return { run: async (images) => asRead(await run(feed(images)), read), release };
            },
          },
        }
      : {}),
  };
}

/** A value of the file as the activation that it stands for. */
function asRead(tensor: RealTensor, { layout, isFlat, isLine, quantised }: Reading = {}): RealTensor {
  const isSpread = isFlat && tensor.shape.length === 2;
  const isNarrow = isLine && tensor.shape.length === 3;
  const shape = isSpread ? [...tensor.shape, 1, 1] : isNarrow ? tensor.shape.slice(0, 2) : tensor.shape;
  const whole = isSpread || isNarrow ? { ...tensor, shape } : tensor;
  const moved =
    layout && whole === tensor && tensor.shape.length === layout.length
      ? permute(tensor, towardsNchw(layout))
      : whole;
  if (!quantised) return moved;
  const { scale, zero } = quantised;
  return {
    dtype: "float64",
    shape: moved.shape,
    data: Float64Array.from(moved.data, (element) => (element - zero) * scale),
  };
}

/** What a state dict cannot show, so that it may be the reference's description that is wrong. */
const GATE_HINT =
  "; if the reference was trained with such gates, which a state dict cannot show, say so with --arch";

function structureFaults({ differences, graph }: GraphMatch): readonly Fault[] {
  const activations = new Set(graph.gates.map(({ layer }) => layer));
  const isUnanimous =
    differences.length === activations.size && differences.every(({ layer }) => activations.has(layer));
  return differences.map(({ layer, stream, found, expected }) =>
    layerFault(
      { name: layer, ...(stream === undefined ? {} : { stream }) },
      "structure",
      null,
      `found ${found}, expected ${expected}${isUnanimous ? GATE_HINT : ""}`,
    ),
  );
}
