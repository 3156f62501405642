import wasm from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm?url";
import simd from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm?url";
import type { FileFormat, RuntimeName } from "osnet-convert/web";

/** Tells the runtimes of these formats where their files are, which are the page's own. */
export async function prepareRuntimes(formats: readonly FileFormat[], backend?: RuntimeName): Promise<void> {
  if (!formats.includes("tfjs")) return;
  // Engines that are not dependencies of the package register themselves.
  if (backend === "tfjs-webgl") await import("@tensorflow/tfjs-backend-webgl");
  if (backend === "tfjs-webgpu") await import("@tensorflow/tfjs-backend-webgpu");
  const { env } = await import("@tensorflow/tfjs-core");
  const { setWasmPaths } = await import("@tensorflow/tfjs-backend-wasm");
  // Its threads are made from code in strings, which the policy forbids; their file is requested nevertheless.
  env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);
  setWasmPaths({
    "tfjs-backend-wasm.wasm": wasm,
    "tfjs-backend-wasm-simd.wasm": simd,
    "tfjs-backend-wasm-threaded-simd.wasm": simd,
  });
}
