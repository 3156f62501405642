import type { TfjsFiles } from "../../convert/formats/tfjs/model.js";
import type { RuntimeFacts, RuntimeName } from "./backend.js";
import { engineOf } from "./registry.js";
import {
  elementsOf,
  graphicsOf,
  type OnnxruntimeModule,
  type OnnxruntimeOptions,
  type OnnxruntimeSession,
  type RemoteFiles,
  type RemoteTensor,
  type TfjsSegment,
  type TfjsValue,
} from "./runtime-api.js";
import { predictTfjs, runTfjs, tfjsStorage } from "./tfjs-runtime.js";

/**
 * The code of the page that chromium.ts opens: the library's own backends, as in any page, on models and images that it
 * fetches. Values are returned by PUT; small ones through the debugger's connection.
 */

const sessions = new Map<number, OnnxruntimeSession>();
/** Of WebGPU: the session that was released last. */
let lastReleased: OnnxruntimeSession | undefined;
let runtime: RuntimeName = "tfjs-wasm";
let onnxruntime: OnnxruntimeModule | undefined;

/** Loads a runtime, and returns what it runs on: undefined if it needs a GPU and there is none. */
export async function start(name: RuntimeName, wasmPath: string, needsGpu: boolean): Promise<RuntimeFacts> {
  runtime = name;
  const { runs, engine = "", load } = engineOf(name);
  const graphics = await graphicsOf(engine);
  if (needsGpu && graphics.gpu === undefined) return graphics;
  if (runs === "onnx") {
    const module = (await load?.()) as OnnxruntimeModule & { env: { wasm: { wasmPaths?: string } } };
    module.env.wasm.wasmPaths = wasmPath;
    onnxruntime = module;
    return graphics;
  }
  return { ...graphics, ...(await tfjsStorage(name)) };
}

/** Makes a session of an ONNX file, identified by a number. */
export async function createSession(
  id: number,
  file: string,
  {
    externalData = [],
    ...options
  }: Omit<OnnxruntimeOptions, "externalData"> & {
    readonly externalData?: readonly { readonly path: string; readonly data: string }[];
  },
): Promise<void> {
  if (!onnxruntime) throw new Error("onnxruntime is not loaded");
  const beside = await Promise.all(
    externalData.map(async ({ path, data }) => ({ path, data: new Uint8Array(await fetched(data)) })),
  );
  const session = await onnxruntime.InferenceSession.create(new Uint8Array(await fetched(file)), {
    ...options,
    ...(beside.length > 0 ? { externalData: beside } : {}),
  });
  sessions.set(id, session);
  const before = lastReleased;
  lastReleased = undefined;
  await before?.release();
}

/** Runs a session and sends the values of these names to a path, one after another. */
export async function runSession(
  id: number,
  feeds: Readonly<Record<string, RemoteTensor>>,
  names: readonly string[],
  to: string,
): Promise<void> {
  const session = sessions.get(id);
  if (!session || !onnxruntime) throw new Error("no such session");
  const { Tensor } = onnxruntime;
  const fed = await Promise.all(
    Object.entries(feeds).map(async ([name, { type, dims, path }]) => {
      const data = elementsOf(type, await fetched(path));
      return [name, new Tensor(type as "float32", data as Float32Array, dims)] as const;
    }),
  );
  const values = await session.run(Object.fromEntries(fed), names);
  for (const name of names) {
    const value = values[name];
    if (!value) throw new Error(`no output ${name}`);
    const { type, dims, data } = value;
    await send(to, { name, type, dims }, data as unknown as Uint8Array);
  }
}

/** Releases a session's memory, in WebGPU once there is another session: onnxruntime drops its compiled shaders with the last one. */
export async function releaseSession(id: number): Promise<void> {
  const session = sessions.get(id);
  sessions.delete(id);
  if (engineOf(runtime).engine !== "webgpu") return session?.release();
  await lastReleased?.release();
  lastReleased = session;
}

/** Runs a TensorFlow.js model segment by segment; its values go to a path in their order. */
export async function runModel(
  files: RemoteFiles,
  input: string,
  images: RemoteTensor,
  segments: readonly TfjsSegment[],
  to: string,
): Promise<void> {
  const program = { files: await filesOf(files), input };
  for await (const value of runTfjs(runtime, program, await imagesOf(images), segments))
    await sendValue(to, value);
}

/** Runs a TensorFlow.js model as a program does; its outputs go to a path in their order. */
export async function predict(files: RemoteFiles, images: RemoteTensor, to: string): Promise<number> {
  const values = await predictTfjs(runtime, await filesOf(files), await imagesOf(images));
  for (const value of values) await sendValue(to, value);
  return values.length;
}

async function fetched(path: string): Promise<ArrayBuffer> {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: status ${response.status}`);
  return response.arrayBuffer();
}

async function filesOf({ json, shards }: RemoteFiles): Promise<TfjsFiles> {
  const read = async (path: string): Promise<Uint8Array> => new Uint8Array(await fetched(path));
  const pairs = await Promise.all(shards.map(async ([name, path]) => [name, await read(path)] as const));
  return { json: await read(json), shards: new Map(pairs) };
}

async function imagesOf({ dims, path }: RemoteTensor): Promise<{
  readonly dtype: "float32";
  readonly shape: readonly number[];
  readonly data: Float32Array;
}> {
  return { dtype: "float32", shape: dims, data: new Float32Array(await fetched(path)) };
}

function sendValue(to: string, { shape, data }: TfjsValue): Promise<void> {
  return send(to, { name: "", type: "float32", dims: shape }, data);
}

/** Sends a value and waits until it is received, so that only one is queued there. */
async function send(to: string, header: object, body: Uint8Array | Float32Array): Promise<void> {
  const headers = { "x-value": encodeURIComponent(JSON.stringify(header)) };
  const response = await fetch(to, { method: "PUT", headers, body });
  if (!response.ok) throw new Error("nobody reads on");
}
