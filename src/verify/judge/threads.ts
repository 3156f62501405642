import { multiplyAdds } from "../../arch/index.js";
import { bytesOf } from "../../core/bytes.js";
import { InputError, type InputProblem } from "../../core/errors.js";
import { DTYPES, type RealTensor, type StateDict, type Tensor } from "../../core/tensor.js";
import { processors, startThread } from "../backends/node-packages.js";
import type { LayerGroup } from "../bounds/recompute.js";
import type { Verification } from "../candidate/candidate.js";
import {
  type GroupJudge,
  type GroupSetting,
  groupJudge,
  type Judgement,
  type Measured,
  type ReferenceSetting,
  type Source,
  take,
} from "./thread-work.js";

/** Uses of tensors whose memory is released after the last one: the garbage collector would take it much later. */
export interface CountedUses {
  /**
   * Counts one use of a tensor.
   *
   * @param release undefined if its memory is not to be released: another tensor of the same numbers is to come
   */
  hold(tensor: RealTensor, release: (() => void) | undefined): void;
  /** Counts one more use. Ignores tensors that are not held. */
  keep(tensor: RealTensor): void;
  /** Counts one use less. */
  free(tensor: RealTensor): void;
}

export function countedUses(): CountedUses {
  // Layers may share a value, and then its numbers.
  const held = new Map<RealTensor["data"], { uses: number; release: (() => void) | undefined }>();
  return {
    hold({ data }, release) {
      const uses = held.get(data)?.uses ?? 0;
      held.set(data, { uses: uses + 1, release });
    },
    keep({ data }) {
      const known = held.get(data);
      if (known) known.uses++;
    },
    free({ data }) {
      const known = held.get(data);
      if (!known || --known.uses > 0) return;
      held.delete(data);
      known.release?.();
    },
  };
}

/** Tensors that several threads read, in blocks of memory that are reused. */
interface SharedMemory extends Pick<CountedUses, "keep" | "free"> {
  /** A copy with one use counted. Waits until there is memory for it, or nothing is left to wait for. */
  share(tensor: RealTensor): Promise<RealTensor>;
}

/** The position of a tensor in its block, in bytes. */
interface Piece {
  readonly start: number;
  readonly end: number;
  readonly block: Block;
}

interface Block {
  readonly buffer: SharedArrayBuffer;
  /** In the order of their positions. */
  taken: readonly Piece[];
}

const ALIGNMENT = 8;

/** Minimum size of a further block in bytes. */
const FURTHER_BYTES = 2 ** 20;

/**
 * @param size of the first block in bytes; if it is full and nothing will be freed, another is allocated
 * @param change resolves when something may have been freed; false if no thread is busy that could free anything
 */
export function sharedMemory(size: number, change: () => Promise<boolean>): SharedMemory {
  const blocks: Block[] = [{ buffer: new SharedArrayBuffer(size), taken: [] }];
  const { hold, keep, free } = countedUses();

  function reserve(bytes: number): Piece | undefined {
    for (const block of blocks) {
      const start = gapIn(block, bytes);
      if (start === undefined) continue;
      const piece = { start, end: start + bytes, block };
      block.taken = [...block.taken, piece].sort((a, b) => a.start - b.start);
      return piece;
    }
    return undefined;
  }

  function place({ dtype, shape, data }: RealTensor, piece: Piece): RealTensor {
    const { buffer } = piece.block;
    const copy: RealTensor =
      dtype === "float32"
        ? { dtype, shape, data: new Float32Array(buffer, piece.start, data.length) }
        : { dtype, shape, data: new Float64Array(buffer, piece.start, data.length) };
    copy.data.set(data);
    const { block } = piece;
    hold(copy, () => {
      block.taken = block.taken.filter((other) => other !== piece);
    });
    return copy;
  }

  return {
    async share(tensor) {
      const bytes = Math.ceil(tensor.data.byteLength / ALIGNMENT) * ALIGNMENT;
      for (;;) {
        const piece = reserve(bytes);
        if (piece) return place(tensor, piece);
        // Reuses existing memory for future tensors: new memory would be garbage until it is collected.
        if (!(await change()) && !blocks.some((block) => gapIn(block, bytes) !== undefined))
          blocks.push({ buffer: new SharedArrayBuffer(Math.max(bytes, FURTHER_BYTES)), taken: [] });
      }
    },
    keep,
    free,
  };
}

function gapIn({ buffer, taken }: Block, bytes: number): number | undefined {
  let start = 0;
  for (const piece of taken) {
    if (piece.start - start >= bytes) return start;
    start = piece.end;
  }
  return buffer.byteLength - start >= bytes ? start : undefined;
}

/**
 * Threads besides the one that runs the candidate. The first computes the reference network and the candidate's distance from it. The
 * others, or the first if there is no other, recompute layers from the candidate's own inputs, and the candidate's thread helps them when it
 * is idle. The computation is the same as on one thread, so reports do not depend on their number.
 */
export interface Threads extends SharedMemory {
  /**
   * The distance between a shared value and the reference network's. Layers must be requested in network order.
   */
  measure(layer: string, actual: RealTensor): Promise<Measured>;
  /** @returns the judge of groups of layers, all of whose tensors are shared; as `GroupJudge.judge` */
  groupJudge(
    setting: GroupSetting,
  ): (group: LayerGroup, actual: RealTensor, source: Source) => Promise<Judgement>;
  end(): Promise<void>;
}

/** Requests to threads. */
export type Request = { readonly id: number } & (
  | { readonly kind: "reference"; readonly setting: ReferenceSetting }
  | { readonly kind: "groups"; readonly setting: GroupSetting; readonly taken: Int32Array }
  | { readonly kind: "measure"; readonly layer: string; readonly actual: RealTensor }
  | {
      readonly kind: "judge";
      /** Its place in `taken`. */
      readonly index: number;
      readonly layer: string;
      readonly actual: RealTensor;
      readonly sources: ReadonlyMap<string, RealTensor>;
    }
);

type Asked<R = Request> = R extends Request ? Omit<R, "id"> : never;

/** Their answers. */
export interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly problem?: InputProblem;
  readonly bug?: string;
}

/** More processors are of little use to one network, and each thread needs memory. */
const MAX_JOBS = 4;

/** Multiply-adds of a run that takes less time than starting a thread. */
const SMALL_RUN = 50e6;

/** Bytes of the candidate's values that may wait for threads. */
const SHARED_BYTES = 10 * 2 ** 20;

/**
 * In a bundle it is beside the command, otherwise beside this file. The name is not a literal import, since bundlers
 * would emit an unused file for it.
 */
const MODULE: string = "./thread.js";

/** The default number of threads of a verification: 1 if it is small. */
async function defaultJobs({ graph, images }: Pick<Verification, "graph" | "images">): Promise<number> {
  return multiplyAdds(graph, images.shape) < SMALL_RUN ? 1 : Math.min(MAX_JOBS, await processors());
}

/**
 * Starts the threads of a verification against the float64 reference before it is open: a thread takes a twentieth of its time to start.
 *
 * @param jobs as in `Verification`
 */
export async function beginThreads(
  verification: Pick<Verification, "graph" | "images" | "jobs">,
): Promise<NonNullable<Verification["threads"]>> {
  const jobs = verification.jobs ?? (await defaultJobs(verification));
  const module = new URL(MODULE, import.meta.url);
  return Array.from({ length: Math.min(jobs, MAX_JOBS) - 1 }, () => startThread(module));
}

/** Ends threads that may have ended already. */
export async function endThreads(threads: Verification["threads"] = []): Promise<void> {
  await Promise.all(threads.map(async (thread) => (await thread.catch(() => undefined))?.terminate()));
}

/**
 * The threads of a verification against the float64 reference.
 *
 * @param wanted names of the layers that are compared
 * @param returned names of those whose reference values are needed
 * @param meanwhile called before this thread waits
 * @returns undefined if one thread is to do everything, or threads cannot be started
 */
export async function startThreads(
  verification: Verification,
  wanted: readonly string[],
  returned: readonly string[],
  meanwhile: () => void,
): Promise<Threads | undefined> {
  const { graph, images, reference } = verification;
  const { network } = reference.backend;
  if (!network) return undefined;
  const begun = verification.threads ?? (await beginThreads(verification));
  const started = await Promise.all(begun.map(openThread));
  const [first, ...others] = started.flatMap((thread) => thread ?? []);
  if (!first) return undefined;
  const judges = others.length > 0 ? others : [first];

  const shared = sharedParameters();
  let helpOut: (() => boolean) | undefined;
  const memory = sharedMemory(SHARED_BYTES, async () => {
    // Not earlier: the other threads would have nothing to do.
    meanwhile();
    const hasHelped = helpOut?.() ?? false;
    const busy = hasHelped ? [] : [first, ...others].flatMap((thread) => thread.busy() ?? []);
    if (busy.length > 0) await Promise.race(busy);
    // The receiver of the answer has freed its memory first.
    await new Promise((resolve) => setImmediate(resolve));
    return hasHelped || busy.length > 0;
  });
  return {
    ...memory,
    measure: measurer(first, { graph, images, wanted, returned, network: shared(network) }),
    groupJudge(setting) {
      const all = { ...setting, parameters: shared(setting.parameters) };
      const taken = new Int32Array(new SharedArrayBuffer(4 * setting.shown.length));
      const ready = Promise.all(judges.map((thread) => thread.ask({ kind: "groups", setting: all, taken })));
      const { judge, help } = judgePool(judges, groupJudge(setting, MAX_HERE), taken);
      helpOut = () => help(0);
      return async (group, actual, source) => {
        const sources = new Map(group.sources.map((name) => [name, source(name)]));
        const [judgement] = await Promise.all([judge({ group, actual, sources }), ready]);
        return judgement;
      };
    },
    async end() {
      await Promise.all([first, ...others].map((thread) => thread.end()));
    },
  };
}

/** Memory in which the candidate's thread judges groups, in elements: 12 MiB. With more, it would judge more of the first stage's layers, and not be faster. */
const MAX_HERE = 12 * 2 ** 17;

/** A group to judge, with the values that it reads. */
interface Task {
  readonly group: LayerGroup;
  readonly actual: RealTensor;
  readonly sources: ReadonlyMap<string, RealTensor>;
}

/** Groups that the candidate's thread leaves to the others while it has something else to do: without any, they would wait for its next values. */
const LEFT = 3;

interface JudgePool {
  judge(task: Task): Promise<Judgement>;
  /** Judges a small group on this thread, and says so, if more than `left` of them wait. */
  help(left: number): boolean;
}

/**
 * Sends each group to all threads that judge, and the first to reach it judges it. So they are busy even while this thread is in
 * the runtime, and when this thread is idle, it judges small groups that wait.
 *
 * @param taken a mark for each group that a thread has come to
 */
function judgePool(
  judges: readonly OpenThread[],
  here: Pick<GroupJudge, "judge" | "sizeOf">,
  taken: Int32Array,
): JudgePool {
  const small: { readonly index: number; readonly judge: () => void }[] = [];
  let count = 0;
  let isHelping = false;

  function help(left: number): boolean {
    while (small[0] && Atomics.load(taken, small[0].index) !== 0) small.shift();
    const next = small.length > left ? small.shift() : undefined;
    if (next && take(taken, next.index)) next.judge();
    return next !== undefined;
  }

  function keepHelping(): void {
    isHelping = help(LEFT);
    if (isHelping) setImmediate(keepHelping);
  }

  return {
    help,
    judge({ group, actual, sources }) {
      const index = count++;
      const request = { kind: "judge", index, layer: group.layer.name, actual, sources } as const;
      const judged = new Promise<Judgement>((end, fail) => {
        // Undefined from all but one.
        for (const thread of judges)
          thread.ask(request).then((result) => result !== undefined && end(result as Judgement), fail);
        const judge = (): Judgement => here.judge(group, actual, (name) => sources.get(name) as RealTensor);
        if (here.sizeOf(group) <= MAX_HERE)
          small.push({ index, judge: () => end(Promise.resolve().then(judge)) });
      });
      if (!isHelping) {
        isHelping = true;
        setImmediate(keepHelping);
      }
      return judged;
    },
  };
}

/** Has a thread measure layers against the reference network. */
function measurer(thread: OpenThread, setting: ReferenceSetting): Threads["measure"] {
  const opened = thread.ask({ kind: "reference", setting });
  // An error is reported when the first layer is measured.
  opened.catch(() => undefined);
  return async (layer, actual) => {
    await opened;
    return (await thread.ask({ kind: "measure", layer, actual })) as Measured;
  };
}

/** The number of a thread that has ended. */
const ENDED = -1;

interface OpenThread {
  ask(request: Asked): Promise<unknown>;
  /** Resolves with the oldest unanswered request; undefined if there is none. */
  busy(): Promise<unknown> | undefined;
  end(): Promise<void>;
}

async function openThread(started: ReturnType<typeof startThread>): Promise<OpenThread | undefined> {
  const worker = await started;
  // One that could not start has ended already.
  if (!worker || worker.threadId === ENDED) return undefined;
  const asked = new Map<
    number,
    { readonly promise: Promise<unknown>; readonly settle: (answer: Answer) => void }
  >();
  let next = 0;
  let failure: Error | undefined;
  worker.on("message", (answer: Answer) => {
    asked.get(answer.id)?.settle(answer);
    asked.delete(answer.id);
  });
  const fail = (cause: Error): void => {
    failure = cause;
    for (const [id, { settle }] of asked) settle({ id, bug: String(cause.stack ?? cause.message) });
    asked.clear();
  };
  worker.on("error", fail);
  worker.on("exit", () => fail(new Error("a thread of the verification has ended")));
  return {
    ask(request) {
      if (failure) return Promise.reject(failure);
      const id = next++;
      let settle: (answer: Answer) => void = () => undefined;
      const promise = new Promise((resolve, reject) => {
        settle = ({ result, problem, bug }) => {
          if (problem) reject(new InputError(problem));
          else if (bug !== undefined) reject(new Error(bug));
          else resolve(result);
        };
      });
      asked.set(id, { promise, settle });
      worker.postMessage({ ...request, id });
      return promise;
    },
    busy() {
      const [oldest] = asked.values();
      return oldest?.promise.catch(() => undefined);
    },
    async end() {
      // Requests that still wait have been rejected already.
      worker.removeAllListeners();
      asked.clear();
      await worker.terminate();
    },
  };
}

/** Copies state dicts into memory that all threads see, each tensor once. */
function sharedParameters(): (stateDict: StateDict) => StateDict {
  const copies = new Map<Tensor, Tensor>();
  return (stateDict) =>
    new Map(
      [...stateDict].map(([path, tensor]) => {
        const known = copies.get(tensor);
        if (known) return [path, known];
        const { data } = tensor;
        if (data.buffer instanceof SharedArrayBuffer) return [path, tensor];
        const bytes = new Uint8Array(new SharedArrayBuffer(data.byteLength));
        bytes.set(bytesOf(data));
        const copy = { ...tensor, data: new DTYPES[tensor.dtype](bytes.buffer) } as Tensor;
        copies.set(tensor, copy);
        return [path, copy];
      }),
    );
}
