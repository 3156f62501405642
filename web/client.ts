import type { Job, Message, Results, Step, Summary } from "./protocol.js";
import workerUrl from "./worker.ts?worker&url";

/** How far a job is. */
export interface Progress {
  readonly step: Step;
  readonly done?: number;
  readonly total?: number;
}

/** What the library refused, in its own sentence. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly code: string;
  readonly details: readonly string[];

  constructor({ sentence, code, details }: Extract<Message, { readonly kind: "refused" }>) {
    super(sentence);
    this.code = code;
    this.details = details;
  }
}

/**
 * Starts a worker under this page's policy. A worker of a file gets the policy of that file's response, which a plain file server does
 * not send: one of a `blob:` inherits the page's, and loads the file as a module.
 */
function startWorker(): Worker {
  const address = JSON.stringify(new URL(workerUrl, location.href).href);
  // A message that comes before the module is there would be lost.
  const source = `const early = []; onmessage = (event) => early.push(event);
import(${address}).then(() => early.forEach((event) => onmessage(event)), (error) => postMessage({ kind: "crashed", message: String(error) }));`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  worker.addEventListener("message", () => URL.revokeObjectURL(url), { once: true });
  return worker;
}

/** A worker that waits for work, so that no job waits for one to start. */
let spare: Worker | undefined;

export function prepareWorker(): void {
  spare ??= startWorker();
}

/**
 * Does a job in its own worker, which ends with it.
 *
 * @param signal terminates the worker
 * @param onEarly is called with the partial result of an inspection
 * @returns the job's result; rejects with a `Refusal`, or with an `AbortError`
 */
export function work<K extends Job["kind"]>(
  job: Extract<Job, { kind: K }>,
  onProgress: (progress: Progress) => void = () => undefined,
  signal?: AbortSignal,
  onEarly: (summary: Summary) => void = () => undefined,
): Promise<Results[K]> {
  prepareWorker();
  const worker = spare as Worker;
  spare = undefined;
  return new Promise<Results[K]>((resolve, reject) => {
    const abort = (): void => reject(new DOMException("cancelled", "AbortError"));
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort);
    worker.addEventListener("message", ({ data }: MessageEvent<Message>) => {
      if (data.kind === "step") onProgress(data);
      else if (data.kind === "early") onEarly(data.result);
      else if (data.kind === "done") resolve(data.result as Results[K]);
      else if (data.kind === "refused") reject(new Refusal(data));
      else reject(new Error(data.message));
    });
    worker.addEventListener("error", (event) =>
      reject(new Error(event.message || "the worker did not start")),
    );
    worker.addEventListener("messageerror", () => reject(new Error("a message that could not be read")));
    worker.postMessage(job);
  }).finally(() => {
    worker.terminate();
    prepareWorker();
  });
}
