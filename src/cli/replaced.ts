import { lstat } from "node:fs/promises";
import { basename } from "node:path";
import { InputError } from "../core/errors.js";
import { readInput } from "../node/index.js";

/**
 * The weights beside an ONNX model that is about to be replaced, which nothing will refer to afterwards. Only a file that
 * is called after the model is its own: one of another name may be other models' too.
 *
 * @param beside names of files that will be written beside the output, in the place of what is there
 * @returns the path of a plain file; undefined if there is none, or the model there does not refer to it
 */
export async function weightsLeftBehind(
  output: string,
  beside: readonly string[],
): Promise<string | undefined> {
  const path = `${output}.data`;
  const found = await lstat(path).catch(() => undefined);
  if (output === "-" || beside.includes(basename(path)) || !found?.isFile()) return undefined;
  const { zerosForAbsent } = await import("../convert/formats/refusals.js");
  const { decodeOnnx } = await import("../convert/formats/onnx/decode.js");
  try {
    const bytes = await readInput(output);
    const { missing } = decodeOnnx(bytes, { subject: basename(output), absent: zerosForAbsent() });
    return missing?.includes(basename(path)) ? path : undefined;
  } catch (error) {
    // What is no model that can be read refers to nothing that we know of.
    if (error instanceof InputError) return undefined;
    throw error;
  }
}
