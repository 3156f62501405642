import { parentPort } from "node:worker_threads";
import { type PictureTask, preparePicture } from "./pictures.js";

/** A thread of a picture pool. */
parentPort?.on("message", async ({ id, task }: { readonly id: number; readonly task: PictureTask }) => {
  const result = await preparePicture(task);
  parentPort?.postMessage({ id, result }, "pixels" in result ? [result.pixels.buffer as ArrayBuffer] : []);
});
