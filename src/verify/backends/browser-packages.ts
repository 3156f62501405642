/** Replaces node-packages.ts in a browser: the same functions, but those for Node only throw. */

import { InputError } from "../../core/errors.js";
import type { JpegCodec } from "./node-packages.js";
import { quiet } from "./runtime-api.js";

/** Loads libjpeg-turbo as plain JavaScript, so that bundlers need no settings for a .wasm file. */
export async function loadJpegDecoder(): Promise<JpegCodec> {
  // @ts-expect-error: rolldown.config.ts makes it when the package is built.
  const codec = await import("./libjpeg-turbo.js");
  return codec.default();
}

/** Where this runs. */
export const PLACE = "browser" as "node" | "browser";

/** A page has the packages it was built with. */
export function isInstalled(_name: string): boolean {
  return true;
}

/** @throws InputError (`unsupported`): onnxruntime-node runs in Node only */
export async function loadOnnxruntime(): Promise<never> {
  throw refused("onnxruntime-node");
}

/**
 * Loads onnxruntime's WebAssembly. Its `.wasm` file is found beside its module, where bundlers put it, or at the page's
 * `env.wasm.wasmPaths` of `onnxruntime-web/wasm`.
 */
export async function loadOnnxruntimeWeb(): Promise<unknown> {
  return quiet(await import("onnxruntime-web/wasm"));
}

/** @throws InputError (`unsupported`): the package runs in Node only */
export async function loadForNode(name: string): Promise<never> {
  throw refused(name);
}

/** In a browser everything runs on one thread. */
export async function processors(): Promise<number> {
  return 1;
}

export async function startThread(): Promise<undefined> {
  return undefined;
}

/** @throws InputError (`unsupported`): no thread was started */
export async function threadPort(): Promise<never> {
  throw refused("worker_threads");
}

/** @throws InputError (`unsupported`): a page starts no browser */
export async function openChromium(): Promise<never> {
  throw refused("puppeteer-core");
}

/** A browser has none. */
export async function endChromium(): Promise<void> {}

function refused(name: string): InputError {
  return new InputError({
    code: "unsupported",
    subject: name,
    found: "a browser",
    expected: "Node",
    remedy:
      "use another backend: onnxruntime-web for ONNX files, tfjs-wasm or tfjs-cpu for TensorFlow.js models",
  });
}
