import type { OnnxModel } from "../convert/formats/onnx/index.js";
import { describePreprocess, type OnnxMatch, type Reading, towardsNchw } from "../convert/lift/index.js";
import { elementCount, type RealTensor } from "../tensor.js";
import { onnxruntimeBackend } from "./backends/onnxruntime.js";
import type { Candidate } from "./candidate.js";
import { layerFault } from "./faults.js";
import { halfPrecision } from "./onnx-candidate.js";
import { nearestImages, rawImages } from "./raw-images.js";
import type { Fault, Party } from "./report.js";
import { stagesOf } from "./stages.js";

/** Key under which a file of ours declares that it takes pixels, which the verification then gives it. */
const DECLARED_PIXELS = "osnet.preprocess";

/**
 * An ONNX file of any exporter as a candidate in onnxruntime: its layers are where matching found them, and the ways in
 * which its graph departs from the network are faults. Values whose axes are in another order, or that are quantised, are
 * read as what they stand for; a file that normalises its input is given what becomes the images.
 */
export function foreignCandidate(
  bytes: Uint8Array,
  model: OnnxModel,
  match: OnnxMatch,
  party: Party,
): Candidate {
  const backend = onnxruntimeBackend(bytes, model, match.values, party.name);
  const { features, evaluation } = match.graph.outputs;
  const wanted = [features, match.graph.outputs[evaluation]];
  // An output that is normalised or cut is not the layer, though the layer can be read from within.
  const direct = match.outputs.filter(({ tail }) => tail.length === 0);
  const plain = direct.find(({ layer }) => wanted.includes(layer)) ?? direct[0];
  const preprocess = model.metadata.has(DECLARED_PIXELS) ? undefined : match.preprocess;
  const feed: typeof backend.run = (images) =>
    backend.run(
      preprocess ? rawImages(images, preprocess) : images,
      stagesOf(match.graph, backend.layers, images.shape),
    );
  const reading = (layer: string): Reading | undefined => match.readings.get(match.values.get(layer) ?? "");
  return {
    party,
    ...halfPrecision([...match.constants.values()].flatMap(({ weight }) => weight ?? [])),
    backend: {
      ...backend,
      async *run(images) {
        for await (const output of feed(images))
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
          untapped: async (images) => {
            const raw = preprocess ? rawImages(images, preprocess) : images;
            const tensor = asRead(await backend.plain(raw, plain.name), match.readings.get(plain.name));
            return { name: plain.layer, tensor };
          },
        }
      : {}),
  };
}

/** A value of the file as the activation that it stands for. */
function asRead(tensor: RealTensor, { layout, quantised }: Reading = {}): RealTensor {
  const moved =
    layout && tensor.shape.length === layout.length ? transpose(tensor, towardsNchw(layout)) : tensor;
  if (!quantised) return moved;
  const { scale, zero } = quantised;
  return {
    dtype: "float64",
    shape: moved.shape,
    data: Float64Array.from(moved.data, (element) => (element - zero) * scale),
  };
}

/** Axis c of the result is axis `order[c]` of the tensor, which has four. */
function transpose(tensor: RealTensor, order: readonly number[]): RealTensor {
  const strides = tensor.shape.map((_, axis) => elementCount(tensor.shape.slice(axis + 1)));
  const shape = order.map((axis) => tensor.shape[axis] ?? 1);
  const [a = 1, b = 1, c = 1, d = 1] = shape;
  const [as = 0, bs = 0, cs = 0, ds = 0] = order.map((axis) => strides[axis] ?? 0);
  const data = tensor.data.slice();
  let target = 0;
  for (let i = 0; i < a; i++)
    for (let j = 0; j < b; j++)
      for (let k = 0; k < c; k++)
        for (let l = 0; l < d; l++)
          data[target++] = tensor.data[i * as + j * bs + k * cs + l * ds] ?? Number.NaN;
  return { ...tensor, shape, data } as RealTensor;
}

/** What a state dict cannot show, so that it may be the reference's description that is wrong. */
const GATE_HINT =
  "; if the reference was trained with such gates, which a state dict cannot show, say so with --arch";

function structureFaults({ differences, graph }: OnnxMatch): readonly Fault[] {
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
