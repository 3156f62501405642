import { expand } from "../../arch/index.js";
import { statedSpec } from "../../convert/export/metadata.js";
import { lowerToOnnx } from "../../convert/export/onnx.js";
import { encodeOnnx } from "../../convert/formats/onnx/encode.js";
import type { Checkpoint } from "../../convert/open/checkpoint.js";
import { type FileOptions, fixedShape, openFile, type SourceFile } from "../../convert/open/open-file.js";
import { InputError } from "../../core/errors.js";
import { formatShape, type RealTensor, rowsOf, type Tensor } from "../../core/tensor.js";
import type { BackendName, RuntimeName } from "../backends/backend.js";
import { affordableBatch, defaultSize, expectAffordable } from "../inputs/images.js";
import type { Party } from "../outcome/report.js";
import { describe } from "./candidate.js";
import { type InterfaceOptions, modelCandidate } from "./model-candidate.js";

/** A model that computes embeddings, whatever its format. */
export interface Embedder {
  /** The file: name, format, SHA-256. */
  readonly party: Party;
  /** SHA-256 of the model that runs: of a checkpoint, its weights and network as an ONNX file. */
  readonly runs: string;
  /** The runtime. */
  readonly backend: RuntimeName;
  /** The image size that it takes, in pixels. */
  readonly size: { readonly height: number; readonly width: number };
  /** The number of images per run, if the file fixes it. */
  readonly batch?: number;
  /**
   * Embeddings of images, [N, D].
   *
   * @param images [N, 3, height, width] float32, RGB, normalised as torchreid does; N is any number: a model of a fixed batch
   * is run several times, and so is any on more pixels than 128 images of 256×128 have
   * @throws InputError (`tensor`) if the runtime does not take them
   */
  embed(images: Tensor<"float32">): Promise<RealTensor>;
  /** Releases the runtime's memory. */
  release(): Promise<void>;
}

/** Options for opening a model to compute embeddings. */
export interface EmbedderOptions extends FileOptions, InterfaceOptions {
  /** The runtime, if it runs the file's format. Default: the first. */
  readonly backend?: BackendName;
  /** The image size in pixels; default: what the file fixes, else 256×128. */
  readonly size?: { readonly height: number; readonly width: number };
}

/**
 * The ONNX file that a checkpoint is run as, like that of `pth2onnx`, float32.
 *
 * @param size of the images in pixels; default: 256×128
 */
export function checkpointModel(
  { graph, stateDict }: Pick<Checkpoint, "graph" | "stateDict">,
  size: EmbedderOptions["size"] = defaultSize(graph, {}),
): Uint8Array {
  return encodeOnnx(lowerToOnnx(graph, stateDict, { size }));
}

/**
 * Opens a model to compute embeddings. A checkpoint is run as a float32 ONNX file like that of `pth2onnx`.
 *
 * @throws InputError if the file cannot be used, is a recording, or fixes a batch size that is too large
 */
export async function openEmbedder(file: SourceFile, options: EmbedderOptions = {}): Promise<Embedder> {
  const opened = openFile(file, options);
  if (opened.kind === "recording")
    throw new InputError({
      code: "argument",
      subject: file.name,
      found: "a recording of activations",
      expected: "a model or a checkpoint, which can be run on other images",
      remedy: "use the checkpoint that was recorded",
    });
  if (opened.kind === "checkpoint") {
    const { checkpoint } = opened;
    const { arch: _arch, key: _key, ...others } = options;
    const embedder = await openEmbedder(
      { name: `${file.name} as ONNX`, bytes: checkpointModel(checkpoint, options.size) },
      others,
    );
    return { ...embedder, party: await describe(file, opened, checkpoint.graph) };
  }
  const { model } = opened;
  const { metadata } = model.onnx;
  const stated = statedSpec(metadata, file.name);
  const graph = stated ? expand(stated) : model.match().graph;
  const party = await describe(file, opened, graph);
  const candidate = modelCandidate(model, file, graph, party, options);
  const { program, backend } = candidate;
  if (!program || backend.name === "reference" || backend.name === "recorded")
    throw new Error("a model file is run by a runtime");
  const [batch, , height, width] = fixedShape(model);
  const size = options.size ?? defaultSize(graph, { height, width });
  if (size.height !== (height ?? size.height) || size.width !== (width ?? size.width))
    throw new InputError({
      code: "tensor",
      subject: file.name,
      found: `a model for images of ${height ?? "any"}×${width ?? "any"} pixels`,
      expected: `one that takes ${size.height}×${size.width}`,
      remedy: "omit the size, or convert the checkpoint for this one",
    });
  expectAffordable(batch ?? 1, size.height, size.width);
  const loaded = program.load();
  return {
    party,
    runs: party.sha256 ?? party.name,
    backend: backend.name,
    size,
    ...(batch === undefined ? {} : { batch }),
    async embed(images) {
      const seen = candidate.input?.nearest(images) ?? images;
      const parts: RealTensor[] = [];
      const total = images.shape[0] ?? 0;
      const step = batch ?? affordableBatch(size.height, size.width);
      for (let first = 0; first < total; first += step) {
        const [features] = await loaded.run(rowsOf(seen, first, batch ?? Math.min(step, total - first)));
        if (!features) throw new Error("a model has an output");
        parts.push(features);
      }
      return joined(parts, total, party.name);
    },
    async release() {
      await loaded.release();
      await backend.close?.();
    },
  };
}

function joined(parts: readonly RealTensor[], total: number, subject: string): RealTensor {
  const [first] = parts;
  const width = first ? first.data.length / (first.shape[0] ?? 1) : 0;
  if (first && first.shape.filter((size, axis) => axis > 0 && size !== 1).length > 1)
    throw new InputError({
      code: "tensor",
      subject,
      found: `an output of shape ${formatShape(first.shape)}`,
      expected: "one vector per image",
      remedy: "name the output that is the embedding",
    });
  const data = new Float32Array(total * width);
  let at = 0;
  for (const part of parts) {
    const taken = Math.min(part.data.length, data.length - at);
    data.set(part.data.subarray(0, taken), at);
    at += taken;
  }
  return { dtype: "float32", shape: [total, width], data };
}
