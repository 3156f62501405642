import { appendOutputs } from "../../convert/formats/onnx/encode.js";
import { dtypeToCode, fedInputs, type OnnxModel } from "../../convert/formats/onnx/model.js";
import { type OnnxPart, type OnnxParts, openParts, withoutShapes } from "../../convert/formats/onnx/parts.js";
import { type Bytes, discard, toBytes } from "../../core/bytes.js";
import { firstLine, InputError } from "../../core/errors.js";
import { type DType, formatShape, type RealTensor, type Tensor } from "../../core/tensor.js";
import { castFloat, toReal } from "../../core/tensor-cast.js";
import type { LayerOutput, LoadOptions, ModelBackend, OutputPlace, RuntimeName, Segment } from "./backend.js";
import { chromiumFor, closeChromium, engineOf } from "./registry.js";
import type {
  OnnxruntimeModule,
  OnnxruntimeOptions,
  OnnxruntimeSession,
  OnnxruntimeTensor,
} from "./runtime-api.js";

/** An ONNX file as passed to a runtime. */
export interface OnnxFile {
  /** With all values accessible (local functions and known branches expanded) and all weights inside. */
  readonly bytes: Uint8Array;
  /** The unmodified file, with all weights inside. Default: `bytes`. */
  readonly whole?: Uint8Array;
  /** Its path on disk, with the files beside it. */
  readonly path?: string;
  /** The unmodified file and its weight files, by name; if there are any. */
  readonly external?: { readonly bytes: Uint8Array; readonly beside: ReadonlyMap<string, Bytes> };
}

/** Whether intermediate values are read from a rewritten copy, not from the file itself. */
export function isCopied({ bytes, whole, external }: OnnxFile): boolean {
  return external !== undefined || (whole !== undefined && whole !== bytes);
}

/**
 * Runs an ONNX file in onnxruntime. Intermediate values become outputs by appending to the serialized bytes (protobuf
 * merges concatenated messages), so that the file itself runs. In float32 files with segments, each segment is cut out
 * of the bytes and continues from the values of earlier ones.
 *
 * The runtime is loaded on the first run.
 *
 * @param layers the layers to yield, in this order: layers whose values have their names, or layers with the names of
 * their values; those that the file does not compute are omitted
 */
export function onnxruntimeBackend(
  file: OnnxFile,
  model: OnnxModel,
  layers: readonly string[] | ReadonlyMap<string, string>,
  subject: string,
  name: RuntimeName = "onnxruntime",
): ModelBackend {
  const computed = new Set(model.graph.nodes.flatMap(({ outputs }) => outputs));
  const pairs = Array.isArray(layers) ? layers.map((name) => [name, name] as const) : [...layers.entries()];
  const named = new Map(pairs.filter(([, value]) => computed.has(value)));
  const outputs = model.graph.outputs.map(({ name }) => name);
  const [input] = fedInputs(model.graph);
  const imagesName = input?.name ?? "images";
  let module: OnnxruntimeModule | undefined;

  async function loadModule(): Promise<OnnxruntimeModule> {
    module = (await chromiumFor(name))?.onnxruntime ?? ((await engineOf(name).load?.()) as OnnxruntimeModule);
    return module;
  }

  /** A session is created on demand, since it may fail because of the images. */
  function open(
    source: Uint8Array | "as a program opens it",
    { optimised = true, alone = false }: LoadOptions,
    level: OptimisationLevel = optimised ? "all" : "disabled",
  ): { run: Run; release: () => Promise<void> } {
    let session: Promise<OnnxruntimeSession> | undefined;
    return {
      async run(images, names, given = ONLY_IMAGES) {
        const ort = await loadModule();
        try {
          session ??= createSession(ort, source);
          const opened = await session;
          const known = given.values.map(({ name, tensor: { data, shape } }) => [
            name,
            new ort.Tensor("float32", data, shape),
          ]);
          const feed = given.images ? [[imagesName, feedOf(ort, images, input?.dtype, subject)]] : [];
          return await opened.run(Object.fromEntries([...feed, ...known]), names);
        } catch (cause) {
          throw refused(subject, name, images, cause, await hasOtherShapes(ort, images));
        }
      },
      async release() {
        await (await session?.catch(() => undefined))?.release();
      },
    };

    /** Whether the file runs without the shapes that it states for its values, which onnxruntime believes. */
    async function hasOtherShapes(ort: OnnxruntimeModule, images: Tensor<"float32">): Promise<boolean> {
      const copy = withoutShapes(file.bytes);
      if (!copy) return false;
      const session = await createSession(ort, copy).catch(() => undefined);
      const feed = { [imagesName]: feedOf(ort, images, input?.dtype, subject) };
      const values = await session?.run(feed, outputs).catch(() => undefined);
      await session?.release();
      return values !== undefined;
    }

    function createSession(
      { InferenceSession }: OnnxruntimeModule,
      from: typeof source,
    ): Promise<OnnxruntimeSession> {
      const { engine, opensPaths } = engineOf(name);
      const options: OnnxruntimeOptions = {
        logSeverityLevel: 4,
        graphOptimizationLevel: level,
        ...(engine ? { executionProviders: [engine] } : {}),
        // By default idle threads spin, even while a session is opened, which then takes twice the processor time.
        extra: { session: { intra_op: { allow_spinning: "0" } } },
        // With more threads, those that judge would wait for a processor. The arena, which is released with the session,
        // leaves fewer gaps in the process's memory than values that are allocated one by one.
        ...(alone ? { intraOpNumThreads: 1, enableMemPattern: false } : {}),
      };
      if (typeof from !== "string") return InferenceSession.create(from, options);
      const { path, external, whole, bytes } = file;
      if (path !== undefined && opensPaths) return InferenceSession.create(path, options);
      if (!external || opensPaths) return InferenceSession.create(whole ?? bytes, options);
      const externalData = [...external.beside].map(([path, data]) => ({ path, data: toBytes(data) }));
      return InferenceSession.create(external.bytes, { ...options, externalData });
    }
  }

  /** A map, so that values can be released one by one; in a separate function, so that nothing else references them. */
  async function tapped(
    copy: Uint8Array,
    images: Tensor<"float32">,
    names: readonly string[],
    given?: Given,
  ): Promise<Map<string, OnnxruntimeTensor>> {
    // "all" also blocks the channels of convolutions, which takes most of the time of opening a session, and each output unblocks them.
    const session = open(copy, { alone: true }, "extended");
    try {
      return new Map(Object.entries(await session.run(images, names, given)));
    } finally {
      await session.release();
      discard(copy);
    }
  }

  const nameOf = (layer: string): string => named.get(layer) ?? "";

  /** The whole model for each segment, whose values then come from the same run as its inputs. */
  async function* inRuns(
    images: Tensor<"float32">,
    segments: readonly Segment[],
  ): AsyncGenerator<LayerOutput> {
    for (const segment of segments) {
      const shown = [...segment.others, ...segment.layers];
      const lastUse = new Map(shown.map((layer, index) => [nameOf(layer), index]));
      const names = [...lastUse.keys()];
      const taps = names.filter((name) => !outputs.includes(name));
      const values = await tapped(appendOutputs(file.bytes, taps), images, names);
      for (const [index, layer] of shown.entries()) {
        const name = nameOf(layer);
        const value = values.get(name);
        const isLast = lastUse.get(name) === index;
        // Released as soon as it is read.
        if (isLast) values.delete(name);
        if (!value) continue;
        const tensor = toTensor(value, layer);
        yield {
          name: layer,
          tensor,
          ...(index < segment.others.length ? { again: true } : {}),
          ...(isLast ? { release: () => discard(tensor.data) } : {}),
        };
      }
    }
  }

  /** One run of the model, each segment of which continues from the values of earlier ones. */
  async function* inParts(
    images: Tensor<"float32">,
    segments: readonly Segment[],
    parts: OnnxParts,
  ): AsyncGenerator<LayerOutput> {
    const plan = planParts(
      parts,
      segments.map(({ layers }) => layers.map(nameOf)),
    );
    const held = new Map<string, HeldValue>();
    for (const [index, { layers }] of segments.entries()) {
      const part = plan.parts[index];
      const isLast = (value: string): boolean => (plan.lastUse.get(value) ?? 0) <= index;
      if (part && part.outputs.length > 0) {
        const values = part.given.flatMap((name) => held.get(name) ?? []);
        const shapes = new Map(values.map(({ name, tensor: { shape } }) => [name, shape]));
        const given = { values, images: part.inputs.includes(imagesName) };
        const found = await tapped(parts.encode(part, shapes), images, part.outputs, given).catch(
          () => undefined,
        );
        // If a part does not run, the whole model is run, which reports the error if it does not run either.
        if (!found) return yield* inRuns(images, segments.slice(index));
        for (const [name, value] of found)
          held.set(name, {
            name,
            tensor: toTensor(value, name) as Tensor<"float32">,
            isReleased: false,
            isLast: false,
          });
      }
      const lastShown = new Map(layers.map((layer) => [nameOf(layer), layer]));
      for (const layer of layers) {
        const value = held.get(nameOf(layer));
        if (!value) continue;
        value.isReleased = false;
        value.isLast = isLast(value.name);
        const release = (): void => {
          value.isReleased = true;
          if (value.isLast) discard(value.tensor.data);
        };
        yield {
          name: layer,
          tensor: value.tensor,
          ...(lastShown.get(value.name) === layer ? { release } : {}),
        };
      }
      // Callers that have not released a value continue to read it.
      for (const value of held.values())
        if (isLast(value.name)) {
          held.delete(value.name);
          value.isLast = true;
          if (value.isReleased) discard(value.tensor.data);
        }
    }
  }

  async function valuesOf(
    names: readonly string[],
    images: Tensor<"float32">,
  ): Promise<ReadonlyMap<string, OnnxruntimeTensor>> {
    const parts = openParts(file.bytes);
    const part = parts?.part(names, new Set(), new Set());
    const copy =
      part && parts
        ? parts.encode(part, new Map())
        : appendOutputs(
            file.bytes,
            names.filter((name) => !outputs.includes(name)),
          );
    const readsImages = part?.inputs.includes(imagesName) ?? true;
    return tapped(copy, images, names, { values: [], images: readsImages });
  }

  const continues = isFloat32(model);
  return {
    name,
    continues,
    layers: [...named.keys()],
    facts: () => module?.facts?.(),
    close: () => closeChromium(name),
    run(images, segments = [{ layers: [...named.keys()], others: [] }]) {
      const parts = segments.length > 1 && continues ? openParts(file.bytes) : undefined;
      return parts ? inParts(images, segments, parts) : inRuns(images, segments);
    },
    valuesOf,
    load(places: readonly OutputPlace[], options: LoadOptions = {}) {
      const session = open(options.copy ? file.bytes : "as a program opens it", options);
      const names = places.map(({ name }) => name);
      return {
        async run(images) {
          const values = await session.run(images, names);
          return names.map((output) => {
            const value = values[output];
            if (!value) throw new Error(`${name} gave no output ${output}`);
            return toTensor(value, output);
          });
        },
        release: session.release,
      };
    },
  };
}

type OptimisationLevel = OnnxruntimeOptions["graphOptimizationLevel"];

type Run = (
  images: Tensor<"float32">,
  names: readonly string[],
  given?: Given,
) => Promise<Readonly<Record<string, OnnxruntimeTensor>>>;

/** The inputs of a session. */
interface Given {
  readonly values: readonly { readonly name: string; readonly tensor: Tensor<"float32"> }[];
  readonly images: boolean;
}

const ONLY_IMAGES: Given = { values: [], images: true };

/** A value of a run in parts that will still be read. */
interface HeldValue {
  readonly name: string;
  readonly tensor: Tensor<"float32">;
  /** Whether the consumer has released it. */
  isReleased: boolean;
  /** Whether no later segment reads it. */
  isLast: boolean;
}

interface PartPlan {
  readonly parts: readonly OnnxPart[];
  /** The last segment that reads or outputs a value. */
  readonly lastUse: ReadonlyMap<string, number>;
}

/** @param segments names of the values that each outputs, all computed once */
function planParts(parts: OnnxParts, segments: readonly (readonly string[])[]): PartPlan {
  const shown = new Set(segments.flat());
  const known = new Set<string>();
  const lastUse = new Map<string, number>();
  const planned = segments.map((values, index) => {
    const part = parts.part(values, known, shown);
    for (const name of part.outputs) known.add(name);
    for (const name of [...values, ...part.given]) lastUse.set(name, index);
    return part;
  });
  return { parts: planned, lastUse };
}

/** Operators whose results are not float32, although nothing in the file says so; shapes are never output. */
const NARROWING: ReadonlySet<string> = new Set(["QuantizeLinear", "DynamicQuantizeLinear"]);

/**
 * Whether a file computes in float32 only: with narrower types, a runtime may keep more bits than it outputs, and
 * continue from those.
 */
function isFloat32({ graph }: OnnxModel): boolean {
  const isPlain = (dtype: DType | undefined): boolean => dtype === undefined || !OTHER_NUMBERS.has(dtype);
  return (
    [...graph.initializers.values()].every(({ dtype }) => isPlain(dtype)) &&
    graph.nodes.every(
      ({ opType, attributes }) =>
        !NARROWING.has(opType) &&
        [...attributes.values()].every(
          (attribute) => attribute.type !== "tensor" || isPlain(attribute.value.dtype),
        ) &&
        (opType !== "Cast" || !NARROW_CODES.has(attributes.get("to")?.value)),
    )
  );
}

const OTHER_NUMBERS: ReadonlySet<DType> = new Set([
  "float16",
  "bfloat16",
  "float64",
  "int8",
  "uint8",
  "int16",
]);
const NARROW_CODES: ReadonlySet<unknown> = new Set([...OTHER_NUMBERS].map(dtypeToCode));

/** Images in the type that a file takes. */
function feedOf(
  { Tensor: OrtTensor }: OnnxruntimeModule,
  images: Tensor<"float32">,
  dtype: DType | undefined,
  subject: string,
): OnnxruntimeTensor {
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

function refused(
  subject: string,
  runtime: RuntimeName,
  { shape }: Tensor<"float32">,
  cause: unknown,
  hasOtherShapes: boolean,
): InputError {
  if (cause instanceof InputError) return cause;
  const found = `${runtime} failed on images ${formatShape(shape)} (${firstLine(cause)})`;
  const remedy = hasOtherShapes
    ? "delete the graph's value_info: it states shapes that its values do not have for these images, without which the model runs"
    : remedyOf(found);
  return new InputError({ code: "tensor", subject, found, remedy }, { cause });
}

/** What the user can do about an error, by onnxruntime's words for it. */
function remedyOf(error: string): string {
  if (/bfloat16/.test(error))
    return "export the model in float32 or float16: onnxruntime has no convolutions in bfloat16";
  return /invalid model|not implemented/i.test(error)
    ? "export the model again"
    : "use images of the size the model was exported for, or export it again";
}

function toTensor(value: OnnxruntimeTensor, subject: string): RealTensor {
  const { data, dims } = value;
  if (value.type === "float16" && data instanceof Uint16Array)
    return toReal({ dtype: "float16", shape: dims, data }, subject);
  if (data instanceof Float64Array) return { dtype: "float64", shape: dims, data };
  if (data instanceof Float32Array) return { dtype: "float32", shape: dims, data };
  // 64-bit integers are BigInts.
  const numbers = Float64Array.from(data as ArrayLike<number | bigint>, Number);
  return { dtype: "float64", shape: dims, data: numbers };
}
