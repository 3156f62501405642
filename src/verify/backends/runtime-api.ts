import type { TfjsFiles } from "../../convert/formats/tfjs/model.js";
import type { Tensor } from "../../core/tensor.js";
import { quoted } from "../../core/text.js";
import type { RuntimeFacts } from "./backend.js";

/** The part of the runtimes' APIs that the backends use, in this process, in this page, or in a Chromium. */

/**
 * The part of onnxruntime's JavaScript API that is used. Its own types need the DOM's, which not every user compiles
 * with.
 */
export interface OnnxruntimeModule {
  readonly Tensor: new (
    type: "float16" | "float32" | "float64" | "uint8" | "int8" | "int32",
    data: Uint16Array | Float32Array | Float64Array | Uint8Array | Int8Array | Int32Array,
    dims: readonly number[],
  ) => OnnxruntimeTensor;
  readonly InferenceSession: {
    create(file: Uint8Array | string, options: OnnxruntimeOptions): Promise<OnnxruntimeSession>;
  };
  readonly facts?: () => RuntimeFacts | undefined;
}

/** The settings of onnxruntime-web that are changed. */
interface OnnxruntimeEnvironment {
  readonly wasm: { numThreads?: number };
  logLevel?: "verbose" | "info" | "warning" | "error" | "fatal";
}

/**
 * Settings of onnxruntime-web for every backend: only errors on the console, and one thread unless the page has set a
 * number. More need headers that isolate the page from other origins.
 */
export function quiet<T extends { readonly env: OnnxruntimeEnvironment }>(onnxruntime: T): T {
  onnxruntime.env.wasm.numThreads ??= 1;
  onnxruntime.env.logLevel = "error";
  return onnxruntime;
}

/** A value, of any type that ONNX has. */
export interface OnnxruntimeTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: ArrayLike<unknown> & { readonly byteLength?: number };
}

/** Options for creating a session. */
export interface OnnxruntimeOptions {
  readonly enableMemPattern?: boolean;
  readonly executionProviders?: readonly string[];
  /** Session configuration: nested keys are joined by dots. */
  readonly extra?: { readonly session: { readonly intra_op: { readonly allow_spinning: "0" | "1" } } };
  readonly externalData?: readonly { readonly path: string; readonly data: Uint8Array }[];
  readonly graphOptimizationLevel: "all" | "extended" | "disabled";
  readonly intraOpNumThreads?: number;
  readonly logSeverityLevel: 4;
}

export interface OnnxruntimeSession {
  run(
    feeds: Readonly<Record<string, OnnxruntimeTensor>>,
    names: readonly string[],
  ): Promise<Readonly<Record<string, OnnxruntimeTensor>>>;
  release(): Promise<void>;
}

/** A weight that a runtime computes with other numbers than its file has. The name is kept across pages, the class is not. */
export class LoadedOtherwise extends Error {
  override readonly name = "LoadedOtherwise";

  constructor(weight: string) {
    super(`the weight ${quoted(weight)}`);
  }
}

/** A model that a runtime does not load, whatever images it is given. */
export class NotLoaded extends Error {
  override readonly name = "NotLoaded";
}

/** A model's files, and the name of its input. */
export interface TfjsProgram {
  readonly files: TfjsFiles;
  readonly input: string;
}

/** A value of tfjs: NHWC or NC. */
export interface TfjsValue {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** One run of a model. */
export interface TfjsSegment {
  /** Names of nodes, or of layers' calls. */
  readonly values: readonly string[];
  /** Values of earlier segments from which a graph model continues; everything else is computed from the images. */
  readonly from: readonly string[];
}

/** The runtimes of a page in a Chromium that was started for it. */
export interface Chromium {
  /** The hardware and software that it runs on. */
  readonly facts: RuntimeFacts;
  /** onnxruntime, whose sessions are the page's. */
  readonly onnxruntime: OnnxruntimeModule;
  /** As `runTfjs`, in the page. */
  runTfjs(
    program: TfjsProgram,
    images: Tensor<"float32">,
    segments: readonly TfjsSegment[],
  ): AsyncGenerator<TfjsValue>;
  /** As `predictTfjs`, in the page. */
  predictTfjs(files: TfjsFiles, images: Tensor<"float32">): Promise<readonly TfjsValue[]>;
  /** Ends the browser. */
  close(): Promise<void>;
}

/** Options for starting Chromium. */
export interface ChromiumOptions {
  /** Packages whose files the page loads. */
  readonly packages: readonly string[];
  /** The runtime's name in its package. */
  readonly engine: string;
  /** Whether it needs a GPU. */
  readonly needsGpu: boolean;
}

/** A tensor whose elements are fetched. */
export interface RemoteTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly path: string;
}

/** A TensorFlow.js model whose files are fetched. */
export interface RemoteFiles {
  readonly json: string;
  readonly shards: readonly (readonly [name: string, path: string])[];
}

/** How to interpret a value's bytes, by ONNX's name for the type. */
const ELEMENTS: Readonly<Record<string, new (bytes: ArrayBuffer) => OnnxruntimeTensor["data"]>> = {
  float16: Uint16Array,
  float32: Float32Array,
  float64: Float64Array,
  uint8: Uint8Array,
  int8: Int8Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
};

/** The elements of a tensor in a copy of its bytes. */
export function elementsOf(type: string, bytes: ArrayBuffer): OnnxruntimeTensor["data"] {
  const Elements = ELEMENTS[type];
  if (!Elements) throw new Error(`a value of type ${type}`);
  return new Elements(bytes);
}

/** The part of a browser's interfaces that is used; this package does not compile with their types. */
interface Browser {
  readonly navigator?: {
    readonly gpu?: { requestAdapter(): Promise<{ readonly info: Partial<Record<string, unknown>> } | null> };
  };
  readonly OffscreenCanvas?: new (
    width: number,
    height: number,
  ) => {
    getContext(kind: "webgl2"): WebglContext | null;
  };
}

interface WebglContext {
  getExtension(name: string): { readonly UNMASKED_RENDERER_WEBGL?: number; loseContext?(): void } | null;
  getParameter(name: number): unknown;
}

/** The GPU and driver of one of a browser's engines, as far as the browser names them; undefined for others. */
export async function graphicsOf(engine: string): Promise<RuntimeFacts> {
  const gpu = engine === "webgpu" ? await webgpuAdapter() : engine === "webgl" ? webglRenderer() : undefined;
  return gpu === undefined ? {} : { gpu };
}

async function webgpuAdapter(): Promise<string | undefined> {
  const { navigator } = globalThis as unknown as Browser;
  const adapter = await navigator?.gpu?.requestAdapter();
  if (!adapter) return undefined;
  // Browsers started for developers name the driver.
  const { vendor, architecture, device, description, backend, driver } = adapter.info;
  const words = [vendor, architecture, device, description, backend, driver].filter(
    (word, index, all) => typeof word === "string" && word !== "" && all.indexOf(word) === index,
  );
  return words.length > 0 ? words.join(", ") : "unnamed";
}

function webglRenderer(): string | undefined {
  const { OffscreenCanvas } = globalThis as unknown as Browser;
  const context = OffscreenCanvas && new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!context) return undefined;
  const renderer = context.getExtension("WEBGL_debug_renderer_info")?.UNMASKED_RENDERER_WEBGL;
  const name = renderer === undefined ? "unnamed" : String(context.getParameter(renderer));
  context.getExtension("WEBGL_lose_context")?.loseContext?.();
  return name;
}
