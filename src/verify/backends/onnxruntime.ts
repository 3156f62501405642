import type * as Onnxruntime from "onnxruntime-node";
import { appendOutputs, type OnnxModel } from "../../convert/formats/onnx/index.js";
import { InputError } from "../../core/errors.js";
import { type DType, formatShape, type RealTensor, type Tensor } from "../../core/tensor.js";
import { castFloat, toReal } from "../../core/tensor-cast.js";
import type { Backend, LayerOutput, LoadedModel, LoadOptions, OutputPlace, Stage } from "./backend.js";
import { loadOnnxruntime } from "./node-packages.js";

/** A loaded ONNX model whose inner values can be read. */
export interface OnnxruntimeBackend extends Backend {
  /** What reports call this runtime. */
  readonly name: "onnxruntime";
  /**
   * onnxruntime holds all outputs of a run at a time, and a copy of each: where there are stages, each is a run of its own.
   *
   * @param stages all layers, in the order to yield them in
   */
  run(images: Tensor<"float32">, stages?: readonly Stage[]): AsyncIterable<LayerOutput>;
  /** The file as it is, untouched. */
  plain(outputs: readonly OutputPlace[], options?: LoadOptions): LoadedModel;
}

/**
 * Runs an ONNX file in onnxruntime's CPU provider. Inner values are made outputs by appending to the serialized bytes
 * (protobuf merges concatenated messages), so that what runs is the file itself.
 *
 * The runtime is loaded on the first run.
 *
 * @param layers what to yield, in this order: layers that the file's values are named after, or layers with the names
 * of their values; those the file does not compute are left out
 * @param whole the file as a program opens it, by its path or as bytes, where inner values are read from a copy
 */
export function onnxruntimeBackend(
  bytes: Uint8Array,
  model: OnnxModel,
  layers: readonly string[] | ReadonlyMap<string, string>,
  subject: string,
  whole: Uint8Array | string = bytes,
): OnnxruntimeBackend {
  const computed = new Set(model.graph.nodes.flatMap(({ outputs }) => outputs));
  const pairs = Array.isArray(layers) ? layers.map((name) => [name, name] as const) : [...layers.entries()];
  const named = new Map(pairs.filter(([, value]) => computed.has(value)));
  const outputs = model.graph.outputs.map(({ name }) => name);
  const input = model.graph.inputs.find(({ name }) => !model.graph.initializers.has(name));

  /** A session is made when it is first needed, since it may fail on account of the images. */
  function open(file: Uint8Array | string, { optimised = true }: LoadOptions = {}): Session {
    let session: Promise<Onnxruntime.InferenceSession> | undefined;
    return {
      async run(images, names) {
        const ort = await loadOnnxruntime();
        try {
          session ??= createSession(ort, file, optimised);
          const opened = await session;
          const feed = feedOf(ort, images, input?.dtype, subject);
          return await opened.run({ [input?.name ?? "images"]: feed }, names);
        } catch (cause) {
          throw refused(subject, images, cause);
        }
      },
      async release() {
        await (await session?.catch(() => undefined))?.release();
      },
    };
  }

  /** A map, so that values can be given up one by one; in a function of its own, so that nothing else holds them. */
  async function tapped(
    images: Tensor<"float32">,
    names: readonly string[],
  ): Promise<Map<string, Onnxruntime.OnnxValue>> {
    const taps = names.filter((name) => !outputs.includes(name));
    const session = open(appendOutputs(bytes, taps));
    try {
      return new Map(Object.entries(await session.run(images, names)));
    } finally {
      await session.release();
    }
  }

  return {
    name: "onnxruntime",
    layers: [...named.keys()],
    async *run(images, stages = [{ layers: [...named.keys()], others: [] }]): AsyncGenerator<LayerOutput> {
      for (const stage of stages) {
        const shown = [...stage.others, ...stage.layers];
        const lastUse = new Map(shown.map((layer, index) => [named.get(layer) ?? "", index]));
        const values = await tapped(images, [...lastUse.keys()]);
        for (const [index, layer] of shown.entries()) {
          const name = named.get(layer) ?? "";
          const value = values.get(name);
          // Released as soon as it is read.
          if (lastUse.get(name) === index) values.delete(name);
          if (value)
            yield {
              name: layer,
              tensor: toTensor(value, layer),
              ...(index < stage.others.length ? { again: true } : {}),
            };
        }
      }
    },
    plain(places, options = {}) {
      const session = open(whole, options);
      const names = places.map(({ name }) => name);
      return {
        async run(images) {
          const values = await session.run(images, names);
          return names.map((name) => {
            const value = values[name];
            if (!value) throw new Error(`onnxruntime gave no output ${name}`);
            return toTensor(value, name);
          });
        },
        release: session.release,
      };
    },
  };
}

/** By its path, onnxruntime finds what lies beside a file itself. */
function createSession(
  { InferenceSession }: typeof Onnxruntime,
  file: Uint8Array | string,
  optimised: boolean,
): Promise<Onnxruntime.InferenceSession> {
  const options = {
    logSeverityLevel: 4,
    graphOptimizationLevel: optimised ? "all" : "disabled",
  } as const;
  return typeof file === "string"
    ? InferenceSession.create(file, options)
    : InferenceSession.create(file, options);
}

interface Session {
  run(
    images: Tensor<"float32">,
    names: readonly string[],
  ): Promise<Onnxruntime.InferenceSession.OnnxValueMapType>;
  release(): Promise<void>;
}

/** Images in the type that a file takes. */
function feedOf(
  { Tensor: OrtTensor }: typeof Onnxruntime,
  images: Tensor<"float32">,
  dtype: DType | undefined,
  subject: string,
): Onnxruntime.Tensor {
  const { data, shape } = images;
  switch (dtype) {
    case "float16":
      return new OrtTensor("float16", castFloat(images, "float16", subject).data as Uint16Array, shape);
    case "float64":
      return new OrtTensor("float64", Float64Array.from(data), shape);
    case "uint8":
      return new OrtTensor("uint8", Uint8Array.from(data), shape);
    case "int8":
      return new OrtTensor("int8", Int8Array.from(data), shape);
    case "int32":
      return new OrtTensor("int32", Int32Array.from(data), shape);
    default:
      return new OrtTensor("float32", data, shape);
  }
}

function refused(subject: string, { shape }: Tensor<"float32">, cause: unknown): InputError {
  const found = `a model that onnxruntime does not run on images ${formatShape(shape)} (${firstLine(cause)})`;
  const remedy = "give images of the size the model was exported for, or export it again";
  return new InputError(
    { code: "tensor", subject, found, expected: "a model that it does", remedy },
    { cause },
  );
}

function toTensor(value: Onnxruntime.OnnxValue, subject: string): RealTensor {
  const { data, dims } = value;
  if (value.type === "float16" && data instanceof Uint16Array)
    return toReal({ dtype: "float16", shape: dims, data }, subject);
  if (data instanceof Float64Array) return { dtype: "float64", shape: dims, data };
  if (data instanceof Float32Array) return { dtype: "float32", shape: dims, data };
  return { dtype: "float64", shape: dims, data: Float64Array.from(data as ArrayLike<number>) };
}

function firstLine(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0] ?? "";
}
