import {
  decodePhoto,
  evaluate,
  openChosen,
  openEmbedder,
  openSource,
  photoTensor,
  type RealTensor,
  sniffFormat,
} from "osnet-convert/web";
import type { GateMap, Job, Pictures, Step } from "./protocol.js";
import { prepareRuntimes } from "./runtimes.js";

/** torchreid's, where no model says another. */
const SIZE = { height: 256, width: 128 } as const;

/**
 * What a user's own pictures become: their embeddings by the original weights in float64 and by the converted model in its
 * runtime, and the gates of the original.
 */
export async function embedPictures(
  { model, options, converted, pictures }: Extract<Job, { readonly kind: "pictures" }>,
  step: (step: Step) => void,
  onLayer: (done: number, total: number) => void,
): Promise<Pictures> {
  step("open");
  const { dropExtra: _, ...given } = options;
  const { checkpoint } = await openSource(await openChosen(model), given);
  const { graph, stateDict } = checkpoint;
  const photos = [];
  for (const { name, blob } of pictures)
    photos.push(await decodePhoto(new Uint8Array(await blob.arrayBuffer()), name));
  step("load");
  const file = converted ? await openChosen(converted) : undefined;
  if (file) await prepareRuntimes([sniffFormat(file.bytes)]);
  const embedder = file ? await openEmbedder(file) : undefined;
  const { height, width } = embedder?.size ?? SIZE;
  const images = photoTensor(photos, height, width);
  step("embed");
  const byModel = await embedder?.embed(images);
  await embedder?.release();
  const layers = new Set(graph.gates.map(({ layer }) => layer));
  const kept = new Map<string, Float64Array>();
  const output = graph.outputs.features;
  const total = graph.nodes.length;
  let done = 0;
  let original: Float64Array = new Float64Array();
  for (const { name, tensor } of evaluate(graph, stateDict, images)) {
    if (layers.has(name)) kept.set(name, Float64Array.from(tensor.data));
    if (name === output) original = Float64Array.from(tensor.data);
    onLayer(++done, total);
  }
  const rows = rowsOf(original, photos.length);
  const other = byModel ? rowsOf(byModel.data, photos.length) : [];
  const [first, second] = rows;
  const [firstByModel, secondByModel] = other;
  return {
    backend: embedder?.backend ?? "",
    pictures: pictures.map(({ name }, index) => ({
      name,
      cosine: cosineOf(rows[index], other[index]),
      gates: gatesOf(graph.gates, kept, index, photos.length),
    })),
    between:
      first && second
        ? { original: cosineOf(first, second) ?? Number.NaN, model: cosineOf(firstByModel, secondByModel) }
        : null,
  };
}

function rowsOf(data: RealTensor["data"], count: number): readonly RealTensor["data"][] {
  const width = data.length / count;
  return Array.from({ length: count }, (_, row) => data.subarray(row * width, (row + 1) * width));
}

function cosineOf(a: RealTensor["data"] | undefined, b: RealTensor["data"] | undefined): number | null {
  if (!a || !b || a.length !== b.length) return null;
  let [product, lengthA, lengthB] = [0, 0, 0];
  for (let index = 0; index < a.length; index++) {
    const [x = 0, y = 0] = [a[index], b[index]];
    product += x * y;
    lengthA += x * x;
    lengthB += y * y;
  }
  return product / Math.sqrt(lengthA * lengthB);
}

function gatesOf(
  gates: readonly { readonly block: string; readonly layer: string }[],
  values: ReadonlyMap<string, Float64Array>,
  picture: number,
  count: number,
): readonly GateMap[] {
  const blocks = new Map<string, (readonly number[])[]>();
  for (const { block, layer } of gates) {
    const data = values.get(layer) ?? new Float64Array();
    const row = rowsOf(data, count)[picture] ?? [];
    blocks.set(block, [
      ...(blocks.get(block) ?? []),
      Array.from(row, (value) => Number(value.toPrecision(4))),
    ]);
  }
  return [...blocks].map(([block, streams]) => ({ block, streams }));
}
