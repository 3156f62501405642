import type * as Onnxruntime from "onnxruntime-node";
import { appendOutputs, type OnnxModel } from "../../convert/formats/onnx/index.js";
import { InputError } from "../../errors.js";
import { formatShape, type RealTensor, type Tensor } from "../../tensor.js";
import type { Backend, LayerOutput } from "../backend.js";

/** A loaded ONNX model whose inner values can be read. */
export interface OnnxruntimeBackend extends Backend {
  readonly name: "onnxruntime";
  /** Runs the file as it is, untouched, and gives its first output. */
  plain(images: Tensor<"float32">): Promise<RealTensor>;
}

/**
 * Runs an ONNX file in onnxruntime's CPU provider. Inner values are made outputs by appending to the serialized bytes
 * (protobuf merges concatenated messages), so that what runs is the file itself.
 *
 * The runtime is loaded on the first run.
 *
 * @param layers values to yield, in this order; those the file does not compute are left out
 */
export function onnxruntimeBackend(
  bytes: Uint8Array,
  model: OnnxModel,
  layers: readonly string[],
  subject: string,
): OnnxruntimeBackend {
  const computed = new Set(model.graph.nodes.flatMap(({ outputs }) => outputs));
  const available = layers.filter((name) => computed.has(name));
  const outputs = model.graph.outputs.map(({ name }) => name);
  const input = model.graph.inputs.find(({ name }) => !model.graph.initializers.has(name));

  async function execute(
    file: Uint8Array,
    images: Tensor<"float32">,
    names: readonly string[],
  ): Promise<Onnxruntime.InferenceSession.OnnxValueMapType> {
    const { InferenceSession, Tensor: OrtTensor } = await import("onnxruntime-node");
    try {
      const session = await InferenceSession.create(file, { logSeverityLevel: 3 });
      try {
        const feeds = { [input?.name ?? "images"]: new OrtTensor("float32", images.data, images.shape) };
        return await session.run(feeds, names);
      } finally {
        await session.release();
      }
    } catch (cause) {
      throw new InputError(
        {
          code: "tensor",
          subject,
          found: `a model that onnxruntime does not run on images ${formatShape(images.shape)} (${firstLine(cause)})`,
          expected: "a model that it does",
          remedy: "give images of the size the model was exported for, or export it again",
        },
        { cause },
      );
    }
  }

  return {
    name: "onnxruntime",
    layers: available,
    async *run(images): AsyncGenerator<LayerOutput> {
      const taps = available.filter((name) => !outputs.includes(name));
      const values = new Map(Object.entries(await execute(appendOutputs(bytes, taps), images, available)));
      for (const name of available) {
        const value = values.get(name);
        // Released as soon as it is read: all values of a large network together are hundreds of megabytes.
        values.delete(name);
        if (value) yield { name, tensor: toTensor(value) };
      }
    },
    async plain(images) {
      const [name = ""] = outputs;
      const value = (await execute(bytes, images, [name]))[name];
      if (!value) throw new Error(`onnxruntime gave no output ${name}`);
      return toTensor(value);
    },
  };
}

function toTensor(value: Onnxruntime.OnnxValue): RealTensor {
  const { data, dims } = value;
  if (data instanceof Float64Array) return { dtype: "float64", shape: dims, data };
  if (data instanceof Float32Array) return { dtype: "float32", shape: dims, data };
  return { dtype: "float64", shape: dims, data: Float64Array.from(data as ArrayLike<number>) };
}

function firstLine(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0] ?? "";
}
