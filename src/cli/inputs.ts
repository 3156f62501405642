import { basename } from "node:path";
import { isVariantName, type OsnetSpec, parseSpec } from "../arch/index.js";
import { readInput } from "../node/index.js";

/** Of 500 blocks, more than any network, a spec takes 100 KB. */
const MAX_SPEC_BYTES = 4 * 2 ** 20;

/** `--arch`: a variant's name, or the path of a spec.json. */
export async function readArchitecture(text: string | undefined): Promise<string | OsnetSpec | undefined> {
  if (text === undefined || isVariantName(text) || !text.endsWith(".json")) return text;
  return parseSpec(new TextDecoder().decode(await readInput(text, { most: MAX_SPEC_BYTES })), basename(text));
}
