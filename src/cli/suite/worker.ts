/** A process that runs a suite's entries one at a time, as it receives them. */
import type { PlannedEntry } from "../../verify/suite/plan.js";
import { setEngineFlags } from "../start.js";
import { executeEntry } from "./entry.js";

interface Task {
  readonly entry: PlannedEntry;
  readonly folder: string;
  readonly cache: string | undefined;
}

setEngineFlags(true);
process.on("message", (task: Task) => {
  executeEntry(task.entry, { ...task, io: process, threads: 1 }).then(
    (result) => process.send?.({ result }),
    (error: unknown) =>
      process.send?.({ bug: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
});
// The parent process has exited.
process.on("disconnect", () => process.exit(0));
