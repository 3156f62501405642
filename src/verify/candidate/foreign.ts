import { declaredPixels } from "../../convert/export/metadata.js";
import { IMAGENET, type PixelOrder } from "../../convert/export/preprocess.js";
import type { OnnxModel } from "../../convert/formats/onnx/model.js";
import type { TfjsFiles } from "../../convert/formats/tfjs/model.js";
import type { Preprocess, Reading } from "../../convert/import/foreign.js";
import { towardsNchw } from "../../convert/import/layouts.js";
import type { GraphMatch } from "../../convert/import/match.js";
import { describePreprocess, type ImageInput, imageInput } from "../../convert/import/preprocess.js";
import type { TfjsMatch } from "../../convert/import/tfjs/translate.js";
import { permute, type RealTensor, type Tensor } from "../../core/tensor.js";
import type { LoadedModel, ModelBackend, RuntimeName } from "../backends/backend.js";
import { isCopied, type OnnxFile, onnxruntimeBackend } from "../backends/onnxruntime.js";
import { engineOf } from "../backends/registry.js";
import { tfjsBackend } from "../backends/tfjs.js";
import { inOrder } from "../inputs/images.js";
import { nearestImages, rawImages } from "../inputs/raw-images.js";
import type { Party } from "../report.js";
import type { Candidate } from "./candidate.js";
import {
  halfPrecision,
  type InterfaceOptions,
  inputFaults,
  outputFaults,
  structureFaults,
} from "./interface.js";
import { accountForOutputs } from "./outputs.js";
import { stagesOf } from "./stages.js";

/** What is known of a model already, and what runs it. */
interface FoundModel extends InterfaceOptions {
  readonly backend?: RuntimeName | undefined;
}

/** An ONNX file of any exporter as a candidate. */
export function foreignCandidate(
  file: OnnxFile,
  model: OnnxModel,
  match: GraphMatch,
  party: Party,
  { backend: runtime = "onnxruntime", ...options }: FoundModel,
): Candidate {
  const backend = onnxruntimeBackend(file, model, match.values, party.name, runtime);
  const candidate = matchedCandidate(model, match, party, backend, (images) => images, options);
  const { program } = candidate;
  return { ...candidate, ...(program ? { program: { ...program, isCopied: isCopied(file) } } : {}) };
}

/** A TensorFlow.js model of any converter as a candidate in tfjs. */
export function foreignTfjsCandidate(
  files: TfjsFiles,
  translated: OnnxModel,
  match: TfjsMatch,
  party: Party,
  { backend: runtime = "tfjs-wasm", ...options }: FoundModel = {},
): Candidate {
  const input = translated.graph.inputs[0]?.name ?? "";
  const backend = tfjsBackend(
    runtime,
    {
      plain: files,
      outputs: translated.graph.outputs.length,
      tapped: { files, input },
      nodes: match.values,
      asTheyAre: true,
    },
    party.name,
  );
  return matchedCandidate(
    translated,
    match,
    party,
    backend,
    (images) => permute(images, match.layout),
    options,
  );
}

/**
 * A matched file as a candidate: its layers are where matching found them, and the ways in which its graph departs from
 * the network are faults. Values whose axes are in another order, or that are quantised, are read as what they stand for; a
 * file that normalises raw pixels is given those behind the images.
 */
function matchedCandidate(
  model: OnnxModel,
  match: GraphMatch,
  party: Party,
  backend: ModelBackend,
  laidOut: (images: Tensor<"float32">) => Tensor<"float32">,
  options: InterfaceOptions,
): Candidate {
  const declared = declaredPixels(model.metadata, party.name);
  const order = options.inputOrder ?? declared ?? "rgb";
  const taken = imageInput(match.preprocess) ?? { white: undefined, order: "rgb" };
  // A file that declares its pixels is given them by the verification.
  const isFed = declared === undefined && match.preprocess !== undefined;
  const preprocess = isFed ? asTaken(match.preprocess, taken, order) : undefined;
  const feed = (images: Tensor<"float32">): Tensor<"float32"> =>
    preprocess
      ? rawImages(images, preprocess)
      : laidOut(declared === undefined ? inOrder(images, order) : images);
  const half = halfPrecision([...match.constants.values()].flatMap(({ weight }) => weight ?? []));
  const accounted = accountForOutputs({
    subject: party.name,
    graph: match.graph,
    model,
    values: match.values,
    match,
    isHalf: half.precision !== undefined,
    chosen: options.output,
  });
  const asProgram = (loaded: LoadedModel): LoadedModel => ({
    async run(images) {
      const values = await loaded.run(feed(images));
      return values.map((value, index) =>
        asRead(value, match.readings.get(accounted.outputs[index]?.name ?? "")),
      );
    },
    release: loaded.release,
  });
  const reading = (layer: string): Reading | undefined => match.readings.get(match.values.get(layer) ?? "");
  return {
    party,
    ...half,
    foldsNarrow: true,
    backend: {
      ...backend,
      async *run(images) {
        for await (const output of backend.run(
          feed(images),
          stagesOf(match.graph, backend.layers, images.shape),
        ))
          yield { ...output, tensor: asRead(output.tensor, reading(output.name)) };
      },
    },
    results: accounted.outputs.map(({ layer }) => layer),
    folded: match.folded,
    structure: [...inputFaults(match, order), ...structureFaults(match), ...outputFaults(accounted, match)],
    ...(preprocess
      ? {
          preprocess: {
            normalises: taken.white !== undefined,
            description: describePreprocess(match.preprocess ?? preprocess),
            nearest: (images) => nearestImages(images, preprocess),
          },
        }
      : {}),
    optimises: engineOf(backend.name).optimises ?? false,
    program: {
      ...accounted,
      load: (loading) => asProgram(backend.load(accounted.outputs, loading)),
    },
  };
}

/** What a file must be given so that its network reads the images: torchreid's statistics undone, whatever its own are. */
function asTaken(found: Preprocess, { white }: ImageInput, order: PixelOrder): Preprocess {
  const { mean, deviation } = IMAGENET;
  const channels = order === "rgb" ? [0, 1, 2] : [2, 1, 0];
  return {
    ...found,
    order: channels,
    scale: deviation.map((value) => (white === undefined ? 1 : 1 / (value * white))),
    shift: mean.map((value, channel) => (white === undefined ? 0 : -value / (deviation[channel] ?? 1))),
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
