import { stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { Command } from "commander";
import { describeNetwork, multiplyAdds, parameterCount } from "../../arch/index.js";
import { type Encoded, leftOut, weightFileNames, write } from "../../convert/export/write.js";
import {
  type FileFormat,
  FORMATS,
  isModelFormat,
  outputFormat,
  withoutSuffix,
} from "../../convert/formats/registry.js";
import { sniffFormat } from "../../convert/formats/sniff.js";
import { ANOMALIES, isUntrained } from "../../convert/inspect/anomalies.js";
import { clean, nearestWord, type Paint } from "../../core/text.js";
import { isFolder, openInput, readInput } from "../../node/read.js";
import { expectNotInputs, sweepTemporaries } from "../../node/write.js";
import type { ParityReport, Tolerance } from "../../verify/outcome/report.js";
import { openSource, type Source } from "../inputs.js";
import { badArgument, didYouMean, misused } from "../options.js";
import {
  expectBeside,
  expectOutput,
  ownNames,
  sizeOf,
  sweepWeights,
  weightsLeftBehind,
  writeOutput,
} from "../outputs.js";
import type { ExitStatus } from "../program.js";
import {
  openTarget,
  type TargetOptions,
  type Verdict,
  verifyWritten,
  type Written,
  zerosNote,
} from "../targets.js";
import { type Io, megabytes, paintFor } from "../terminal.js";
import { expectOptionsOf, OUTPUT_NAMES } from "./convert-options.js";

/** The input and output formats of `osnet-convert FILE -o OUTPUT`. */
interface Recognised {
  readonly from: FileFormat;
  readonly to: FileFormat;
  /** Standard input, which may already have been read to detect its format. */
  readonly stdin: Io["stdin"];
}

/**
 * Detects a file's format from its content, and the output format from the output's name.
 *
 * @throws InputError (`argument`) if the output's name does not determine a format, or an option does not fit it;
 * (`file`) if the input cannot be read
 */
export async function recognise(
  file: string,
  out: string | undefined,
  program: Command,
  io: Io,
): Promise<Recognised> {
  expectNoCommand(file, program);
  const [, second] = program.args;
  if (second !== undefined)
    throw badArgument(second, "a second file", "one file to convert", "if it is the output, name it with -o");
  const to = await formatOf(out);
  expectOptionsOf(program, to);
  if (file === "-") {
    const bytes = await readInput(file, { stdin: io.stdin });
    return { from: sniffFormat(bytes), to, stdin: once(bytes) };
  }
  if (await isFolder(file)) return { from: "tfjs", to, stdin: io.stdin };
  if (await isPipe(file))
    throw misused(
      file,
      "a pipe can be read only once, so its format cannot be detected",
      "send it to standard input, and pass - as the file",
    );
  const input = await openInput(file);
  try {
    return { from: sniffFormat(input), to, stdin: io.stdin };
  } finally {
    input.close();
  }
}

async function isPipe(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && !found.isFile();
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** A mistyped command is not a file name. */
function expectNoCommand(file: string, program: Command): void {
  if (!/^\w+$/.test(file)) return;
  const meant = nearestWord(
    file,
    program.commands.map((command) => command.name()),
  );
  if (meant === undefined) return;
  throw misused(file, "unknown command", didYouMean(meant));
}

/** @throws InputError (`argument`) if a name does not determine the format */
async function formatOf(out: string | undefined): Promise<FileFormat> {
  const names = `a name that ends in ${OUTPUT_NAMES}`;
  if (out === undefined)
    throw badArgument("--out", "no output name", names, "name the output, such as -o osnet.onnx");
  const format = outputFormat(out);
  if (format) return format;
  if (out !== "-" && (await isFolder(out))) return "tfjs";
  const found =
    out === "-" ? "standard output, whose format cannot be inferred" : JSON.stringify(basename(out));
  throw badArgument(
    "--out",
    found,
    names,
    "rename it, or use a command that names both formats, such as pth2onnx",
  );
}

/** The input and output formats of a command. */
export interface Direction {
  readonly from: FileFormat;
  readonly to: FileFormat;
}

/** The command's options as parsed by commander; a command has those of its own format. */
type ConvertOptions = TargetOptions & CommonOptions;

interface CommonOptions {
  readonly tolerance?: Tolerance;
  readonly out?: string;
  readonly arch?: string;
  readonly key?: string;
  readonly verify: boolean;
  readonly dropExtra?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Converts a file; the result gets its name only once it is verified. */
export async function convert(
  input: string,
  { from, to }: Direction,
  options: ConvertOptions,
  io: Io,
): Promise<ExitStatus> {
  const named = options.out ?? defaultOutput(input, to);
  const { main } = FORMATS[to];
  const output = main !== undefined && basename(named) === main ? dirname(named) : named;
  const force = options.force ?? false;
  const written = basename(displayName(output));
  await expectOutput(output, main !== undefined, force);
  await expectNotInputs([output], [input, options.like, options.arch]);
  const { target, notes } = await openTarget(to, options, io);
  const usual = weightFileNames(target, written);
  await expectBeside(output, usual, force);
  await expectNotInputs(
    usual.map((name) => join(dirname(output), name)),
    [input, options.like, options.arch],
  );
  const source = await openSource(input, from, options, io);
  const dropped = leftOut(source.name, source.checkpoint.outputs, target, options);
  const lifted =
    options.verify && isModelFormat(from)
      ? await (await import("../../verify/verify.js")).verifyLifted(source, options)
      : undefined;
  const { graph, stateDict } = source.checkpoint;
  const made = await write(
    { ...source.checkpoint, name: source.name },
    target,
    written,
    await ownNames(main === undefined ? output : join(output, main)),
  );
  const warnings = isUntrained(graph, stateDict) ? [`warning: ${ANOMALIES.untrained.explanation}`] : [];
  const encoded = { ...made, notes: [...notes, ...zerosNote(made), ...made.notes, ...dropped, ...warnings] };

  const check = async (files: Written): Promise<Verdict | undefined> =>
    options.verify
      ? verifyWritten(
          target,
          files,
          source,
          written,
          { tolerance: options.tolerance, rewritten: lifted !== undefined },
          io,
        )
      : undefined;
  const passed = (verdict: Verdict | undefined): boolean => verdict?.passed ?? true;
  const besides = main === undefined ? [...(encoded.beside?.keys() ?? [])] : [];
  const obsolete = force ? await weightsLeftBehind(output, besides) : undefined;
  const verdict = await writeOutput(
    output,
    encoded,
    {
      force,
      main,
      obsolete,
      readBack: options.verify,
      check,
      accept: passed,
    },
    io,
  );
  source.close();
  if (passed(verdict)) await sweepWeights(output);
  for (const folder of main === undefined ? [dirname(output)] : [output, dirname(output)])
    if (output !== "-") await sweepTemporaries(folder);
  await announce({ source, lifted, output, besides, encoded, obsolete, verdict }, options, io);
  return passed(verdict) ? 0 : 1;
}

interface Conversion {
  readonly source: Source;
  /** The comparison of a model with its imported weights. */
  readonly lifted: ParityReport | undefined;
  readonly output: string;
  /** The names of the files beside it, unless it is a folder. */
  readonly besides: readonly string[];
  readonly encoded: Encoded;
  /** The weight file of the replaced model, removed with it. */
  readonly obsolete: string | undefined;
  readonly verdict: Verdict | undefined;
}

/** Prints what was done: on standard output, or on standard error if standard output is the file. */
async function announce(conversion: Conversion, { json, quiet }: CommonOptions, io: Io): Promise<void> {
  const { source, verdict, output, encoded, obsolete } = conversion;
  const stream = output === "-" ? io.stderr : io.stdout;
  const paint = paintFor(io.stdout);
  const passed = verdict?.passed ?? true;
  if (json) {
    const { metadata, ...decoded } = source.checkpoint.decoded;
    const result = {
      output,
      bytes: sizeOf(encoded),
      written: passed,
      ...(obsolete && passed ? { removed: basename(obsolete) } : {}),
      source: { ...decoded, metadata: Object.fromEntries(metadata) },
      spec: source.checkpoint.spec,
      notes: encoded.notes,
      ...(conversion.lifted ? { lifted: conversion.lifted } : {}),
      verification: verdict?.report ?? null,
    };
    stream.write(`${JSON.stringify(result, null, 2)}\n`);
  } else if (verdict && !passed)
    stream.write(`${await verdict.explain(paint)}\n\n${displayName(output)} was not written.\n`);
  else if (!quiet) stream.write(summary(conversion, paint));
}

function summary(
  { source: { name, checkpoint }, lifted, output, besides, encoded, obsolete, verdict }: Conversion,
  paint: Paint,
): string {
  const { graph, spec, decoded } = checkpoint;
  const parameters = `${(parameterCount(graph).embedding / 1e6).toFixed(1)} M parameters`;
  const work = `${(multiplyAdds(graph, [1, 3, 256, 128]) / 1e6).toFixed(0)} M multiply-adds at 256×128`;
  const head = spec.head ? `${spec.head.classes} classes` : "no classifier";
  const wrapper = decoded.wrapperPath ? [`weights under ${decoded.wrapperPath}`] : [];
  return [
    `${clean(name)}: ${paint.strong(describeNetwork(spec))}, ${head}, ${parameters}, ${work}`,
    ...[...wrapper, ...decoded.notes, ...encoded.notes].map((note) => paint.faint(`  ${clean(note)}`)),
    ...(lifted
      ? [
          `${paint.good("verified")}: run in ${lifted.backend}, ${lifted.layers.length} of its layers and ${lifted.gates.length} gates match the weights read from it`,
        ]
      : []),
    ...(verdict ? [`${paint.good("verified")}: ${verdict.sentence}`] : []),
    ...(verdict?.loss === undefined ? [] : [`${paint.strong("stored")}: ${verdict.loss}`]),
    `wrote ${[displayName(output), ...besides].map(paint.strong).join(" and ")}, ${megabytes(sizeOf(encoded))}${verdict ? "" : ", not verified"}`,
    ...(obsolete ? [`removed ${paint.strong(basename(obsolete))}, the weights of the replaced model`] : []),
    "",
  ].join("\n");
}

function displayName(output: string): string {
  return output === "-" ? "standard output" : output;
}

/**
 * The input's name with another suffix: `w.pth.tar-60` becomes `w.onnx`, and `w.tfjs/model.json` `w.pth`.
 *
 * @throws InputError (`argument`) if that is the input itself
 */
function defaultOutput(input: string, to: FileFormat): string {
  if (input === "-") return "-";
  const output = `${withoutSuffix(input.replace(/[\\/]+(model\.json)?$/, ""))}.${to}`;
  if (resolve(output) !== resolve(input)) return output;
  throw misused(
    "--out",
    `the default name, ${basename(input)}, is the input itself`,
    "choose another with -o",
  );
}
