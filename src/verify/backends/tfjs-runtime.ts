import type * as Core from "@tensorflow/tfjs-core";
import { type JsonObject, objectOf } from "../../convert/formats/tfjs/json.js";
import { decodeManifest } from "../../convert/formats/tfjs/manifest.js";
import type { TfjsFiles } from "../../convert/formats/tfjs/model.js";
import { layerWeights, readTopology } from "../../convert/formats/tfjs/topology.js";
import { firstLine, InputError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import type { RuntimeFacts, RuntimeName } from "./backend.js";
import { engineOf } from "./registry.js";
import {
  graphicsOf,
  LoadedOtherwise,
  NotLoaded,
  type TfjsProgram,
  type TfjsSegment,
  type TfjsValue,
} from "./runtime-api.js";

/**
 * Loads a model, runs it once for each segment, and yields the values of a segment in their order. A value's memory is
 * released after its last use, and all memory when iteration stops. tfjs's default backend is restored.
 *
 * @throws InputError (`argument`) if the backend is not installed or does not start here
 */
export async function* runTfjs(
  name: RuntimeName,
  { files, input }: TfjsProgram,
  images: Tensor<"float32">,
  segments: readonly TfjsSegment[],
): AsyncGenerator<TfjsValue> {
  const tf = await import("@tensorflow/tfjs-core");
  const model = await withEngine(tf, name, () => loadModel(tf, files, input));
  const known = new Map<string, Core.Tensor>();
  try {
    for (const [index, { values, from }] of segments.entries()) {
      const later = new Set(segments.slice(index + 1).flatMap((segment) => segment.from));
      const given = new Map([...known].filter(([value]) => from.includes(value)));
      const tensors = await withEngine(tf, name, async () => {
        const feed = tf.tensor4d(images.data, images.shape as [number, number, number, number]);
        try {
          return model.execute(feed, values, given);
        } finally {
          feed.dispose();
        }
      });
      try {
        for (const [place, tensor] of tensors.entries()) {
          const value = values[place] ?? "";
          const data = (await tensor.data()) as Float32Array;
          if (later.has(value)) known.set(value, tensor);
          else if (values.lastIndexOf(value) === place) tensor.dispose();
          yield { shape: tensor.shape, data };
        }
      } finally {
        tf.dispose(tensors.filter((_tensor, place) => !known.has(values[place] ?? "")));
      }
      for (const [value, tensor] of known) {
        if (later.has(value)) continue;
        tensor.dispose();
        known.delete(value);
      }
    }
  } finally {
    tf.dispose([...known.values()]);
    model.dispose();
  }
}

/**
 * Loads a model and runs it as a program does, without naming values or outputs: the result of `predict`, in its order.
 *
 * @throws InputError (`argument`) if the backend is not installed or does not start here
 */
export async function predictTfjs(
  name: RuntimeName,
  files: TfjsFiles,
  images: Tensor<"float32">,
): Promise<readonly TfjsValue[]> {
  const tf = await import("@tensorflow/tfjs-core");
  const model = await withEngine(tf, name, () => loadModel(tf, files));
  try {
    const tensors = await withEngine(tf, name, async () => {
      const feed = tf.tensor4d(images.data, images.shape as [number, number, number, number]);
      try {
        return model.predict(feed);
      } finally {
        feed.dispose();
      }
    });
    try {
      return await Promise.all(
        tensors.map(async (tensor) => ({
          shape: tensor.shape,
          data: Float32Array.from((await tensor.data()) as ArrayLike<number>),
        })),
      );
    } finally {
      tf.dispose(tensors);
    }
  } finally {
    model.dispose();
  }
}

/** A model of either format. */
interface LoadedModel {
  execute(
    images: Core.Tensor4D,
    values: readonly string[],
    given: ReadonlyMap<string, Core.Tensor>,
  ): Core.Tensor[];
  /** The outputs of a program, in its order. */
  predict(images: Core.Tensor4D): Core.Tensor[];
  dispose(): void;
}

/** @param input the name of the images' input, for running a part of a graph */
async function loadModel(tf: typeof Core, files: TfjsFiles, input = ""): Promise<LoadedModel> {
  const { handler, document } = served(tf, files);
  if (document.format === "layers-model") return loadLayers(handler, document, files);
  const { weights: read } = decodeManifest({ value: document.weightsManifest, at: SUBJECT }, files.shards);
  const { loadGraphModel } = await import("@tensorflow/tfjs-converter");
  const model = await loadGraphModel(handler).catch(notTaken);
  const loaded: LoadedModel = {
    execute: (images, values, given) =>
      listOf(model.execute({ [input]: images, ...Object.fromEntries(given) }, [...values])),
    predict: (images) => valuesOf(model.predict(images)),
    dispose: () => model.dispose(),
  };
  const weights = Object.entries(model.weights).flatMap(([name, tensors]) =>
    tensors.map((tensor) => ({ name, data: () => tensor.data() })),
  );
  return expectWeights(loaded, weights, (name) => read.get(name)?.tensor.data);
}

/**
 * A value of a layers model is called `LAYER#CALL`. Keras feeds inputs only: everything is computed from the images.
 */
async function loadLayers(
  handler: Core.io.IOHandler,
  document: JsonObject,
  files: TfjsFiles,
): Promise<LoadedModel> {
  const { modelTopology, weightsManifest } = document;
  const decoded = decodeManifest({ value: weightsManifest, at: SUBJECT }, files.shards);
  const stored = { ...decoded, format: "layers-model", topology: objectOf(modelTopology) } as const;
  const read = layerWeights(stored, readTopology(stored, SUBJECT).calls, SUBJECT);
  const { loadLayersModel, model: createModel } = await import("@tensorflow/tfjs-layers");
  const model = await loadLayersModel(handler).catch(notTaken);
  const loaded: LoadedModel = {
    execute(images, values) {
      const outputs = values.map((value) => {
        const [layer = "", call = "0"] = value.split("#");
        const output = model.getLayer(layer).getOutputAt(Number(call));
        return Array.isArray(output) ? output : [output];
      });
      // The same layers with other outputs: weights are shared, and belong to the model.
      const tapped = createModel({ inputs: model.inputs, outputs: outputs.flat() });
      return listOf(tapped.predict(images, { batchSize: images.shape[0] }));
    },
    predict: (images) => listOf(model.predict(images, { batchSize: images.shape[0] })),
    // Not `model.dispose`, which leaves the weights of layers that are called more than once, such as gates.
    dispose() {
      for (const weight of model.weights) weight.dispose();
    },
  };
  const weights = model.weights.map((weight) => ({
    name: weight.originalName,
    data: () => weight.read().data(),
  }));
  return expectWeights(loaded, weights, (name) => read.get(name)?.data);
}

/** @throws NotLoaded with tfjs's own words */
function notTaken(cause: unknown): never {
  throw new NotLoaded(firstLine(cause), { cause });
}

const SUBJECT = "model.json";

/** A weight that tfjs has loaded. */
interface LoadedWeight {
  readonly name: string;
  data(): Promise<ArrayLike<unknown>>;
}

/**
 * tfjs looks for a layer's weights under several names, leaves some out, and changes others when it loads them: what it
 * computes with must be what was read and compared.
 *
 * @throws LoadedOtherwise if a weight has other numbers than were read; the model's memory is released then
 */
async function expectWeights(
  model: LoadedModel,
  weights: readonly LoadedWeight[],
  read: (name: string) => ArrayLike<unknown> | undefined,
): Promise<LoadedModel> {
  try {
    for (const { name, data } of weights) {
      const [expected, actual] = [read(name), await data()];
      let at = 0;
      while (at < actual.length && Object.is(actual[at], expected?.[at])) at++;
      if (at < actual.length || expected?.length !== at) throw new LoadedOtherwise(name);
    }
    return model;
  } catch (cause) {
    model.dispose();
    throw cause;
  }
}

/** One tensor, several, or several under the names of a signature, in its order. */
function valuesOf(result: Core.Tensor | Core.Tensor[] | Core.NamedTensorMap): Core.Tensor[] {
  if (Array.isArray(result)) return result;
  return "dataId" in result ? [result as Core.Tensor] : Object.values(result as Core.NamedTensorMap);
}

function listOf<T>(values: T | T[]): T[] {
  return Array.isArray(values) ? values : [values];
}

const SERVED_AT = "http://model.invalid/";

/** tfjs's own web loader, given the files instead of a server. */
function served(
  { io }: typeof Core,
  { json, shards }: TfjsFiles,
): { readonly handler: Core.io.IOHandler; readonly document: JsonObject } {
  const document = JSON.parse(new TextDecoder().decode(json)) as JsonObject;
  const fetchFunc = async (url: unknown): Promise<Response> => {
    const path = String(url).slice(SERVED_AT.length).replace(/^\.\//, "");
    const bytes = path === "model.json" ? json : shards.get(path);
    if (!bytes) return new Response(null, { status: 404 });
    const type = path === "model.json" ? "application/json" : "application/octet-stream";
    return new Response(new Uint8Array(bytes), { headers: { "content-type": type } });
  };
  return { handler: io.http(`${SERVED_AT}model.json`, { fetchFunc: fetchFunc as typeof fetch }), document };
}

/** The type in which a runtime stores values, if not float32: GPUs without float32 textures. */
export async function tfjsStorage(name: RuntimeName): Promise<Pick<RuntimeFacts, "storage">> {
  if (engineOf(name).engine !== "webgl") return {};
  const tf = await import("@tensorflow/tfjs-core");
  const isFloat32 = await withEngine(
    tf,
    name,
    async () =>
      tf.env().getBool("WEBGL_RENDER_FLOAT32_ENABLED") && !tf.env().getBool("WEBGL_FORCE_F16_TEXTURES"),
  );
  return isFloat32 ? {} : { storage: "float16" };
}

/** The GPU that a runtime uses in a page; undefined for CPU backends. */
export async function tfjsFacts(name: RuntimeName): Promise<RuntimeFacts | undefined> {
  const facts = { ...(await graphicsOf(engineOf(name).engine ?? "")), ...(await tfjsStorage(name)) };
  return Object.keys(facts).length > 0 ? facts : undefined;
}

/** Makes a backend tfjs's default during an action. */
async function withEngine<T>(tf: typeof Core, name: RuntimeName, action: () => Promise<T>): Promise<T> {
  const { engine = "", load, package: from } = engineOf(name);
  await load?.().catch((cause: unknown) => {
    throw notLoaded(name, cause);
  });
  if (!load && !tf.findBackendFactory(engine))
    throw unavailable(
      name,
      "its package is not loaded in this page",
      `import "${from}" before the verification`,
    );
  const before = tf.getBackend();
  const production = tf.env().get("PROD") ?? false;
  try {
    // Otherwise tfjs recommends its other packages on the console.
    tf.env().set("PROD", true);
    if (!(await tf.setBackend(engine)))
      throw unavailable(name, "this backend does not start here", "choose another with --backend");
    await tf.ready();
    if (engine === WASM) refuseEmptyOutputs(tf.backend());
    return await action();
  } catch (cause) {
    // As WebAssembly calls its traps.
    if (cause instanceof Error && cause.name === "RuntimeError") startAgain(tf, engine);
    throw cause;
  } finally {
    tf.env().set("PROD", production);
    if (before && tf.getBackend() !== before) await tf.setBackend(before);
  }
}

/** tfjs's WebAssembly module, whose kernels make their outputs through one function. */
const WASM = "wasm";

interface Maker {
  makeOutput?: (shape: readonly number[], ...rest: readonly unknown[]) => unknown;
}

const guarded = new WeakSet<object>();

/**
 * A window larger than its map gives sizes of 0 or less, and two negative ones multiply to a positive count:
 * WebAssembly's kernels then write out of bounds, and freeing the memory may never end.
 */
function refuseEmptyOutputs(backend: object): void {
  const maker: Maker = backend;
  const make = maker.makeOutput?.bind(backend);
  if (!make || guarded.has(backend)) return;
  guarded.add(backend);
  maker.makeOutput = (shape, ...rest) => {
    if (shape.some((size) => size < 1)) throw new Error(`a value of shape [${shape.join(", ")}]`);
    return make(shape, ...rest);
  };
}

/** A WebAssembly instance that has trapped fails for later models too, so the next model gets a new instance. */
function startAgain(tf: typeof Core, engine: string): void {
  const factory = tf.findBackendFactory(engine);
  if (!factory) return;
  // It can no longer free its memory, which goes with its last tensor.
  Object.assign(tf.findBackend(engine) ?? {}, { dispose: () => undefined });
  tf.removeBackend(engine);
  tf.registerBackend(engine, factory);
}

/** A package that is missing or incomplete, such as tfjs-node if its install script could not run. */
function notLoaded(name: RuntimeName, cause: unknown): InputError {
  if (cause instanceof InputError) return cause;
  const { code, message } = cause as { readonly code?: string; readonly message?: string };
  const install = `npm install --ignore-scripts=false @tensorflow/${name}`;
  if (code === "ERR_MODULE_NOT_FOUND" || message?.includes(`Cannot find package '@tensorflow/${name}'`))
    return unavailable(name, "is not installed", install, cause);
  const reason = (message ?? String(cause)).split("\n", 1)[0]?.trim();
  return unavailable(name, `failed to load (${reason})`, install, cause);
}

function unavailable(name: RuntimeName, found: string, remedy: string, cause?: unknown): InputError {
  const problem = { code: "argument", subject: name, found, remedy } as const;
  return new InputError(problem, { cause });
}
