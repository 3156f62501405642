import { basename, extname } from "node:path";
import { readInput } from "../../node/index.js";
import type { SuiteFile } from "../../verify/suite/file.js";
import { checkSuiteFile, type Locate, suiteError } from "../../verify/suite/rules.js";

/** Larger files are no suite that a person wrote, nor one that a generator should. */
const MAX_BYTES = 4 * 2 ** 20;

/**
 * Reads a suite: JSON, or YAML 1.2 (which JSON is a part of, so that one parser gives the lines of both).
 *
 * @throws InputError (`format`) with the line and key of every problem
 */
export async function readSuiteFile(path: string): Promise<SuiteFile> {
  const subject = basename(path);
  const bytes = await readInput(path);
  if (bytes.length > MAX_BYTES) throw suiteError(subject, [`${bytes.length} bytes, more than 4 MiB`]);
  const text = new TextDecoder().decode(bytes);
  const { LineCounter, isNode, parseDocument } = await import("yaml");
  const lines = new LineCounter();
  const isJson = extname(path).toLowerCase() === ".json";
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    strict: true,
    uniqueKeys: true,
  });
  const [error] = document.errors;
  if (error) {
    const line = lines.linePos(error.pos[0]).line;
    const key = /^["']?([^"':\s]*)/.exec(text.slice(error.pos[0]))?.[1] ?? "";
    const found =
      error.code === "DUPLICATE_KEY" ? `, ${key}: a key that is there already` : `: ${error.message}`;
    throw suiteError(subject, [`line ${line}${found}`], error);
  }
  if (isJson) expectJson(text, subject);
  const locate: Locate = (keys) => {
    for (let length = keys.length; length >= 0; length--) {
      const node = length === 0 ? document.contents : document.getIn(keys.slice(0, length), true);
      if (isNode(node) && node.range) {
        // A block's own position is its first child's; the key above it reads better.
        return lines.linePos(node.range[0]).line;
      }
    }
    return undefined;
  };
  let value: unknown;
  try {
    // Aliases may not multiply into more than this: a few lines could ask for terabytes.
    value = document.toJS({ maxAliasCount: 50 });
  } catch (cause) {
    throw suiteError(subject, ["aliases that expand to too much"], cause);
  }
  return checkSuiteFile(value, subject, locate);
}

function expectJson(text: string, subject: string): void {
  try {
    JSON.parse(text);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const position = Number(/position (\d+)/.exec(message)?.[1] ?? Number.NaN);
    const line = Number.isNaN(position) ? undefined : text.slice(0, position).split("\n").length;
    throw suiteError(subject, [`${line === undefined ? "" : `line ${line}: `}text that is not JSON`], cause);
  }
}
