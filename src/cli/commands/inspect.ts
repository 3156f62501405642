import { basename } from "node:path";
import type { OsnetSpec } from "../../arch/index.js";
import { isModelFormat, type ModelFormat } from "../../convert/formats/registry.js";
import { sniffFormat } from "../../convert/formats/sniff.js";
import { inspectCheckpoint } from "../../convert/inspect/inspection.js";
import { inspectModel } from "../../convert/inspect/model-inspection.js";
import { renderInspection, renderModelInspection } from "../../convert/inspect/text.js";
import { identifyCheckpoint } from "../../convert/open/checkpoint.js";
import { type NamedBytes, toBytes } from "../../core/bytes.js";
import { definedOf } from "../../core/functions.js";
import { isFolder, openInput } from "../../node/read.js";
import { readArchitecture, readModel } from "../inputs.js";
import type { ExitStatus } from "../program.js";
import { type Io, paintFor, readingProgress } from "../terminal.js";

/** The command's options as parsed by commander. */
interface InspectOptions {
  readonly key?: string;
  readonly arch?: string;
  readonly json?: boolean;
}

/** Describes a file. Anomalies of its weights or graph are part of the answer, not a failure. */
export async function inspectFile(
  input: string,
  { key, arch, json }: InspectOptions,
  io: Io,
): Promise<ExitStatus> {
  const architecture = await readArchitecture(arch);
  const name = input === "-" ? "standard input" : basename(input);
  const options = definedOf({ arch: architecture });
  const show = definedOf({ json });
  if (await isFolder(input)) return printModel("tfjs", await readModel(input, io, show), options, show, io);
  const bar = readingProgress(input, show, io);
  const bytes = await openInput(input, { onProgress: bar.update, stdin: io.stdin });
  const format = sniffFormat(bytes);
  if (isModelFormat(format)) {
    // Standard input can be read once, and has no files beside it.
    const stream = input === "-" ? { name, bytes: toBytes(bytes) } : undefined;
    bar.clear();
    bytes.close();
    return printModel(format, stream ?? (await readModel(input, io, show)), options, show, io);
  }
  const checkpoint = identifyCheckpoint(bytes, {
    subject: name,
    ...definedOf({ key }),
    ...options,
  });
  const inspection = await inspectCheckpoint(checkpoint, { name, bytes });
  bytes.close();
  bar.clear();
  print(io, inspection, json ? undefined : renderInspection(inspection, paintFor(io.stdout)));
  return 0;
}

/** A model of another network is described as far as possible, and refused. */
async function printModel(
  format: ModelFormat,
  file: NamedBytes,
  options: { readonly arch?: string | OsnetSpec },
  { json }: { readonly json?: boolean },
  io: Io,
): Promise<ExitStatus> {
  const inspection = await inspectModel(format, file, options);
  print(io, inspection, json ? undefined : renderModelInspection(inspection, paintFor(io.stdout)));
  return refuse(io, inspection.refusal);
}

function refuse(io: Io, refusal: string | undefined): ExitStatus {
  if (refusal === undefined) return 0;
  io.stderr.write(`${refusal}\n`);
  return 2;
}

function print(io: Io, inspection: object, text: string | undefined): void {
  io.stdout.write(text ?? `${JSON.stringify(inspection, null, 2)}\n`);
}
