import { basename } from "node:path";
import { identifyCheckpoint } from "../../src/convert/checkpoint.js";
import { inspectCheckpoint } from "../../src/convert/inspect/inspection.js";
import { renderInspection } from "../../src/convert/inspect/text.js";
import { readInput } from "../../src/files.js";
import { readArchitecture } from "./inputs.js";
import type { ExitStatus } from "./options.js";
import { PAINT } from "./terminal.js";

/** The command's options, as commander hands them over. */
interface InspectOptions {
  readonly key?: string;
  readonly arch?: string;
  readonly json?: boolean;
}

/** Says what a checkpoint is; what is odd about its numbers is part of the answer, not a failure. */
export async function inspectFile(input: string, { key, arch, json }: InspectOptions): Promise<ExitStatus> {
  const architecture = await readArchitecture(arch);
  const file = { name: input === "-" ? "standard input" : basename(input), bytes: await readInput(input) };
  const checkpoint = identifyCheckpoint(file.bytes, {
    subject: file.name,
    ...(key === undefined ? {} : { key }),
    ...(architecture === undefined ? {} : { arch: architecture }),
  });
  const inspection = await inspectCheckpoint(checkpoint, file);
  process.stdout.write(
    json ? `${JSON.stringify(inspection, null, 2)}\n` : renderInspection(inspection, PAINT),
  );
  return 0;
}
