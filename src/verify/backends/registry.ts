import type { ModelFormat } from "../../convert/formats/registry.js";
import {
  type BackendName,
  type EngineName,
  FLOAT32_CPU,
  FLOAT32_GPU,
  type Numerics,
  type RuntimeName,
} from "./backend.js";
import {
  endChromium,
  isInstalled,
  loadForNode,
  loadOnnxruntime,
  loadOnnxruntimeWeb,
  openChromium,
  PLACE,
} from "./node-packages.js";
import { type Chromium, quiet } from "./runtime-api.js";

/**
 * A runtime. Options, help and reports follow from its row; a new runtime of an existing format needs only its row and
 * its name in `EngineName`.
 */
export interface Engine {
  /** The format of the models that it runs. */
  readonly runs: ModelFormat;
  /** The environments that it runs in. */
  readonly where: readonly ("node" | "browser")[];
  /** A short description. */
  readonly summary: string;
  /** The package whose version determines the results. */
  readonly package: string;
  /** Its name in `tf.setBackend`, or in onnxruntime's list of execution providers, for packages with more than one. */
  readonly engine?: string;
  /** Whether graph rewriting can be turned off, so that a verification compares both ways. */
  readonly optimises?: boolean;
  /** Whether it finds the files beside a model by the model's path. Otherwise it is given their bytes. */
  readonly opensPaths?: boolean;
  /** Its rounding, from which the bounds are derived. */
  readonly numerics: Numerics;
  /**
   * Returns onnxruntime's module, or registers one of tfjs's engines. Absent if a page has to import the engine's
   * package, `@tensorflow/tfjs-backend-…`, itself, since it is not among the dependencies.
   *
   * @throws InputError (`argument`) if it is not installed, or does not run here
   */
  readonly load?: () => Promise<unknown>;
}

/** In order of preference: the first installed one of a format is the default. */
export const BACKENDS: { readonly [N in EngineName]: Engine } = {
  onnxruntime: {
    runs: "onnx",
    where: ["node"],
    summary: "native library, on the processor",
    package: "onnxruntime-node",
    optimises: true,
    opensPaths: true,
    numerics: FLOAT32_CPU,
    load: loadOnnxruntime,
  },
  "onnxruntime-web": {
    runs: "onnx",
    where: ["node", "browser"],
    summary: "WebAssembly with SIMD; the default where onnxruntime-node is not installed",
    package: "onnxruntime-web",
    engine: "wasm",
    optimises: true,
    numerics: FLOAT32_CPU,
    load: loadOnnxruntimeWeb,
  },
  "onnxruntime-web-webgpu": {
    runs: "onnx",
    where: ["browser"],
    summary: "graphics card, by WebGPU",
    package: "onnxruntime-web",
    engine: "webgpu",
    optimises: true,
    numerics: FLOAT32_GPU,
    // Its `.wasm` file is located like that of onnxruntime-web/wasm.
    load: async () => quiet(await import("onnxruntime-web/webgpu")),
  },
  "tfjs-wasm": {
    runs: "tfjs",
    where: ["node", "browser"],
    summary: "WebAssembly with SIMD",
    package: "@tensorflow/tfjs-core",
    engine: "wasm",
    numerics: FLOAT32_CPU,
    load: () => import("@tensorflow/tfjs-backend-wasm"),
  },
  "tfjs-cpu": {
    runs: "tfjs",
    where: ["node", "browser"],
    summary: "JavaScript",
    package: "@tensorflow/tfjs-core",
    engine: "cpu",
    numerics: FLOAT32_CPU,
    load: () => import("@tensorflow/tfjs-backend-cpu"),
  },
  "tfjs-node": {
    runs: "tfjs",
    where: ["node"],
    summary: "TensorFlow's own library, if you have installed @tensorflow/tfjs-node",
    package: "@tensorflow/tfjs-node",
    engine: "tensorflow",
    numerics: FLOAT32_CPU,
    // It compiles or downloads 400 MB when it is installed.
    load: () => loadForNode("@tensorflow/tfjs-node"),
  },
  "tfjs-webgl": {
    runs: "tfjs",
    where: ["browser"],
    summary: "graphics card, by WebGL",
    package: "@tensorflow/tfjs-backend-webgl",
    engine: "webgl",
    numerics: FLOAT32_GPU,
  },
  "tfjs-webgpu": {
    runs: "tfjs",
    where: ["browser"],
    summary: "graphics card, by WebGPU",
    package: "@tensorflow/tfjs-backend-webgpu",
    engine: "webgpu",
    numerics: FLOAT32_GPU,
  },
};

const CHROMIUM = "chromium:";

const ENGINES = Object.entries(BACKENDS) as readonly (readonly [EngineName, Engine])[];

/** All runtimes available here: those of this process or page; in Node also those of pages, in a Chromium. */
export const RUNTIMES: readonly RuntimeName[] = [
  ...ENGINES.filter(([, { where }]) => where.includes(PLACE)).map(([name]) => name),
  ...(PLACE === "node"
    ? ENGINES.filter(([, { where }]) => where.includes("browser")).map(
        ([name]) => `${CHROMIUM}${name}` as const,
      )
    : []),
];

export function isRuntime(name: string | undefined): name is RuntimeName {
  return (RUNTIMES as readonly (string | undefined)[]).includes(name);
}

/**
 * Names of runtimes that another name could mean, with or without `chromium:`: an engine's own name, such as `webgpu`,
 * or its package's with the engine's, such as `onnxruntime-web-wasm`. Several if both formats have an engine of that
 * name.
 */
export function runtimesMeant(text: string): readonly RuntimeName[] {
  const word = text.toLowerCase();
  const spelled = RUNTIMES.filter((name) => {
    const { engine, package: from } = engineOf(name);
    const row = word.replace(CHROMIUM, "");
    return engine !== undefined && (row === engine || row === `${from}-${engine}`);
  });
  const isAsked = (name: RuntimeName): boolean => name.startsWith(CHROMIUM) === word.startsWith(CHROMIUM);
  return spelled.some(isAsked) ? spelled.filter(isAsked) : spelled;
}

/** The row of a runtime, with or without `chromium:`. */
export function engineOf(name: RuntimeName): Engine {
  return BACKENDS[engineName(name)];
}

/** The name of its row. */
function engineName(name: RuntimeName): EngineName {
  return name.replace(CHROMIUM, "") as EngineName;
}

/**
 * The Chromium for a runtime, started if necessary; undefined if the runtime does not need one.
 *
 * @throws InputError (`argument`) if it cannot be started
 */
export async function chromiumFor(name: RuntimeName): Promise<Chromium | undefined> {
  if (!name.startsWith(CHROMIUM)) return undefined;
  const row = engineName(name);
  const { runs, engine = "", package: from } = BACKENDS[row];
  const tfjs = ["core", "converter", "layers", "backend-cpu"].map((part) => `@tensorflow/tfjs-${part}`);
  const own = row === "tfjs-wasm" ? ["@tensorflow/tfjs-backend-wasm"] : [];
  return openChromium(row, {
    packages: runs === "onnx" ? [from] : [...new Set([...tfjs, ...own, from])],
    engine,
    needsGpu: engine === "webgl" || engine === "webgpu",
  });
}

/** Ends the Chromium of a runtime, if one was started. */
export async function closeChromium(name: RuntimeName): Promise<void> {
  if (name.startsWith(CHROMIUM)) await endChromium(engineName(name));
}

/** Runtimes of a format here, the usual one first, whether or not they are installed. */
export function usualRuntimes(format: ModelFormat): readonly RuntimeName[] {
  return RUNTIMES.filter((name) => engineOf(name).runs === format);
}

/** The same with the default first: the first installed one. */
export function runtimesFor(format: ModelFormat): readonly RuntimeName[] {
  const all = usualRuntimes(format);
  const chosen = all.find((name) => isInstalled(engineOf(name).package)) ?? all[0];
  return [...(chosen ? [chosen] : []), ...all.filter((name) => name !== chosen)];
}

/** The runtime of a model: the requested one if it runs the format, else the default. */
export function runtimeFor(format: ModelFormat, asked: BackendName | undefined): RuntimeName {
  const runtimes = runtimesFor(format);
  const [first = "onnxruntime"] = runtimes;
  return runtimes.find((name) => name === asked) ?? first;
}

/** A backend's rounding; for recordings and the float64 reference, that of a CPU. */
export function numericsOf(name: BackendName): Numerics {
  return name === "recorded" || name === "reference" ? FLOAT32_CPU : engineOf(name).numerics;
}
