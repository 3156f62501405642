import { stat } from "node:fs/promises";
import { basename } from "node:path";
import type { Command } from "commander";
import { type FileFormat, outputFormat } from "../convert/formats/registry.js";
import { sniffFormat } from "../convert/formats/sniff.js";
import { nearestWord } from "../core/nearest-word.js";
import { isFolder, openInput, readInput } from "../node/index.js";
import { expectOptionsOf, OUTPUT_NAMES } from "./convert-options.js";
import { badArgument } from "./options.js";
import type { Io } from "./terminal.js";

/** What `osnet-convert FILE -o OUTPUT` converts from and to. */
interface Recognised {
  readonly from: FileFormat;
  readonly to: FileFormat;
  /** Standard input, which may have been read to see what it is. */
  readonly stdin: Io["stdin"];
}

/**
 * Sees what a file is from its content, and what it is to become from the output's name.
 *
 * @throws InputError (`argument`) if the output's name does not say, or an option does not fit it; (`file`) if the
 * input cannot be read
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
    throw badArgument(
      file,
      "a pipe, which can be read once",
      "a file, whose format is recognised by its content",
      "send it to standard input and give - as the file",
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

/** A mistyped command is not a file's name. */
function expectNoCommand(file: string, program: Command): void {
  if (!/^\w+$/.test(file)) return;
  const meant = nearestWord(
    file,
    program.commands.map((command) => command.name()),
  );
  if (meant === undefined) return;
  throw badArgument(file, "no such command", "what --help describes", `if ${meant} was meant, write that`);
}

/** @throws InputError (`argument`) if a name does not say which format is meant */
async function formatOf(out: string | undefined): Promise<FileFormat> {
  const names = `a name that ends in ${OUTPUT_NAMES}`;
  if (out === undefined) throw badArgument("--out", "none", names, "name the output, such as -o osnet.onnx");
  const format = outputFormat(out);
  if (format) return format;
  if (out !== "-" && (await isFolder(out))) return "tfjs";
  const found =
    out === "-" ? "standard output, which has no name to infer a format from" : JSON.stringify(basename(out));
  throw badArgument("--out", found, names, "rename it, or name both formats by a command such as pth2onnx");
}
