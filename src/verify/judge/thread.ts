/** A thread that measures a candidate's layers against the reference network, or judges them on their own inputs. */

import { InputError } from "../../core/errors.js";
import { threadPort } from "../backends/node-packages.js";
import { layerGroups } from "../bounds/recompute.js";
import { groupJudge, type ReferenceRun, referenceRun, take } from "./thread-work.js";
import type { Answer, Request } from "./threads.js";

const port = await threadPort();
let reference: ReferenceRun | undefined;
let judge: ((request: Extract<Request, { kind: "judge" }>) => unknown) | undefined;
let isIdle = true;

/** Collects this thread's garbage at once; in the commands, which have V8 expose it. */
const { gc } = globalThis as { readonly gc?: () => void };
let hasGarbage = false;
const onRelease = (): void => {
  hasGarbage = true;
};

function answer(request: Request): unknown {
  switch (request.kind) {
    case "reference":
      reference = referenceRun(request.setting, onRelease);
      break;
    case "groups": {
      const { setting, taken } = request;
      const groups = new Map(
        layerGroups(setting.graph, new Set(setting.shown)).map((group) => [group.layer.name, group]),
      );
      const own = groupJudge(setting, undefined, onRelease);
      judge = ({ index, layer, actual, sources }) => {
        if (!take(taken, index)) return undefined;
        const group = groups.get(layer);
        const source = (name: string) => {
          const value = sources.get(name);
          if (!value) throw new Error(`${layer} was sent without ${name}`);
          return value;
        };
        if (!group) throw new Error(`no group of ${layer}`);
        return own.judge(group, actual, source);
      };
      break;
    }
    case "measure":
      return reference?.measure(request.layer, request.actual);
    case "judge":
      return judge?.(request);
  }
}

/** Between requests, the reference network runs ahead. */
function runAhead(): void {
  if (isIdle || !reference?.runAhead()) {
    isIdle = true;
    return;
  }
  setImmediate(runAhead);
}

port.on("message", (request: Request) => {
  const { id } = request;
  try {
    port.postMessage({ id, result: answer(request) } satisfies Answer);
    // Tens of megabytes, which would stay until enough other garbage has gathered.
    if (hasGarbage) gc?.();
    hasGarbage = false;
    if (!isIdle) return;
    isIdle = false;
    setImmediate(runAhead);
  } catch (error) {
    const failure =
      error instanceof InputError
        ? { problem: error.problem }
        : { bug: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    port.postMessage({ id, ...failure } satisfies Answer);
  }
});
