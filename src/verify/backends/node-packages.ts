/**
 * The packages that Node and browsers load in different ways. For browsers, package.json replaces this file by
 * browser-packages.ts, so that bundlers see neither packages for Node nor Node's own modules.
 */

import { createRequire } from "node:module";
import type { MessagePort, Worker } from "node:worker_threads";
import { firstLine, InputError } from "../../core/errors.js";
import type { RuntimeName } from "./backend.js";
import { type Chromium, type ChromiumOptions, quiet } from "./runtime-api.js";

/** Where this runs. */
export const PLACE = "node" as "node" | "browser";

/** Whether a package can be loaded. */
export function isInstalled(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(name);
    return true;
  } catch {
    return false;
  }
}

/**
 * Loads onnxruntime without its telemetry: from 1.29 on, its native library by default keeps a device id and events in
 * the user's home folder and sends them to its vendor. `ORT_DISABLE_TELEMETRY=1` prevents all of it, if it is set in
 * the process's environment before the library is first loaded. No other code may import the package.
 *
 * A worker thread's `process.env` is a copy that native code never sees: there the variable must come from the process.
 *
 * @throws InputError (`argument`) in a worker thread of a process that does not have the variable, and if the package,
 * an optional dependency, is not installed
 */
export async function loadOnnxruntime(): Promise<unknown> {
  const { isMainThread } = await import("node:worker_threads");
  if (!isMainThread && process.env.ORT_DISABLE_TELEMETRY !== "1")
    throw new InputError({
      code: "argument",
      subject: "onnxruntime",
      found: "a worker thread, where telemetry cannot be turned off",
      expected: "ORT_DISABLE_TELEMETRY=1 in the environment of the process",
      remedy:
        'set it when starting the process, or set process.env.ORT_DISABLE_TELEMETRY = "1" before creating the worker',
    });
  process.env.ORT_DISABLE_TELEMETRY = "1";
  // The same variable under the name documented by later versions.
  process.env.ORT_TELEMETRY_DISABLED = "1";
  return import("onnxruntime-node").catch((cause: unknown) => {
    throw new InputError(
      {
        code: "argument",
        subject: "onnxruntime-node",
        found: isMissing(cause)
          ? "is not installed (npm skips it if its install script fails)"
          : `failed to load (${firstLine(cause)})`,
        remedy:
          "use onnxruntime-web, or install it without the script, which only downloads CUDA libraries: npm install --ignore-scripts onnxruntime-node",
      },
      { cause },
    );
  });
}

/** Loads onnxruntime's WebAssembly, which reads its file from the package. It has no telemetry. */
export async function loadOnnxruntimeWeb(): Promise<unknown> {
  // Threads would be workers, which keep a process alive.
  return quiet((await import("onnxruntime-web")).default);
}

/** Number of processors available to this process. */
export async function processors(): Promise<number> {
  const { availableParallelism } = await import("node:os");
  return availableParallelism();
}

/** A thread that runs a module, or undefined if the file does not exist: only compiled code starts threads. */
export async function startThread(module: URL): Promise<Worker | undefined> {
  const [{ existsSync }, threads] = await Promise.all([import("node:fs"), import("node:worker_threads")]);
  if (!existsSync(module)) return undefined;
  const worker = new threads.Worker(module, { resourceLimits: { maxYoungGenerationSizeMb: 2 } });
  // Until somebody listens, an error must not end the process.
  worker.on("error", () => undefined);
  return worker;
}

/** The port between a thread and the one that started it; in the thread. */
export async function threadPort(): Promise<MessagePort> {
  const { parentPort } = await import("node:worker_threads");
  if (!parentPort) throw new Error("this module runs as a thread");
  return parentPort;
}

const started = new Map<string, Promise<Chromium>>();

/** Starts a Chromium for a runtime, or returns the running one. */
export async function openChromium(name: RuntimeName, options: ChromiumOptions): Promise<Chromium> {
  const { startChromium } = await import("./chromium.js");
  const running = started.get(name) ?? startChromium(name, options);
  started.set(name, running);
  try {
    return await running;
  } catch (error) {
    started.delete(name);
    throw error;
  }
}

/** Ends the Chromium of a runtime, if there is one. */
export async function endChromium(name: RuntimeName): Promise<void> {
  const running = started.get(name);
  started.delete(name);
  await (await running?.catch(() => undefined))?.close();
}

/**
 * Loads a package for Node that is not among the dependencies: bundlers do not resolve a name that they do not see.
 * Rejects like an import if it is not installed.
 */
export function loadForNode(name: string): Promise<unknown> {
  return import(name);
}

/** libjpeg-turbo's decoder, as its package exports it. */
export interface JpegCodec {
  readonly JPEGDecoder: new () => JpegDecoder;
}

/** Its buffers are views of the codec's memory, valid until the next call. */
interface JpegDecoder {
  getEncodedBuffer(size: number): Uint8Array;
  /** Throws the address of a text. */
  decode(): void;
  /** Grey or RGB, pixel after pixel. */
  getDecodedBuffer(): Uint8Array;
  delete(): void;
}

/** Loads libjpeg-turbo in WebAssembly, with its own memory. */
export async function loadJpegDecoder(): Promise<JpegCodec> {
  // @ts-expect-error: the package has no types.
  const codec = await import("@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs");
  return codec.default();
}

function isMissing(cause: unknown): boolean {
  return (cause as { readonly code?: string }).code === "ERR_MODULE_NOT_FOUND";
}
