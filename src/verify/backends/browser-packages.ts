/** What stands in for node-packages.ts in a browser: the same functions, which refuse where there is no such package for it. */

import { InputError } from "../../core/errors.js";
import type { JpegCodec } from "./node-packages.js";

/** Loads libjpeg-turbo as plain JavaScript: no bundler has to be told where a .wasm file goes. */
export async function loadJpegDecoder(): Promise<JpegCodec> {
  // @ts-expect-error: rolldown.config.ts makes it when the package is built.
  const codec = await import("./libjpeg-turbo.js");
  return codec.default();
}

/** @throws InputError (`unsupported`): onnxruntime-node is for Node */
export async function loadOnnxruntime(): Promise<never> {
  throw refused("onnxruntime-node");
}

/** @throws InputError (`unsupported`): tfjs-node is for Node */
export async function loadTfjsNode(): Promise<never> {
  throw refused("@tensorflow/tfjs-node");
}

function refused(name: string): InputError {
  return new InputError({
    code: "unsupported",
    subject: name,
    found: "a browser",
    expected: "Node",
    remedy: "verify ONNX files in Node; in a browser, TensorFlow.js models run in tfjs-wasm or tfjs-cpu",
  });
}
