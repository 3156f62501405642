import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { parentPort, Worker, workerData } from "node:worker_threads";
import { sha256 } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { decodePhoto, resizeBilinear } from "../../verify/inputs/photos.js";

/** A picture for the model: 8-bit RGB, row by row, at the model's size; or why it cannot be read. */
type PreparedPicture =
  | { readonly digest: string; readonly pixels: Uint8Array }
  | { readonly digest: string; readonly problem: string };

interface PictureTask {
  readonly path: string;
  readonly height: number;
  readonly width: number;
}

/**
 * Reads, decodes and resizes a picture, like torchreid's test transform. An unreadable one is a result, not an
 * exception.
 */
export async function preparePicture({ path, height, width }: PictureTask): Promise<PreparedPicture> {
  let digest = "";
  try {
    const bytes = new Uint8Array(await readFile(path));
    digest = await sha256(bytes);
    const photo = await decodePhoto(bytes, path);
    return { digest, pixels: resizeBilinear(photo, height, width).data };
  } catch (cause) {
    if (cause instanceof InputError) return { digest, problem: cause.message };
    if (cause instanceof Error && "code" in cause) return { digest, problem: cause.message };
    throw cause;
  }
}

/** Prepares several pictures at a time. */
interface PicturePool {
  prepare(task: PictureTask): Promise<PreparedPicture>;
  close(): Promise<void>;
}

/** This file as compiled, which is the program of a thread; if the TypeScript source runs directly, it does not exist, and no thread is started. */
const WORKER = new URL("./pictures.js", import.meta.url);

/** What a pool's threads are started with: other threads may load this file too. */
const ROLE = "prepares pictures";

if (workerData === ROLE)
  parentPort?.on("message", async ({ id, task }: { readonly id: number; readonly task: PictureTask }) => {
    const result = await preparePicture(task);
    parentPort?.postMessage({ id, result }, "pixels" in result ? [result.pixels.buffer as ArrayBuffer] : []);
  });

/** As many threads as there are processors besides this thread's, at least one. */
export function picturePool(): PicturePool {
  if (!existsSync(WORKER)) return { prepare: preparePicture, close: async () => {} };
  const threads = Array.from(
    { length: Math.max(1, availableParallelism() - 1) },
    () => new Worker(WORKER, { workerData: ROLE }),
  );
  const waiting = new Map<number, { resolve(result: PreparedPicture): void; reject(cause: unknown): void }>();
  for (const thread of threads) {
    thread.on("message", ({ id, result }: { readonly id: number; readonly result: PreparedPicture }) => {
      waiting.get(id)?.resolve(result);
      waiting.delete(id);
    });
    thread.on("error", (cause) => {
      for (const { reject } of waiting.values()) reject(cause);
      waiting.clear();
    });
  }
  let next = 0;
  return {
    prepare: (task) =>
      new Promise((resolve, reject) => {
        const id = next++;
        waiting.set(id, { resolve, reject });
        threads[id % threads.length]?.postMessage({ id, task });
      }),
    close: async () => {
      await Promise.all(threads.map((thread) => thread.terminate()));
    },
  };
}
